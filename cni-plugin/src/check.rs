//! CHECK: is the attachment still as ADD left it?
//!
//! Only what is ours is looked at. The pod's MAC is not: Open vSwitch changes it when it takes the interface over.
//! The bridge's is not: it is no part of the attachment, and comparing it made the reference plugin fail healthy
//! pods (containernetworking/plugins#805, cri-o/ocicni#74).
//!
//! Later plugins of a list may change what is ours, and the result need not tell ("The plugin must allow for a later chained
//! plugin to have modified networking resources", section CHECK of the specification): `tuning` lowers the MTU, `sbr` and
//! `vrf` move routes to another table. CHECK accepts such changes.

use ipnet::IpNet;
use octavia_bridge_ipam::causes::chain;
use octavia_bridge_netlink::{Link, Namespace, Netlink, PortState, RouteFilter};

use crate::attachment::{Addressing, Attachment};
use crate::config::Document;
use crate::delegate::Delegate;
use crate::identity;
use crate::port_vlans;
use crate::protocol::reply::Reply;
use crate::protocol::result::Route;
use crate::protocol::{CniResult, Code, Environment, Error, Verb};
use crate::record::{LinkIntent, Outcome, Record, Records};
use crate::takeover::try_to_take_over;

pub(crate) async fn check(environment: &Environment, document: &Document) -> Result<Reply, Error> {
    let attachment = Attachment::new(environment, document)?;
    let Some(previous) = &attachment.previous else {
        return Err(Error::new(Code::InvalidConfig, "prevResult: missing; CHECK needs the result of ADD"));
    };
    let (id, ifname) = (attachment.owner.container_id.as_str(), attachment.owner.ifname.as_str());

    try_to_take_over(&attachment.data_dir);
    let slot = Records::new(&attachment.data_dir).lock_existing(id, ifname)?;
    // Read, and unlocked: a delegated plugin may take longer to answer than DEL would wait.
    let record = slot.and_then(|slot| slot.record);
    let Some(Record { intent, outcome: Some(outcome) }) = record else {
        return Err(differs(format!("container {id} has no complete attachment {ifname} on this node")));
    };
    let Some(link) = &intent.link else {
        return Err(differs(format!("container {id} has no link for {ifname}, only addresses")));
    };
    let netns = Namespace::open(&attachment.netns)
        .map_err(|cause| differs(format!("CNI_NETNS {:?}: {}", attachment.netns, chain(&cause))))?;
    if !intent.is_in(&netns) {
        return Err(differs(format!(
            "CNI_NETNS {:?} is not the namespace that was attached, {:?}",
            attachment.netns,
            intent.netns.as_ref().map(|netns| netns.path.as_str()).unwrap_or_default()
        )));
    }
    let host = Netlink::open().await.map_err(|cause| Error::kernel("open netlink on the node", &cause))?;
    let pod = Netlink::open_in(&netns).await.map_err(|cause| Error::kernel(&attachment.netns, &cause))?;

    let (bridge, port) = check_host_end(&host, id, ifname, link, &outcome).await?;
    let pod_link = check_pod_end(&pod, ifname, &outcome).await?;
    check_port(&host, &bridge, &port, &outcome).await?;
    check_addresses(&pod, &pod_link, previous, &outcome).await?;
    check_routes(&pod, &pod_link, previous, &outcome).await?;
    check_reservation(environment, document, &attachment, &outcome)?;
    Ok(Reply::Nothing)
}

/// Returns the bridge and its port.
async fn check_host_end(
    host: &Netlink,
    id: &str,
    ifname: &str,
    intent: &LinkIntent,
    outcome: &Outcome,
) -> Result<(Link, Link), Error> {
    let name = identity::host_link(id, ifname);
    let failed = |cause| Error::kernel(&name, &cause);
    let bridge = host
        .link(intent.bridge.as_str())
        .await
        .map_err(failed)?
        .ok_or_else(|| differs(format!("the bridge {} is gone", intent.bridge)))?;
    let link = host.link(name.as_str()).await.map_err(failed)?;
    let link = link.ok_or_else(|| differs(format!("the host's end {name} is gone")))?;
    if !identity::is_host_link(&link, id, ifname) {
        return Err(differs(format!(
            "{name} belongs to another program: its MAC and its alias are not this attachment's"
        )));
    }
    if link.master != Some(bridge.index) {
        return Err(differs(format!("{name} is not a port of {}", bridge.name)));
    }
    for link in [&bridge, &link] {
        if !link.up {
            return Err(differs(format!("{} is down", link.name)));
        }
    }
    if link.mtu != outcome.host_mtu {
        return Err(differs(format!("{name} has MTU {}, it was given {}", link.mtu, outcome.host_mtu)));
    }
    Ok((bridge, link))
}

