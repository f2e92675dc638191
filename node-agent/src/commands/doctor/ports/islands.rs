//! Bridges with pods' ports and without a way out, such as one that the plugin created for a misspelt name.

use std::collections::BTreeSet;

use octavia_bridge_ipam::host_end;
use octavia_bridge_netlink::{Address, Link, LinkKind, Netlink};

use super::{CHECK, Finding};
use crate::node::desired::Desired;
use crate::node::ports::{self, Known};

/// One finding for each. A bridge with an address is left out: the node routes by it. So is a bridge that the policy keeps:
/// `links::paths` reports its uplink.
pub(super) async fn look(
    netlink: &Netlink,
    known: &Known,
    desired: Option<&Desired>,
    links: &[Link],
) -> Vec<Finding> {
    let kept = desired.map(ports::bridges).unwrap_or_default();
    let mut findings = Vec::new();
    for (bridge, pods) in among(known, links) {
        if kept.contains(bridge.name.as_str()) {
            continue;
        }
        match netlink.addresses(bridge.index).await {
            Ok(addresses) if addresses.iter().any(is_global) => {}
            Ok(_) => findings.push(finding(bridge, pods, &kept)),
            Err(error) => findings.push(Finding::warn(CHECK, error.to_string(), "run doctor again")),
        }
    }
    findings
}

/// Bridges all of whose ports are pods', with their number.
fn among<'a>(known: &Known, links: &'a [Link]) -> Vec<(&'a Link, usize)> {
    let mut islands = Vec::new();
    for bridge in links.iter().filter(|link| matches!(link.kind, LinkKind::Bridge(_))) {
        // A VLAN of the bridge, for example, is a way out.
        let above = links.iter().filter(|link| link.parent == Some(bridge.index));
        let (mut pods, mut others) = (0, above.count());
        for port in links.iter().filter(|link| link.master == Some(bridge.index)) {
            let is_pods = port.alias.as_deref().and_then(host_end::owner).is_some();
            match known.contains_key(&port.index) {
                true => pods += 1,
                // Of an attachment that is not complete, or about to end.
                false if is_pods => {}
                false => others += 1,
            }
        }
        if pods > 0 && others == 0 {
            islands.push((bridge, pods));
        }
    }
    islands
}

fn is_global(address: &Address) -> bool {
    match address.address.addr() {
        std::net::IpAddr::V4(_) => true,
        std::net::IpAddr::V6(address) => !address.is_unicast_link_local(),
    }
}

fn finding(bridge: &Link, pods: usize, kept: &BTreeSet<&str>) -> Finding {
    let text = format!("{} has no uplink, so its pods ({pods}) reach only each other", bridge.name);
    if kept.is_empty() {
        let remedy = "give it an uplink, by a policy for example, unless it needs none";
        return Finding::warn(CHECK, text, remedy);
    }
    let kept: Vec<&str> = kept.iter().copied().collect();
    let remedy = format!(
        "if `bridge` of the network definition is misspelt (the policy keeps {}), correct it and delete the pods",
        kept.join(", ")
    );
    Finding::fail(CHECK, text, remedy)
}
