//! Pods' ports: whether each is up in the bridge that the plugin attached it to, and how it gets back there.
//!
//! A bridge that is deleted releases its ports, and so does one of which another program believes that it has other
//! ports. The plugin's records say where each belongs. Only links of which record, alias and derived name agree are
//! looked at, and only a port without any bridge is put back: what has another one was given to it.

mod missing;
mod put_back;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use nl::{BridgeOptions, Link, LinkKind, Netlink, VlanRange};
use octavia_bridge_ipam::host_end;
use octavia_bridge_netlink as nl;

use crate::attachments::record::{self, Found, RecordedPort};
use crate::node::desired::{Desired, Kind, State};

pub(crate) use missing::missing;
pub(crate) use put_back::put_back;

/// The port of a complete attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) index: u32,
    pub(crate) name: String,
    container_id: String,
    ifname: String,
    recorded: RecordedPort,
    record: PathBuf,
}

/// What is wrong with a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It has no bridge.
    Released,
    /// It has none, and the bridge does not exist.
    NoBridge,
    /// It is a port of this other link.
    Elsewhere(String),
    /// In its bridge, and down.
    Down,
    /// In its bridge, and cut off from other isolated ports.
    Isolated,
    /// It was given VLANs, and its bridge does not separate them.
    NotFiltering,
    /// Its bridge filters VLANs, and it has not those that it was given, or none for frames without a tag.
    WrongVlans,
}

/// A port that is not as it was attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stray {
    pub(crate) port: Port,
    pub(crate) fault: Fault,
    /// The policy keeps its bridge.
    pub(crate) kept: bool,
}

/// What one look has shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) strays: Vec<Stray>,
    /// Indices of the ports of the policy's bridges, strays included.
    pub(crate) ports: BTreeSet<u32>,
    /// How many attachments there are.
    pub(crate) attached: usize,
    /// A plugin works on one that is a stray otherwise: ADD, DEL or CHECK, which end soon.
    pub(crate) locked: bool,
}

/// Attachments by the index of their port, so that their records are read once: a complete record never changes.
pub(crate) type Known = BTreeMap<u32, Port>;

impl Port {
    /// The bridge that it was attached to.
    pub(crate) fn bridge(&self) -> &str {
        &self.recorded.bridge
    }

    /// Whether this is its link.
    fn is(&self, link: &Link) -> bool {
        link.index == self.index
            && link.name == self.name
            && link.alias.as_deref().and_then(host_end::owner) == Some((&self.container_id, &self.ifname))
    }
}

impl Fault {
    /// Whether a port with this fault can be put back, and is to be.
    pub(crate) fn is_mended(&self) -> bool {
        matches!(self, Self::Released | Self::Down)
    }

    /// Whether its pod is cut off, and nobody chose that.
    pub(crate) fn cuts_off(&self) -> bool {
        matches!(self, Self::Released | Self::NoBridge | Self::Down | Self::NotFiltering | Self::WrongVlans)
    }
}

impl fmt::Display for Stray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Port { name, container_id, ifname, .. } = &self.port;
        let bridge = self.port.bridge();
        write!(f, "{name} ({ifname} of {container_id}) ")?;
        match &self.fault {
            Fault::Released => write!(f, "is not a port of {bridge}"),
            Fault::NoBridge => write!(f, "is not a port of {bridge}, which does not exist"),
            Fault::Elsewhere(other) => write!(f, "is a port of {other} instead of {bridge}"),
            Fault::Down => write!(f, "is down in {bridge}"),
            Fault::Isolated => write!(f, "is an isolated port of {bridge}"),
            Fault::NotFiltering => {
                write!(f, "has VLANs in {bridge}, which does not filter them")
            }
            Fault::WrongVlans => write!(f, "lacks its VLANs in {bridge}, which filters them"),
        }
    }
}

/// Names of the bridges that `desired` keeps.
pub(crate) fn bridges(desired: &Desired) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for entry in &desired.interfaces {
        if entry.state == State::Up && matches!(entry.kind, Some(Kind::Bridge { .. })) {
            names.insert(entry.name.as_str());
        }
    }
    names
}

/// Looks at the port of every attachment with a record below `state_dir`.
///
/// # Errors
/// Those of reading links. A record that cannot be read proves nothing.
pub(crate) async fn look(
    netlink: &Netlink,
    state_dir: &Path,
    kept: &BTreeSet<&str>,
    known: &mut Known,
) -> nl::Result<Seen> {
    let veths = netlink.veths().await?;
    let mut seen = Seen::default();
    let mut links = BTreeMap::new();
    let mut present = Known::new();
    for link in &veths {
        let Some(port) = attachment(link, state_dir, known, &mut seen.locked) else { continue };
        links.insert(link.index, link);
        present.insert(link.index, port);
    }
    *known = present;
    seen.attached = known.len();
    let mut bridges: BTreeMap<&str, Option<Link>> = BTreeMap::new();
    for port in known.values() {
        if !bridges.contains_key(port.bridge()) {
            let found = netlink.link(port.bridge()).await?;
            bridges.insert(port.bridge(), found.filter(|link| is_bridge(link, port)));
        }
    }
    // Asked for only where it matters: it is a list of all ports of the node.
    let filtering = bridges.values().flatten().any(filters);
    let tables = if filtering { netlink.all_port_vlans().await? } else { BTreeMap::new() };
    for (index, port) in known.iter() {
        let is_kept = kept.contains(port.bridge());
        if is_kept {
            seen.ports.insert(*index);
        }
        let bridge = bridges.get(port.bridge()).and_then(Option::as_ref);
        let table = tables.get(index).map(Vec::as_slice).unwrap_or_default();
        let Some(mut fault) = fault(links[index], bridge, &port.recorded.vlans, Some(table)) else {
            continue;
        };
        if let Fault::Elsewhere(name) = &mut fault
            && let Some(master) = links[index].master
        {
            let master = netlink.link(master).await?;
            *name = master.map_or_else(|| "a link that is gone".into(), |master| master.name);
        }
        // A plugin that works on it may be about to remove it.
        match record::read_port(&port.record, &port.container_id, &port.ifname) {
            Ok(Found::Complete(..)) => seen.strays.push(Stray { port: port.clone(), fault, kept: is_kept }),
            Ok(Found::Locked) => seen.locked = true,
            Ok(Found::Nothing) | Err(_) => {}
        }
    }
    Ok(seen)
}