/// Whether the bridge exchanges frames with the pod by this port. One that the spanning tree blocks is as it should be.
async fn check_port(host: &Netlink, bridge: &Link, link: &Link, outcome: &Outcome) -> Result<(), Error> {
    let name = &link.name;
    if let Some(port) = &link.port {
        // While the pod's end is down, the port is disabled.
        if port.state == PortState::Disabled && !outcome.left_down {
            return Err(differs(format!("the bridge port {name} is disabled; it passes no frames")));
        }
        let wrong = [
            (port.isolated, "is isolated from other isolated ports"),
            (!port.learning, "does not learn addresses (learning off)"),
            (!port.unicast_flood, "gets no frames to unknown addresses (flood off)"),
            (!port.multicast_flood, "gets no frames to unknown groups (mcast_flood off)"),
            (!port.broadcast_flood, "gets no broadcasts (bcast_flood off)"),
        ];
        if let Some((_, what)) = wrong.into_iter().find(|(is_so, _)| *is_so) {
            return Err(differs(format!("the bridge port {name} {what}")));
        }
    }
    let given: Vec<_> = outcome.port_vlans.iter().copied().map(Into::into).collect();
    match port_vlans::difference(host, &given, bridge, link).await? {
        None => Ok(()),
        Some(what) => Err(differs(what)),
    }
}

async fn check_pod_end(pod: &Netlink, ifname: &str, outcome: &Outcome) -> Result<Link, Error> {
    let link = pod.link(ifname).await.map_err(|cause| Error::kernel(ifname, &cause))?;
    let link = link.ok_or_else(|| differs(format!("the pod's interface {ifname} is gone")))?;
    if !link.up && !outcome.left_down {
        return Err(differs(format!("the pod's interface {ifname} is down")));
    }
    // A later plugin may have made it smaller, and no result says so. What is larger never arrives.
    if link.mtu > outcome.mtu {
        return Err(differs(format!(
            "the pod's interface {ifname} has MTU {}, it was given {}",
            link.mtu, outcome.mtu
        )));
    }
    Ok(link)
}

/// Every address of the previous result that is ours is on the link, and none of ours is missing in it.
async fn check_addresses(
    pod: &Netlink,
    link: &Link,
    previous: &CniResult,
    outcome: &Outcome,
) -> Result<(), Error> {
    let present = pod.addresses(link.index).await.map_err(|cause| Error::kernel(&link.name, &cause))?;
    let claimed: Vec<IpNet> = previous.ips.iter().map(|ip| ip.address).collect();
    for address in &outcome.addresses {
        if !claimed.contains(address) {
            return Err(differs(format!(
                "prevResult does not name {address}, which {} was given",
                link.name
            )));
        }
        if !present.iter().any(|found| found.address == *address) {
            return Err(differs(format!("the address {address} is gone from {}", link.name)));
        }
    }
    Ok(())
}

/// Every route that was made and that the previous result still has is there.
async fn check_routes(
    pod: &Netlink,
    link: &Link,
    previous: &CniResult,
    outcome: &Outcome,
) -> Result<(), Error> {
    if outcome.left_down || outcome.routes.is_empty() {
        return Ok(());
    }
    let present =
        pod.routes(&RouteFilter::default()).await.map_err(|cause| Error::kernel(&link.name, &cause))?;
    for wanted in &outcome.routes {
        // A later plugin has taken it away, and said so.
        if !previous.routes.iter().any(|route| route.dst == wanted.dst) {
            continue;
        }
        if !present.iter().any(|route| is_route(route, wanted, link.index)) {
            let via = wanted.gw.map(|gw| format!(" via {gw}")).unwrap_or_default();
            return Err(differs(format!(
                "the route {}{via} is gone from {}, or was changed",
                wanted.dst, link.name
            )));
        }
    }
    Ok(())
}

/// Whether the kernel's route is the wanted one, in the table it was made in, or, if that was the main one, in any. What was not asked for has the kernel's default.
fn is_route(present: &octavia_bridge_netlink::Route, wanted: &Route, link: u32) -> bool {
    // 0 and 254 are both the main one.
    let own_table = wanted.table.filter(|table| ![0, 254].contains(table));
    let default_priority = if wanted.dst.addr().is_ipv4() { 0 } else { 1024 };
    let priority = wanted.priority.filter(|priority| *priority != 0).unwrap_or(default_priority);
    present.destination == wanted.dst
        && own_table.is_none_or(|table| present.table == Some(table))
        && present.priority.unwrap_or(0) == priority
        && wanted.mtu.is_none_or(|mtu| present.mtu == Some(mtu))
        && wanted.advmss.is_none_or(|advmss| present.advmss == Some(advmss))
        && present.next_hops.iter().any(|hop| hop.link == link && hop.gateway == wanted.gw)
}

fn check_reservation(
    environment: &Environment,
    document: &Document,
    attachment: &Attachment,
    outcome: &Outcome,
) -> Result<(), Error> {
    match &attachment.addressing {
        Addressing::None => Ok(()),
        Addressing::Delegated(program) => {
            Delegate::find(program, &environment.path, &document.raw)?.call(Verb::Check)
        }
        Addressing::Pool(pool) => {
            let owner = &attachment.owner;
            let held = pool.store.held(&owner.container_id, &owner.ifname, &pool.ipam)?;
            match outcome.addresses.iter().find(|address| !held.contains(address)) {
                None => Ok(()),
                Some(address) => {
                    Err(differs(format!("no pool holds {address} for {}", attachment.owner.ifname)))
                }
            }
        }
    }
}

fn differs(what: impl std::fmt::Display) -> Error {
    Error::new(Code::CheckFailed, format!("CHECK: {what}"))
}
