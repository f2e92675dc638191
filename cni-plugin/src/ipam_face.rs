//! The same pools as an IPAM plugin of their own, for interface plugins such as the reference bridge and macvlan.
//!
//! Called as `octavia-ipam` or `whereabouts`. Of the configuration only `ipam` and the name matter; the rest is
//! the calling plugin's.

use octavia_bridge_ipam::document::FieldError;
use octavia_bridge_ipam::request::Owner;
use octavia_bridge_netlink::Namespace;

use crate::addressing;
use crate::attachment::{PoolAddressing, asked_ips};
use crate::config::{Document, Essentials, IpamKind, NetConf};
use crate::log;
use crate::protocol::args::Args;
use crate::protocol::reply::{self, Reply};
use crate::protocol::{CniResult, Code, Environment, Error, Version};
use crate::record::{AddressingIntent, FORMAT, Intent, Netns, Outcome, Record, Records, Slot};
use crate::status;
use crate::store::{self, Patience, Unclaimed};
use crate::takeover::{take_over, try_to_take_over};
use crate::teardown;

/// Keys of `CNI_ARGS` that whereabouts knows beside those every plugin here does.
const KNOWN_ARGS: [&str; 5] =
    ["K8S_POD_NAME", "K8S_POD_NAMESPACE", "K8S_POD_INFRA_CONTAINER_ID", "K8S_POD_UID", "GATEWAY"];

pub(crate) fn add(environment: &Environment, document: &Document) -> Result<Reply, Error> {
    let version = document.version()?;
    let (essentials, pool) = read(environment, document)?;
    pool.require_pod()?;
    CniResult::fits(&pool.known_addresses(), version)?;

    take_over(&essentials.data_dir, pool.store.is_file())?;
    let records = Records::new(&essentials.data_dir);
    let mut slot = records.lock(&environment.container_id, &environment.ifname)?;
    let (netns, addressing, patience) = (netns(environment), pool.store.intent(), Patience::new());
    // Whoever is here, a complete call in the same namespace or the bridge plugin itself, keeps what it has.
    let holder = slot.record.as_ref().filter(|Record { intent, outcome }| {
        let complete = outcome.is_some() && intent.netns == netns && intent.addressing == addressing;
        intent.link.is_some() || complete
    });
    if holder.is_some() {
        let claimed = claim(&records, &pool, version, None);
        return claimed.map(|()| Reply::Printed).map_err(|failure| failure.error);
    }
    let is_first = slot.record.is_none();
    // The record is about to forget another store.
    if let Some(earlier) = slot.record.as_ref().map(|record| &record.intent.addressing)
        && *earlier != addressing
    {
        release(environment, &essentials, earlier, &patience)?;
    }
    slot.begin(Intent {
        version: FORMAT,
        network: essentials.name.clone(),
        container_id: environment.container_id.clone(),
        ifname: environment.ifname.clone(),
        netns,
        pod_uid: None,
        link: None,
        addressing: addressing.clone(),
    })?;
    let Err(failure) = claim(&records, &pool, version, Some(&mut slot)) else {
        return Ok(Reply::Printed);
    };
    let undone = match is_first && failure.cleanly {
        true => Ok(()),
        false => release(environment, &essentials, &addressing, &patience),
    };
    match undone.and_then(|()| slot.remove()) {
        Ok(()) => Err(failure.error),
        Err(undo) => Err(failure.error.with_details(format!("and undoing it failed: {undo}"))),
    }
}

fn claim(
    records: &Records,
    pool: &PoolAddressing,
    version: Version,
    slot: Option<&mut Slot>,
) -> Result<(), Unclaimed> {
    let (assigned, claim) = pool.store.claim(pool, records)?;
    if let Some(claim) = claim {
        claim.hold().map_err(Error::from)?;
    }
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

fn release(
    environment: &Environment,
    essentials: &Essentials,
    addressing: &AddressingIntent,
    patience: &Patience,
) -> Result<(), Error> {
    let Environment { container_id, ifname, .. } = environment;
    store::release_recorded(addressing, &essentials.data_dir, container_id, ifname, patience)
}

pub(crate) fn del(environment: &Environment, document: &Document) -> Result<Reply, Error> {
    let essentials = Essentials::read_to_release(document)?;
    essentials.warn_of_refusal();
    try_to_take_over(&essentials.data_dir);
    let records = Records::new(&essentials.data_dir);
    if !records.are_kept() && !store::is_used(&essentials) {
        return Ok(Reply::Nothing);
    }
    let slot = records.lock(&environment.container_id, &environment.ifname)?;
    let patience = Patience::new();
    match &slot.record {
        // The bridge plugin's attachment ends with its own DEL.
        Some(record) if record.intent.link.is_some() => return Ok(Reply::Nothing),
        Some(record) => release(environment, &essentials, &record.intent.addressing, &patience)?,
        None => {
            let Environment { container_id, ifname, .. } = environment;
            teardown::all(store::release_unrecorded(&essentials, container_id, ifname, &patience))?;
        }
    }
    slot.remove()?;
    Ok(Reply::Nothing)
}

pub(crate) fn check(environment: &Environment, document: &Document) -> Result<Reply, Error> {
    let (essentials, pool) = read(environment, document)?;
    let (id, ifname) = (environment.container_id.as_str(), environment.ifname.as_str());
    try_to_take_over(&essentials.data_dir);
    let slot = Records::new(&essentials.data_dir).lock_existing(id, ifname)?;
    let outcome = slot.and_then(|slot| slot.record).and_then(|record| record.outcome);
    let held = pool.store.held(id, ifname, &pool.ipam)?;
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
    status::writable(&essentials.data_dir, Some(&pool.store))?;
    status::pools(&pool, &essentials.data_dir).map(|()| Reply::Nothing)
}

fn read(environment: &Environment, document: &Document) -> Result<(Essentials, PoolAddressing), Error> {
    let mut conf = NetConf::read(document)?;
    conf.allow_what_was_given(environment.verb);
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
    let pool = PoolAddressing::new(ipam, &conf.essentials, conf.strict, owner, &asked, conf.reach)?;
    let pool = PoolAddressing { pod_uid: args.pod_uid, ..pool };
    log::warn_of(&pool.ipam.warnings);
    Ok((conf.essentials, pool))
}
