//! The node's agent: whether it answers, and what it says is missing.

use octavia_bridge_ipam::causes::chain;
use tokio::time::timeout;

use super::Finding;
use crate::commands::cli::{Cli, Doctor};
use crate::health::{DEADLINE, Question, exchange};
use crate::node::state::State;

const CHECK: &str = "agent";
/// Parts of the agent of whose notes `doctor` has findings of its own.
const EXAMINED: [&str; 3] = ["policy", "ports", "state"];

/// Asks the agent; if none answers, looks for traces of one.
pub(super) async fn look(cli: &Cli, options: &Doctor) -> Vec<Finding> {
    let path = &options.place.health_socket;
    match timeout(DEADLINE, exchange(Question::Status, path)).await {
        Ok(Ok((_, text))) => told(&text),
        Ok(Err(error)) => {
            let why = format!("{}: {}", path.display(), chain(error.as_ref()));
            away(cli, options, &why).into_iter().collect()
        }
        Err(_) => {
            let text = format!("the agent on {} does not answer within {DEADLINE:?}", path.display());
            vec![Finding::fail(CHECK, text, "see its log, then restart it")]
        }
    }
}

/// The lines of its readiness that say more than "ok".
fn told(text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for line in text.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (part, what) = rest.trim_start().split_once(' ').unwrap_or((rest, ""));
        let text = format!("{part}: {}", what.trim_start());
        match word {
            "agent" => findings.push(Finding::ok(CHECK, format!("version {rest} answers"))),
            "wait" | "warn" => findings.push(Finding::fail(CHECK, text, "see the agent's log")),
            "note" if !EXAMINED.contains(&part) => {
                findings.push(Finding::warn(CHECK, text, "see the agent's log"));
            }
            _ => {}
        }
    }
    findings
}

/// An agent that does not answer where one has worked. A host whose policy only `apply` puts into force needs none.
fn away(cli: &Cli, options: &Doctor, why: &str) -> Option<Finding> {
    let remedy = "start it, and see its log for why it ended";
    // The agent removes its socket when it stops.
    if options.place.health_socket.symlink_metadata().is_ok() {
        let text = format!("the agent was killed, or its socket belongs to another program: {why}");
        return Some(Finding::fail(CHECK, text, remedy));
    }
    // The plugin makes this directory before its first claim.
    if cli.state_dir.join("cluster-tombstones").is_dir() {
        let text = format!("no agent answers, so pods get no addresses from the cluster: {why}");
        return Some(Finding::fail(CHECK, text, remedy));
    }
    let kept = State::peek(&cli.state_dir).ok().flatten()?;
    if kept.policies.is_empty() {
        let text = format!("no agent answers, so only `apply` repairs the links: {why}");
        return Some(Finding::warn(CHECK, text, "start `octavia-bridge-agent run`"));
    }
    let text = format!("no agent answers, so the cluster's policies are not followed here: {why}");
    Some(Finding::fail(CHECK, text, remedy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::Level;

    #[test]
    fn what_the_agent_misses_is_a_finding() {
        let text = "agent 0.1.0\nok    api      answers\nwarn  policy   octbr: no enp6s0\n\
                    note  ports    seen by doctor\nnote  state    seen, too\nnote  pools    full\nwait  plugin   not installed\n";
        let mut said = Vec::new();
        for finding in told(text) {
            said.push((finding.level, finding.text));
        }
        let expected = [
            (Level::Ok, "version 0.1.0 answers"),
            (Level::Fail, "policy: octbr: no enp6s0"),
            (Level::Warn, "pools: full"),
            (Level::Fail, "plugin: not installed"),
        ];
        assert_eq!(said, expected.map(|(level, text)| (level, text.to_owned())));
    }
}
