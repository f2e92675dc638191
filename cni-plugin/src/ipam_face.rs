//! The same pools as an IPAM plugin of their own, for interface plugins such as the reference bridge and macvlan.
//!
//! Called as `octavia-ipam` or `whereabouts`. Of the configuration only `ipam` and the name matter; the rest is
//! the calling plugin's.

use octavia_bridge_ipam::document::FieldError;
use octavia_bridge_ipam::file::Claim;
use octavia_bridge_ipam::request::Owner;

use crate::addressing;
use crate::attachment::{PoolAddressing, asked_ips};
use crate::config::{Document, Essentials, IpamKind, NetConf};
use crate::log;
use crate::protocol::args::Args;
use crate::protocol::reply::Reply;
use crate::protocol::{CniResult, Code, Environment, Error};
use crate::record::{AddressingIntent, Intent, Outcome, Records};
use crate::status;

/// Keys of `CNI_ARGS` that whereabouts knows beside those every plugin here does.
const KNOWN_ARGS: [&str; 4] = ["K8S_POD_NAME", "K8S_POD_NAMESPACE", "K8S_POD_INFRA_CONTAINER_ID", "GATEWAY"];

pub(crate) fn add(environment: &Environment, document: &Document) -> Result<Reply, Error> {
    let version = document.version()?;
    let essentials = Essentials::read(document)?;
    let pool = pool(environment, document)?;
    let families: Vec<_> = pool.ipam.ranges.iter().map(octavia_bridge_ipam::range::Range::subnet).collect();
    let fixed = pool.ipam.addresses.iter().map(|fixed| fixed.address);
    CniResult::fits(&families.into_iter().chain(fixed).collect::<Vec<_>>(), version)?;

    let (id, ifname) = (environment.container_id.clone(), environment.ifname.clone());
    let mut slot = Records::new(&essentials.data_dir).lock(&id, &ifname)?;
    let store = addressing::store(&essentials.data_dir);
    if slot.record.as_ref().is_none_or(|record| record.intent.link.is_none()) {
        slot.begin(Intent {
            version: 1,
            network: essentials.name,
            container_id: id.clone(),
            ifname: ifname.clone(),
            link: None,
            addressing: AddressingIntent::Pool,
        })?;
    }
    let claimed = store
        .acquire(&pool.request, addressing::deadline())
        .and_then(Claim::settle)
        .map_err(Error::from)
        .and_then(|assigned| {
            let result = addressing::from_pool(&pool.ipam, &assigned);
            let addresses: Vec<_> = result.ips.iter().map(|ip| ip.address).collect();
            CniResult::fits(&addresses, version)?;
            slot.complete(&Outcome { addresses, routes: result.routes.clone(), ..Outcome::default() })?;
            Ok(result)
        });
    match claimed {
        Ok(result) => Ok(Reply::Result(result, version)),
        Err(error) => {
            // All or nothing: several ranges may have been written one after the other.
            store.release_or_entomb(&id, &ifname, addressing::deadline())?;
            slot.remove()?;
            Err(error)
        }
    }
}

pub(crate) fn del(environment: &Environment, document: &Document) -> Result<Reply, Error> {
    let essentials = Essentials::read(document)?;
    let (id, ifname) = (environment.container_id.as_str(), environment.ifname.as_str());
    let slot = Records::new(&essentials.data_dir).lock_existing(id, ifname)?;
    addressing::store(&essentials.data_dir).release_or_entomb(id, ifname, addressing::deadline())?;
    if let Some(slot) = slot {
        slot.remove()?;
    }
    Ok(Reply::Nothing)
}

pub(crate) fn check(environment: &Environment, document: &Document) -> Result<Reply, Error> {
    let essentials = Essentials::read(document)?;
    let pool = pool(environment, document)?;
    let slot =
        Records::new(&essentials.data_dir).lock_existing(&environment.container_id, &environment.ifname)?;
    let outcome = slot.and_then(|slot| slot.record).and_then(|record| record.outcome);
    let held = addressing::store(&essentials.data_dir).held(
        &environment.container_id,
        &environment.ifname,
        &pool.ipam,
    )?;
    match outcome {
        Some(outcome) if outcome.addresses.iter().all(|address| held.contains(address)) => Ok(Reply::Nothing),
        _ => Err(Error::new(
            Code::CheckFailed,
            format!(
                "CHECK: no pool holds the addresses of container {} {}",
                environment.container_id, environment.ifname
            ),
        )),
    }
}

pub(crate) fn status(_: &Environment, document: &Document) -> Result<Reply, Error> {
    status::pools(document)?;
    Ok(Reply::Nothing)
}

fn pool(environment: &Environment, document: &Document) -> Result<PoolAddressing, Error> {
    let conf = NetConf::read(document)?;
    let args = Args::parse(&environment.args, &KNOWN_ARGS)?;
    let asked = asked_ips(&args, &conf);
    let kind = Essentials::read(document)?.ipam;
    let (IpamKind::BuiltIn, Some(ipam)) = (&kind, conf.ipam) else {
        return Err(FieldError::missing(
            "ipam.type",
            "must be \"octavia-ipam\" or \"whereabouts\" for this plugin",
        )
        .into());
    };
    let owner = Owner {
        container_id: environment.container_id.clone(),
        ifname: environment.ifname.clone(),
        pod: args.pod,
    };
    let pool = PoolAddressing::new(ipam, conf.strict, owner, &asked)?;
    log::also_to_file_of(&pool.ipam);
    for warning in &pool.ipam.warnings {
        tracing::warn!("{warning}");
    }
    Ok(pool)
}
