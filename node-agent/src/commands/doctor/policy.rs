//! The policy that is kept, whether the node is as it says, and whether the plugin knows.

use std::collections::BTreeSet;

use octavia_bridge_ipam::causes::chain;
use octavia_bridge_netlink::{Link, Netlink};

use super::{Finding, counted};
use crate::commands::cli::Cli;
use crate::node::apply::{self, Error};
use crate::node::desired::Desired;
use crate::node::state::{Bridges, Kept, State};
use crate::node::{source, unkept};

const CHECK: &str = "policy";

/// Files that the agent could not use.
pub(super) fn put_aside(cli: &Cli) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in State::put_aside(&cli.state_dir) {
        let text = format!("a file could not be used and was set aside: {}", file.display());
        findings.push(Finding::warn(CHECK, text, "the agent's log says why; remove it when read"));
    }
    findings
}

/// Links that no policy names any more.
pub(super) fn unkept(desired: Option<&Desired>, links: &[Link]) -> Vec<Finding> {
    let remedy = "name it in a policy, with state: absent if it is to go";
    let nothing = Desired::default();
    let notes = unkept::among(links, desired.unwrap_or(&nothing), unkept::NO_POLICY);
    notes.into_iter().map(|text| Finding::warn(CHECK, text, remedy)).collect()
}

/// Links whose mark another program overwrote.
pub(super) fn lost_marks(cli: &Cli, links: &[Link]) -> Vec<Finding> {
    match State::peek_witness(&cli.state_dir) {
        Ok(witness) => {
            let remedy = "find the program that writes it: lldpd does, unless told otherwise";
            witness.notes(links).into_iter().map(|text| Finding::warn(CHECK, text, remedy)).collect()
        }
        Err(why) => vec![Finding::warn(CHECK, why, "the agent sets it aside at its next start")],
    }
}

/// Policies of the cluster and files that the agent could not bring about.
pub(super) fn not_in_force(cli: &Cli) -> Vec<Finding> {
    let kept = State::peek(&cli.state_dir).ok().flatten().unwrap_or_default();
    let of_files = kept.not_in_force(&BTreeSet::new());
    let mut findings = Vec::new();
    for policy in State::not_in_force(&cli.state_dir) {
        let remedy = match &of_files {
            Some(files) if files.policy == policy.policy => {
                "stop the agent, apply the corrected file with `octavia-bridge-agent apply -f FILE`, and start the agent"
                    .to_owned()
            }
            _ if !policy.of_cluster => "correct the file; the agent's log says more".to_owned(),
            _ => format!("correct it; `kubectl get nncp {} -o yaml` shows its status", policy.policy),
        };
        findings.push(Finding::fail(CHECK, policy.to_string(), remedy));
    }
    findings
}

/// Returns also what the policy wants, for those who look at the links.
pub(super) async fn look(cli: &Cli, netlink: &Netlink) -> (Vec<Finding>, Option<Desired>) {
    let kept = match State::peek(&cli.state_dir) {
        Ok(Some(kept)) => kept,
        Ok(None) => {
            let text = format!("no policy is kept in {}", cli.state_dir.display());
            return (vec![Finding::warn(CHECK, text, "apply one: octavia-bridge-agent apply -f FILE")], None);
        }
        Err(error) => {
            let remedy = "apply the policy again from its file";
            return (vec![Finding::fail(CHECK, chain(&error), remedy)], None);
        }
    };
    let desired = match source::desired(&kept) {
        Ok(desired) => desired,
        Err(error) => {
            let text = format!("cannot read the kept policy: {}", one_line(&error.to_string()));
            return (vec![Finding::fail(CHECK, text, "correct its file and apply it again")], None);
        }
    };
    let mut findings = compare(netlink, &desired).await;
    findings.push(bridges(cli, &desired, &kept));
    (findings, Some(desired))
}

async fn compare(netlink: &Netlink, desired: &Desired) -> Vec<Finding> {
    let plan = match apply::plan_now(netlink, desired).await {
        Ok(plan) => plan,
        Err(Error::Conflicts(conflicts)) => {
            let remedy = "remove what conflicts with the policy";
            return conflicts.0.into_iter().map(|text| Finding::fail(CHECK, text, remedy)).collect();
        }
        Err(error) => return vec![Finding::fail(CHECK, chain(&error), "look at the kernel's log")],
    };
    let mut findings = Vec::new();
    for missing in &plan.missing {
        let awaits = &missing.awaits;
        let remedy = match missing.why {
            Some(_) => format!("find out why the MTU of {awaits} is smaller, or lower the policy's"),
            None => format!("look for {awaits} with `ip link`, and for its driver in the kernel's log"),
        };
        findings.push(Finding::fail(CHECK, missing.to_string(), remedy));
    }
    if !plan.steps.is_empty() {
        let text = format!("the node differs from the policy; to do: {}", plan.in_words().join(", "));
        findings.push(Finding::fail(
            CHECK,
            text,
            "run `octavia-bridge-agent apply`, or look in the log of `run` for why it does not repair this",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            CHECK,
            format!(
                "{} and {} match the policy",
                counted(desired.interfaces.len(), "interface"),
                counted(desired.routes.len(), "route")
            ),
        ));
    }
    findings.extend(plan.warnings.into_iter().map(|text| Finding::warn(CHECK, text, "see the policy")));
    findings
}

fn bridges(cli: &Cli, desired: &Desired, kept: &Kept) -> Finding {
    let not_in_force = State::not_in_force(&cli.state_dir);
    let bridges = Bridges::of(desired, kept).and(&not_in_force);
    let names = bridges.names().join(", ");
    match State::promises(&cli.state_dir, &bridges) {
        Ok(true) if names.is_empty() => {
            Finding::ok(CHECK, "the policy names no bridge, so the plugin waits for none")
        }
        Ok(true) => Finding::ok(CHECK, format!("the plugin waits for {names}")),
        Ok(false) => Finding::fail(
            CHECK,
            "bridges.json does not match the policy, so the plugin may create a bridge without an uplink",
            "octavia-bridge-agent apply",
        ),
        Err(error) => Finding::fail(CHECK, chain(&error), "octavia-bridge-agent apply"),
    }
}

fn one_line(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join("; ")
}
