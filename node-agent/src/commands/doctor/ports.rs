//! Pods' ports: each up in the bridge that the plugin attached it to.

use std::collections::BTreeSet;

use octavia_bridge_ipam::causes::chain;
use octavia_bridge_netlink::Netlink;

use super::Finding;
use crate::commands::cli::Cli;
use crate::node::desired::Desired;
use crate::node::ports::{self, Fault, Known, Stray};

const CHECK: &str = "ports";

/// One finding for each port that is not as it was attached.
pub(super) async fn look(cli: &Cli, netlink: &Netlink, desired: Option<&Desired>) -> Vec<Finding> {
    let kept = desired.map_or_else(BTreeSet::new, ports::bridges);
    let seen = match ports::look(netlink, &cli.state_dir, &kept, &mut Known::new()).await {
        Ok(seen) => seen,
        Err(error) => return vec![Finding::fail(CHECK, chain(&error), "run doctor again")],
    };
    if seen.strays.is_empty() {
        return vec![Finding::ok(CHECK, format!("{} of pods, each up in its bridge", seen.attached))];
    }
    seen.strays.iter().map(finding).collect()
}

fn finding(stray: &Stray) -> Finding {
    let (port, bridge) = (&stray.port.name, stray.port.bridge());
    let remedy = match &stray.fault {
        Fault::Released | Fault::Down if stray.kept => {
            "the agent puts it back: look why `run` does not, or whether another program undoes it".into()
        }
        Fault::Released => format!("ip link set {port} master {bridge}"),
        Fault::Down => format!("ip link set {port} up"),
        Fault::NoBridge if stray.kept => format!("look why the agent does not create {bridge}"),
        Fault::NoBridge => "delete the pod, so that it is attached anew".into(),
        Fault::Elsewhere(other) => {
            format!("if {other} is not where it belongs: ip link set {port} master {bridge}")
        }
        Fault::Isolated => format!("ip link set {port} type bridge_slave isolated off"),
        Fault::NotFiltering => format!("ip link set {bridge} type bridge vlan_filtering 1"),
        Fault::WrongVlans => format!(
            "pods without a VLAN of their own need the bridge's default VLAN on every port, or no filtering: \
             ip link set {bridge} type bridge vlan_filtering 0"
        ),
    };
    // One that was given away, or isolated, was so by a decision.
    match stray.fault.cuts_off() {
        true => Finding::fail(CHECK, stray.to_string(), remedy),
        false => Finding::warn(CHECK, stray.to_string(), remedy),
    }
}