/// Whether this is the bridge of the port, and not another link with its name, or one that has it as an alternative name.
fn is_bridge(link: &Link, port: &Port) -> bool {
    link.name == port.bridge() && matches!(link.kind, LinkKind::Bridge(_))
}

/// The attachment whose port this link is, if it is complete.
fn attachment(link: &Link, state_dir: &Path, known: &Known, locked: &mut bool) -> Option<Port> {
    if let Some(port) = known.get(&link.index)
        && port.is(link)
    {
        return Some(port.clone());
    }
    let (container_id, ifname) = link.alias.as_deref().and_then(host_end::owner)?;
    if link.name != host_end::name(container_id, ifname) {
        return None;
    }
    let path = record::path(state_dir, container_id, ifname)?;
    let recorded = match record::read_port(&path, container_id, ifname).ok()? {
        Found::Complete(recorded, _) if recorded.port == link.index => recorded,
        Found::Locked => {
            *locked = link.master.is_none() || !link.up || *locked;
            return None;
        }
        Found::Complete(..) | Found::Nothing => return None,
    };
    let (container_id, ifname) = (container_id.to_owned(), ifname.to_owned());
    Some(Port { index: link.index, name: link.name.clone(), container_id, ifname, recorded, record: path })
}

/// `table` has the VLANs that the port has now, if they matter.
fn fault(
    link: &Link,
    bridge: Option<&Link>,
    vlans: &[VlanRange],
    table: Option<&[VlanRange]>,
) -> Option<Fault> {
    match (link.master, bridge) {
        (None, None) => Some(Fault::NoBridge),
        (None, Some(bridge)) if !vlans.is_empty() && !filters(bridge) => Some(Fault::NotFiltering),
        (None, Some(_)) => Some(Fault::Released),
        (Some(master), Some(bridge)) if master == bridge.index => {
            let isolated = link.port.as_ref().is_some_and(|port| port.isolated);
            match () {
                () if !link.up => Some(Fault::Down),
                () if !vlans.is_empty() && !filters(bridge) => Some(Fault::NotFiltering),
                () if filters(bridge) && table.is_some_and(|table| lacks(table, vlans)) => {
                    Some(Fault::WrongVlans)
                }
                () if isolated => Some(Fault::Isolated),
                () => None,
            }
        }
        (Some(_), _) => Some(Fault::Elsewhere(String::new())),
    }
}

/// Whether a port with the VLANs `table` lacks those that it was `given`; if none, one for frames without a tag.
fn lacks(table: &[VlanRange], given: &[VlanRange]) -> bool {
    if given.is_empty() {
        return !table.iter().any(|range| range.pvid && range.untagged);
    }
    table != given
}

fn filters(bridge: &Link) -> bool {
    matches!(&bridge.kind, LinkKind::Bridge(BridgeOptions { vlan_filtering: Some(true), .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_well_only_up_in_its_own_bridge() {
        let bridge = Link {
            index: 3,
            name: "octbr".into(),
            kind: LinkKind::Bridge(BridgeOptions::default()),
            ..Link::default()
        };
        let port =
            |master, up| Link { index: 7, master, up, port: Some(nl::Port::default()), ..Link::default() };
        let here = Some(&bridge);
        assert_eq!(fault(&port(Some(3), true), here, &[], None), None);
        assert_eq!(fault(&port(Some(3), false), here, &[], None), Some(Fault::Down));
        assert_eq!(fault(&port(None, true), here, &[], None), Some(Fault::Released));
        assert_eq!(fault(&port(None, true), None, &[], None), Some(Fault::NoBridge));
        assert_eq!(fault(&port(Some(4), true), here, &[], None), Some(Fault::Elsewhere(String::new())));
        let isolated = nl::Port { isolated: true, ..nl::Port::default() };
        let isolated = Link { port: Some(isolated), ..port(Some(3), true) };
        assert_eq!(fault(&isolated, here, &[], None), Some(Fault::Isolated));
        let vlans = [VlanRange { first: 5, last: 5, pvid: true, untagged: true }];
        assert_eq!(fault(&port(None, true), here, &vlans, None), Some(Fault::NotFiltering));
        assert_eq!(fault(&port(Some(3), true), here, &vlans, None), Some(Fault::NotFiltering));
        let options = BridgeOptions { vlan_filtering: Some(true), ..BridgeOptions::default() };
        let filters = Link { kind: LinkKind::Bridge(options), ..bridge.clone() };
        let with = |given: &[VlanRange], table: &[VlanRange]| {
            fault(&port(Some(3), true), Some(&filters), given, Some(table))
        };
        assert_eq!((with(&vlans, &vlans), with(&[], &vlans)), (None, None));
        assert_eq!((with(&vlans, &[]), with(&[], &[])), (Some(Fault::WrongVlans), Some(Fault::WrongVlans)));
    }
}
