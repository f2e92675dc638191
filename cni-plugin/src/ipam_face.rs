//! The same pools as an IPAM plugin of their own, for interface plugins such as the reference bridge and macvlan.
//!
//! Called as `octavia-ipam` or `whereabouts`. Of the configuration only `ipam` and the name matter; the rest is
//! the calling plugin's.

use octavia_bridge_ipam::document::FieldError;
use octavia_bridge_ipam::file::Claim;
use octavia_bridge_ipam::request::Owner;
use octavia_bridge_netlink::Namespace;

use crate::addressing::{self, Unclaimed};
use crate::attachment::{PoolAddressing, asked_ips};
use crate::config::{Document, Essentials, IpamKind, NetConf};
use crate::protocol::args::Args;
use crate::protocol::reply::{self, Reply};
use crate::protocol::{CniResult, Code, Environment, Error, Version};
use crate::record::{AddressingIntent, FORMAT, Intent, Netns, Outcome, Records, Slot};
use crate::status;

/// Keys of `CNI_ARGS` that whereabouts knows beside those every plugin here does.
const KNOWN_ARGS: [&str; 4] = ["K8S_POD_NAME", "K8S_POD_NAMESPACE", "K8S_POD_INFRA_CONTAINER_ID", "GATEWAY"];

pub(crate) fn add(environment: &Environment, document: &Document) -> Result<Reply, Error> {
    let version = document.version()?;
    let (essentials, pool) = read(environment, document)?;
    CniResult::fits(&pool.known_addresses(), version)?;

    let mut slot = Records::new(&essentials.data_dir).lock(&environment.container_id, &environment.ifname)?;
    let netns = netns(environment);
    // Whoever is here, a complete call in the same namespace or the bridge plugin itself, keeps what it has.
    let holder = slot.record.as_ref().filter(|record| {
        record.intent.link.is_some() || (record.outcome.is_some() && record.intent.netns == netns)
    });
    if holder.is_some() {
        let claimed = claim(&essentials, &pool, version, None);
        return claimed.map(|()| Reply::Printed).map_err(|failure| failure.error);
    }
    let is_first = slot.record.is_none();
    slot.begin(Intent {
        version: FORMAT,
        network: essentials.name.clone(),
        container_id: environment.container_id.clone(),
        ifname: environment.ifname.clone(),
        netns,
        link: None,
        addressing: AddressingIntent::Pool,
    })?;
    let Err(failure) = claim(&essentials, &pool, version, Some(&mut slot)) else {
        return Ok(Reply::Printed);
    };
    let undone = if is_first && failure.cleanly { Ok(()) } else { release(environment, &essentials) };
    match undone.and_then(|()| slot.remove()) {
        Ok(()) => Err(failure.error),
        Err(undo) => Err(failure.error.with_details(format!("and undoing it failed: {undo}"))),
    }
}

fn claim(
    essentials: &Essentials,
    pool: &PoolAddressing,
    version: Version,
    slot: Option<&mut Slot>,
) -> Result<(), Unclaimed> {
    let claim = addressing::claim_from_pools(&essentials.data_dir, pool)?;
    let assigned = Claim::settle(claim).map_err(Error::from)?;
    let result = addressing::from_pool(&pool.ipam, &assigned);
    let addresses: Vec<_> = result.ips.iter().map(|ip| ip.address).collect();
    CniResult::fits(&addresses, version)?;
    if let Some(slot) = slot {
        slot.complete(&Outcome { addresses, routes: result.routes.clone(), ..Outcome::default() })?;
    }
    Ok(reply::print(&result.render(version))?)
}

/// The pod's namespace, by which a later sandbox of the same pod is told whether this one is still alive.
fn netns(environment: &Environment) -> Option<Netns> {
    let path = environment.netns.as_deref()?;
    Namespace::open(path).ok().map(|netns| Netns::of(path, &netns))
}

fn release(environment: &Environment, essentials: &Essentials) -> Result<(), Error> {
    addressing::release_to_pools(&essentials.data_dir, &environment.container_id, &environment.ifname)
}

pub(crate) fn del(environment: &Environment, document: &Document) -> Result<Reply, Error> {
    let essentials = Essentials::read(document)?;
    let records = Records::new(&essentials.data_dir);
    if !records.are_kept() && !addressing::pools_are_kept(&essentials.data_dir) {
        return Ok(Reply::Nothing);
    }
    let slot = records.lock(&environment.container_id, &environment.ifname)?;
    if slot.record.as_ref().is_some_and(|record| record.intent.link.is_some()) {
        // The bridge plugin's attachment ends with its own DEL.
        return Ok(Reply::Nothing);
    }
    release(environment, &essentials)?;
    slot.remove()?;
    Ok(Reply::Nothing)
}

pub(crate) fn check(environment: &Environment, document: &Document) -> Result<Reply, Error> {
    let (essentials, pool) = read(environment, document)?;
    let (id, ifname) = (environment.container_id.as_str(), environment.ifname.as_str());
    let slot = Records::new(&essentials.data_dir).lock_existing(id, ifname)?;
    let outcome = slot.and_then(|slot| slot.record).and_then(|record| record.outcome);
    let held = addressing::store(&essentials.data_dir).held(id, ifname, &pool.ipam)?;
    match outcome {
        Some(outcome) if outcome.addresses.iter().all(|address| held.contains(address)) => Ok(Reply::Nothing),
        _ => Err(Error::new(
            Code::CheckFailed,
            format!("CHECK: no pool holds the addresses of container {id} {ifname}"),
        )),
    }
}

pub(crate) fn status(environment: &Environment, document: &Document) -> Result<Reply, Error> {
    let (essentials, pool) = read(environment, document)?;
    status::writable(&essentials.data_dir)?;
    status::pools(&essentials.data_dir, &pool).map(|()| Reply::Nothing)
}

fn read(environment: &Environment, document: &Document) -> Result<(Essentials, PoolAddressing), Error> {
    let conf = NetConf::read(document)?;
    let args = Args::parse(environment.args()?, &KNOWN_ARGS)?;
    let asked = asked_ips(&args, &conf);
    let (IpamKind::BuiltIn, Some(ipam)) = (&conf.essentials.ipam, conf.ipam) else {
        let remedy = "must be \"octavia-ipam\" or \"whereabouts\" for this plugin";
        return Err(FieldError::missing("ipam.type", remedy).into());
    };
    let owner = Owner {
        container_id: environment.container_id.clone(),
        ifname: environment.ifname.clone(),
        pod: args.pod,
    };
    let pool = PoolAddressing::new(ipam, conf.strict, owner, &asked)?;
    for warning in &pool.ipam.warnings {
        tracing::warn!("{warning}");
    }
    Ok((conf.essentials, pool))
}
