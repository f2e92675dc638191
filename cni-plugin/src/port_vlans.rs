//! The VLANs of a pod's bridge port: set before the port can pass a frame, and read back.
//!
//! What the kernel does with them is up to the bridge. One that does not filter VLANs takes the table and passes every
//! frame all the same, and so did the reference plugin's ADDs succeed without separating anything
//! (containernetworking/plugins#533). Filtering is switched on for a bridge made here, and never for one that was there:
//! it would cut off every tagged frame that its other ports, uplinks and pods, exchange today.

use nix::errno::Errno;
use octavia_bridge_netlink::{BridgeOptions, Link, LinkChange, LinkKind, Netlink, VlanRange};

use crate::attachment::PortVlans;
use crate::protocol::{Code, Error};

const UNSUPPORTED: &str = "is not supported by this kernel, which has no VLAN filtering on bridges \
                           (CONFIG_BRIDGE_VLAN_FILTERING); put a VLAN interface into the bridge instead";

/// Options of a bridge that is made for ports with these VLANs.
pub(crate) fn options_of_new_bridge(vlans: Option<&PortVlans>) -> BridgeOptions {
    // Not sent without need: a kernel without filtering refuses the word, whatever it says.
    BridgeOptions { vlan_filtering: vlans.map(|_| true), ..BridgeOptions::default() }
}

/// What the refusal to make such a bridge means.
pub(crate) fn not_made(vlans: &PortVlans, failed: Error, cause: &octavia_bridge_netlink::Error) -> Error {
    if cause.errno() == Some(Errno::EOPNOTSUPP as i32) {
        let error = Error::new(Code::UnsupportedField, format!("{} {UNSUPPORTED}", vlans.asked()));
        return error.with_details(failed.msg);
    }
    failed
}

/// Refuses a bridge on which these VLANs would separate nothing, or a port without any would carry nothing.
pub(crate) fn check_bridge(vlans: Option<&PortVlans>, bridge: &Link) -> Result<(), Error> {
    let Some(vlans) = vlans else { return check_default(bridge) };
    if default_vlan(bridge).is_none() {
        return Err(Error::new(Code::UnsupportedField, format!("{} {UNSUPPORTED}", vlans.asked())));
    }
    if filters(bridge) {
        return Ok(());
    }
    let name = &bridge.name;
    Err(Error::new(
        Code::TryAgainLater,
        format!(
            "{} would not separate the pod from others: the bridge {name} does not filter VLANs",
            vlans.asked()
        ),
    )
    .with_details(format!(
        "name a bridge that does, or one that does not exist yet; or enable it for all ports of {name}: \
         ip link set {name} type bridge vlan_filtering 1"
    )))
}

/// A port that is given no VLANs has the bridge's default one, and on a bridge that filters no frame passes without one.
fn check_default(bridge: &Link) -> Result<(), Error> {
    if !filters(bridge) || default_vlan(bridge) != Some(0) {
        return Ok(());
    }
    let name = &bridge.name;
    let text = format!(
        "the bridge {name} filters VLANs and has no default one (vlan_default_pvid 0), so a port without \"vlan\" carries \
         no frames"
    );
    let details = format!(
        "set \"vlan\" in the network configuration; or give the bridge a default VLAN, which all its ports get that \
         have none: ip link set {name} type bridge vlan_default_pvid 1"
    );
    Err(Error::new(Code::TryAgainLater, text).with_details(details))
}

/// Gives a port its VLANs and sets it up. Until then it is down: no frame of the pod passes in a wrong VLAN, not even one
/// that a process in the pod sends early. Returns the port's whole table.
pub(crate) async fn set(
    host: &Netlink,
    vlans: &PortVlans,
    bridge: &Link,
    port: &Link,
) -> Result<Vec<VlanRange>, Error> {
    let failed = |cause| {
        Error::kernel(format!("{}: give the bridge port {} its VLANs", vlans.asked(), port.name), &cause)
    };
    // The kernel gives a new port the bridge's default VLAN as its native one; 0 stands for none.
    let default = default_vlan(bridge).filter(|id| *id != 0);
    let (wanted, table) = (vlans.wanted(), vlans.table(default));
    host.add_port_vlans(port.index, &wanted).await.map_err(failed)?;
    if let Some(id) = default.filter(|id| !table.iter().any(|range| (range.first..=range.last).contains(id)))
    {
        host.remove_port_vlans(port.index, id..=id).await.map_err(failed)?;
    }
    let up = LinkChange { up: Some(true), ..LinkChange::default() };
    host.change_link(port.index, &up).await.map_err(failed)?;
    Ok(table)
}

/// What is wrong with a port that was given this table, or with its bridge; `None` if nothing is.
pub(crate) async fn difference(
    host: &Netlink,
    given: &[VlanRange],
    bridge: &Link,
    port: &Link,
) -> Result<Option<String>, Error> {
    // Without any given it has what the bridge gave it, which may be another by now, but must be there.
    if given.is_empty() {
        let deaf = filters(bridge) && table(host, port).await?.is_empty();
        let words = || format!("{} has no VLAN, so the bridge {} passes no frames", port.name, bridge.name);
        return Ok(deaf.then(words));
    }
    if !filters(bridge) {
        return Ok(Some(format!("the bridge {} does not filter VLANs any more", bridge.name)));
    }
    let present = table(host, port).await?;
    if present == given {
        return Ok(None);
    }
    Ok(Some(format!("{} has the VLANs {}, it was given {}", port.name, words(&present), words(given))))
}

async fn table(host: &Netlink, port: &Link) -> Result<Vec<VlanRange>, Error> {
    host.port_vlans(port.index).await.map_err(|cause| Error::kernel(&port.name, &cause))
}

fn words(vlans: &[VlanRange]) -> String {
    if vlans.is_empty() {
        return "none".into();
    }
    let words: Vec<_> = vlans.iter().map(|range| format!("[{range}]")).collect();
    words.join(" ")
}

fn filters(bridge: &Link) -> bool {
    matches!(&bridge.kind, LinkKind::Bridge(BridgeOptions { vlan_filtering: Some(true), .. }))
}

/// The VLAN that new ports get, 0 for none; `None` on a kernel without VLAN filtering.
fn default_vlan(bridge: &Link) -> Option<u16> {
    match &bridge.kind {
        LinkKind::Bridge(options) => options.vlan_default_pvid,
        _ => None,
    }
}
