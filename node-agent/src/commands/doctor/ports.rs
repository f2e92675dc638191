//! Pods' ports: each there, up in the bridge that the plugin attached it to, and the bridge leads somewhere.

mod islands;

use std::collections::BTreeSet;

use octavia_bridge_ipam::causes::chain;
use octavia_bridge_netlink::{Link, Netlink};

use super::Finding;
use crate::commands::cli::Cli;
use crate::node::desired::Desired;
use crate::node::ports::{self, Fault, Known, Stray};

const CHECK: &str = "ports";

/// One finding for each port that is not as it was attached, and for each bridge without a way out; and the bridges that matter:
/// those that the policy keeps or pods are attached to.
pub(super) async fn look(
    cli: &Cli,
    netlink: &Netlink,
    desired: Option<&Desired>,
    links: &[Link],
) -> (Vec<Finding>, BTreeSet<String>) {
    let kept = desired.map_or_else(BTreeSet::new, ports::bridges);
    let mut bridges: BTreeSet<String> = kept.iter().map(|name| (*name).to_owned()).collect();
    let mut known = Known::new();
    let seen = ports::look(netlink, &cli.state_dir, &kept, &mut known).await;
    let missing = ports::missing(netlink, &cli.state_dir, &known).await;
    let (seen, missing) = match (seen, missing) {
        (Ok(seen), Ok(missing)) => (seen, missing),
        (Err(error), _) | (_, Err(error)) => {
            return (vec![Finding::fail(CHECK, chain(&error), "run doctor again")], bridges);
        }
    };
    let mut findings: Vec<Finding> = seen.strays.iter().map(finding).collect();
    for missing in missing {
        let text = format!("{missing}, and the pod's network namespace still exists");
        findings.push(Finding::fail(CHECK, text, "delete the pod, so that it is attached anew"));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, format!("{} of pods, each up in its bridge", seen.attached)));
    }
    findings.extend(islands::look(netlink, &known, desired, links).await);
    bridges.extend(known.values().map(|port| port.bridge().to_owned()));
    (findings, bridges)
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
