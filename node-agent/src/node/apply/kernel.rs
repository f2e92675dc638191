//! One step, as requests to the kernel.

use nl::{
    BridgeOptions, LinkChange, LinkKind, MacAddress, Netlink, NewAddress, NewBridge, NewVlan, NewVrf, NextHop,
};
use octavia_bridge_netlink as nl;

use crate::node::observed::{Kind, Route, Setting, write_ipv6};
use crate::node::plan::{NewLink, Step};

/// Smallest MTU of a bridge (`ETH_MIN_MTU`), in bytes.
const SMALLEST_MTU: u32 = 68;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Netlink(#[from] nl::Error),
    #[error(transparent)]
    File(#[from] std::io::Error),
    /// A name that was there when the plan was made.
    #[error("link {0} does not exist")]
    Gone(String),
    /// Refused before anything was asked of the kernel.
    #[error("{0}")]
    Refused(String),
}

/// Carries out one step.
///
/// # Errors
/// The kernel's; a link half made is removed again.
pub(crate) async fn carry_out(netlink: &Netlink, step: &Step) -> Result<(), Error> {
    let name = step.link().unwrap_or_default();
    let change = async |change: LinkChange| Ok(netlink.change_link(name, &change).await?);
    match step {
        Step::Create(new) => create(netlink, new).await,
        Step::Delete(new) => delete(netlink, &new.name).await,
        Step::SetUp { up, .. } => change(LinkChange { up: Some(*up), ..LinkChange::default() }).await,
        Step::SetMtu { mtu, .. } => change(LinkChange { mtu: Some(*mtu), ..LinkChange::default() }).await,
        Step::SetMac { mac, .. } => {
            change(LinkChange { mac: Some(parse_mac(mac)?), ..LinkChange::default() }).await
        }
        Step::SetMaster { master, .. } => {
            let master = match master {
                Some(master) => Some(index(netlink, master).await?),
                None => None,
            };
            change(LinkChange { master: Some(master), ..LinkChange::default() }).await
        }
        Step::SetAlias { alias, .. } => {
            change(LinkChange { alias: Some(alias.clone()), ..LinkChange::default() }).await
        }
        Step::SetStp { on: stp, .. } => {
            let options = BridgeOptions { stp: Some(*stp), ..BridgeOptions::default() };
            Ok(netlink.change_bridge(index(netlink, name).await?, &options).await?)
        }
        Step::SetIpv6 { setting, on, .. } => Ok(write_ipv6(name, *setting, *on)?),
        Step::AddAddress { address, .. } => {
            let new = NewAddress { address: *address, nodad: false, noprefixroute: false };
            Ok(netlink.add_address(index(netlink, name).await?, &new).await?)
        }
        Step::RemoveAddress { address, .. } => {
            // Gone already, as a secondary goes with its primary: that is what was asked for.
            netlink.delete_address(index(netlink, name).await?, *address).await?;
            Ok(())
        }
        Step::AddRoute(route) => Ok(netlink.add_route(&wire(netlink, route).await?).await?),
        Step::RemoveRoute(route) => {
            netlink.delete_route(&wire(netlink, route).await?).await?;
            Ok(())
        }
    }
}

/// Carries out the inverse of a step that may not have been done at all: what is so already is no error.
///
/// # Errors
/// The kernel's.
pub(crate) async fn take_back(netlink: &Netlink, step: &Step) -> Result<(), Error> {
    let result = match step {
        Step::Delete(new) => delete_half_made(netlink, new).await,
        other => carry_out(netlink, other).await,
    };
    match result {
        Err(Error::Gone(_)) => Ok(()),
        Err(Error::Netlink(error)) if error.is_exists() || error.is_not_found() => Ok(()),
        // No request can express the inverse, so none has expressed the step.
        Err(Error::Netlink(nl::Error::Invalid { .. })) => Ok(()),
        other => other,
    }
}

async fn index(netlink: &Netlink, name: &str) -> Result<u32, Error> {
    Ok(netlink.link(name).await?.ok_or_else(|| Error::Gone(name.to_owned()))?.index)
}

fn parse_mac(mac: &str) -> Result<MacAddress, Error> {
    mac.parse().map_err(|error| Error::Refused(format!("{error}")))
}

async fn create(netlink: &Netlink, new: &NewLink) -> Result<(), Error> {
    let name = new.name.clone();
    let mac = new.mac.as_deref().map(parse_mac).transpose()?;
    // The creating message cannot carry an alias; it goes with what else is left to be said.
    let mut later = LinkChange { alias: new.alias.clone(), ..LinkChange::default() };
    match &new.kind {
        Kind::Bridge { stp } => {
            later.mtu = new.mtu;
            let options = BridgeOptions {
                stp: Some(*stp),
                most_learned: Some(BridgeOptions::MOST_LEARNED),
                ..BridgeOptions::default()
            };
            // Another MTU first: only one that is *changed* after creation counts as the administrator's
            // (`br_change_mtu`, which `dev_set_mtu` does not call for the value there is), and
            // any other follows the smallest port.
            let mtu = new.mtu.map(|mtu| if mtu > SMALLEST_MTU { mtu - 1 } else { mtu + 1 });
            netlink
                .create_bridge(&NewBridge {
                    name,
                    mac,
                    mtu,
                    options,
                    // Whether it has IPv6 at all, the policy says, which may want just this address.
                    link_local: true,
                    ..NewBridge::default()
                })
                .await?;
        }
        Kind::Vlan { base, id } => {
            let parent = index(netlink, base).await?;
            netlink
                .create_vlan(&NewVlan { name, parent, id: *id, mtu: new.mtu, ..NewVlan::default() })
                .await?;
            later.mac = mac;
        }
        Kind::Vrf { table } => {
            netlink.create_vrf(&NewVrf { name, table: *table, mtu: new.mtu, ..NewVrf::default() }).await?;
            later.mac = mac;
        }
        other => return Err(Error::Refused(format!("no link of type {} can be made", other.word()))),
    }
    let completed = complete(netlink, new, &later).await;
    if completed.is_err() {
        delete_half_made(netlink, new).await?;
    }
    completed
}

/// What the creating message cannot carry, before the link is up.
async fn complete(netlink: &Netlink, new: &NewLink, later: &LinkChange) -> Result<(), Error> {
    netlink.change_link(&new.name, later).await?;
    if let Some(ipv6) = new.ipv6 {
        write_ipv6(&new.name, Setting::AcceptRa, ipv6.accept_ra)?;
        write_ipv6(&new.name, Setting::Disabled, ipv6.disabled)?;
    }
    Ok(())
}

/// Deletes a link of ours. Looks again: since the plan was made, or the journal written, somebody else
/// may have given the name to a link of theirs.
async fn delete(netlink: &Netlink, name: &str) -> Result<(), Error> {
    let Some(link) = netlink.link(name).await? else { return Ok(()) };
    if !crate::node::marker::is_ours(link.alias.as_deref()) {
        return Err(Error::Refused(format!("{name} is now a link that this program did not make")));
    }
    netlink.delete_link(link.index).await?;
    Ok(())
}

/// Deletes a link of ours that may lack its mark yet, since a link's alias takes a message of its own after
/// the one that makes it: then it is down and without any alias, and of the sort that was to be made. One that
/// others have given ports since stays: they are pods', and the next that brings the policy about finds it there.
async fn delete_half_made(netlink: &Netlink, new: &NewLink) -> Result<(), Error> {
    let Some(link) = netlink.link(&new.name).await? else { return Ok(()) };
    if matches!(link.kind, LinkKind::Bridge(_) | LinkKind::Vrf { .. }) {
        let ports = netlink.ports(link.index).await?;
        if !ports.is_empty() {
            let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
            tracing::warn!("{} stays: {} would be cut off", new.name, names.join(", "));
            return Ok(());
        }
    }
    let same_sort = match (&new.kind, &link.kind) {
        (Kind::Bridge { .. }, LinkKind::Bridge(_)) => {
            new.mac.is_none() || new.mac == link.mac.map(|mac| mac.to_string())
        }
        (Kind::Vlan { id, .. }, LinkKind::Vlan { id: now, .. }) => id == now,
        (Kind::Vrf { table }, LinkKind::Vrf { table: now }) => table == now,
        _ => false,
    };
    if link.alias.is_none() && !link.up && same_sort {
        netlink.delete_link(link.index).await?;
        return Ok(());
    }
    delete(netlink, &new.name).await
}

async fn wire(netlink: &Netlink, route: &Route) -> Result<nl::Route, Error> {
    let alone = route.hops.len() == 1;
    let mut next_hops = Vec::new();
    for hop in &route.hops {
        let link = index(netlink, &hop.link).await?;
        let weight = if alone { 0 } else { hop.weight };
        next_hops.push(NextHop { gateway: hop.gateway, link, weight, onlink: hop.onlink });
    }
    Ok(nl::Route {
        destination: route.destination,
        table: Some(route.table),
        priority: Some(route.metric).filter(|metric| *metric != 0),
        protocol: Some(route.protocol),
        source: route.source,
        mtu: route.mtu,
        next_hops,
        ..nl::Route::default()
    })
}
