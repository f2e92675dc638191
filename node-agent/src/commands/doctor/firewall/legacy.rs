//! Legacy iptables and ip6tables, whose tables only their own programs can read.

use std::fs;
use std::process::{Command, Output, Stdio};

use super::walk::{Dropped, Way};
use super::{FILTERS, finding, what};
use crate::commands::doctor::Finding;

/// A rule with its target, by how many of the packets between ports of the bridge it matches.
#[derive(Debug, PartialEq, Eq)]
enum Rule<'a> {
    /// A rule for all such packets.
    All(&'a str),
    /// A rule for some of them.
    Part(&'a str),
    /// A rule for none.
    Nothing,
}

/// What the chain FORWARD does with packets on this way, if it may drop them.
pub(super) fn look(way: &Way<'_>, rules: &Result<String, String>) -> Option<Finding> {
    let (program, bridge) = (program(way.ipv6), &way.bridge.name);
    let remedy = format!("{program}-legacy -I FORWARD -i {bridge} -o {bridge} -j ACCEPT");
    match rules {
        Ok(rules) => {
            let (by, excepted) = dropped(bridge, rules)?;
            let dropped = Dropped { chain: "FORWARD".to_owned(), by, excepted };
            Some(finding(&format!("legacy {program}"), way, &dropped, remedy))
        }
        Err(why) => {
            let what = what(way);
            let text = format!(
                "legacy {program} sees {what} between ports of {bridge}, and its rules cannot be read: {why}"
            );
            let remedy =
                format!("see `{program}-legacy -S FORWARD` on the host; where that says DROP: {remedy}");
            Some(Finding::warn(FILTERS, text, remedy))
        }
    }
}

fn program(ipv6: bool) -> &'static str {
    if ipv6 { "ip6tables" } else { "iptables" }
}

/// What drops packets, and whether rules before it may accept some.
fn dropped(bridge: &str, rules: &str) -> Option<(String, bool)> {
    let mut policy = "ACCEPT";
    let mut excepted = false;
    for line in rules.lines().map(str::trim) {
        if let Some(stated) = line.strip_prefix("-P FORWARD ") {
            policy = stated.split(' ').next().unwrap_or_default();
        }
        let Some(words) = line.strip_prefix("-A FORWARD ") else { continue };
        match rule(bridge, words) {
            Rule::All("ACCEPT") => return None,
            Rule::All("DROP" | "REJECT") => return Some((format!("rule {words}"), excepted)),
            Rule::All("RETURN") => break,
            Rule::Part("DROP" | "REJECT" | "LOG" | "NFLOG") | Rule::All("LOG" | "NFLOG") | Rule::Nothing => {}
            // Another chain may accept. What returns is left to the policy.
            Rule::All(_) | Rule::Part(_) => excepted = true,
        }
    }
    (policy != "ACCEPT").then(|| (format!("policy {policy}"), excepted))
}

/// A rule as `-S` writes it, which puts the target last.
fn rule<'a>(bridge: &str, rule: &'a str) -> Rule<'a> {
    let mut all = true;
    let mut not = false;
    let mut words = rule.split_whitespace();
    while let Some(word) = words.next() {
        match word {
            "!" => {
                not = true;
                continue;
            }
            "-i" | "-o" => {
                let link = words.next().unwrap_or_default();
                let is = link.strip_suffix('+').map_or(link == bridge, |begin| bridge.starts_with(begin));
                if is == not {
                    return Rule::Nothing;
                }
            }
            "-j" | "-g" => {
                let target = words.next().unwrap_or_default();
                return if all { Rule::All(target) } else { Rule::Part(target) };
            }
            "--comment" => {
                let first = words.next().unwrap_or_default();
                let mut last = first;
                while first.starts_with('"')
                    && (last.len() < 2 || !last.ends_with('"') || last.ends_with("\\\""))
                {
                    let Some(next) = words.next() else { break };
                    last = next;
                }
            }
            "-m" => all &= words.next() == Some("comment"),
            _ => all = false,
        }
        not = false;
    }
    // It only counts.
    Rule::Nothing
}

/// The chain FORWARD, as the host's own program writes it; `None` without a legacy table that has one.
pub(super) fn rules(ipv6: bool) -> Option<Result<String, String>> {
    let program = program(ipv6);
    let names = if ipv6 { "ip6_tables_names" } else { "ip_tables_names" };
    let names = fs::read_to_string(format!("/proc/net/{names}")).unwrap_or_default();
    if !names.lines().any(|name| name == "filter") {
        return None;
    }
    Some(read(&format!("{program}-legacy")).or_else(|_| read(program)))
}

fn read(program: &str) -> Result<String, String> {
    let version = run(program, &["-V"])?;
    let version = version.trim();
    // The same name is that of the program for nftables.
    if !version.contains("legacy") {
        return Err(format!("{program} is {version}, which does not say that it reads legacy tables"));
    }
    // It waits at most two seconds for its lock.
    run(program, &["-w", "2", "-S", "FORWARD"])
}

fn run(program: &str, words: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(words).stdin(Stdio::null()).output();
    let Output { status, stdout, stderr } = output.map_err(|cause| format!("{program}: {cause}"))?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&stderr);
    Err(format!("{program} ends with {status}: {}", said.lines().next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use octavia_bridge_netlink::Link;

    use super::*;
    use crate::commands::doctor::Level;

    #[test]
    fn the_first_rule_for_all_packets_of_the_bridge_decides_or_the_policy() {
        let (fail, warn) = (Some(Level::Fail), Some(Level::Warn));
        let bridge = Link { name: "octbr".into(), ..Link::default() };
        let way = Way { bridge: &bridge, ports: None, ipv6: false };
        for (text, level) in [
            ("-P FORWARD ACCEPT", None),
            ("-P FORWARD DROP", fail),
            ("-P FORWARD DROP\n-A FORWARD -i octbr -o octbr -j ACCEPT", None),
            ("-P FORWARD DROP\n-A FORWARD -i oct+ -m comment --comment \"all of ours\" -j ACCEPT", None),
            ("-P FORWARD DROP\n-A FORWARD -i octbr2 -o octbr2 -j ACCEPT", fail),
            ("-P FORWARD DROP\n-A FORWARD ! -i octbr -j ACCEPT", fail),
            ("-P FORWARD DROP\n-A FORWARD -s 10.0.0.0/8 -j ACCEPT", warn),
            ("-P FORWARD DROP\n-A FORWARD -j DOCKER-USER", warn),
            ("-P FORWARD DROP\n-A FORWARD -p tcp -j DROP", fail),
            ("-P FORWARD ACCEPT\n-A FORWARD -p tcp -j DROP", None),
            ("-P FORWARD ACCEPT\n-A FORWARD -j REJECT --reject-with icmp-host-prohibited", fail),
            ("-P FORWARD ACCEPT\n-A FORWARD -m comment --comment \"the rest\" -j DROP", fail),
            (
                "-P FORWARD ACCEPT\n-A FORWARD -m state --state ESTABLISHED -j ACCEPT\n-A FORWARD -j DROP",
                warn,
            ),
            ("-P FORWARD ACCEPT\n-A FORWARD -i octbr -j ACCEPT\n-A FORWARD -j DROP", None),
        ] {
            let found = look(&way, &Ok(text.to_owned()));
            assert_eq!(found.map(|finding| finding.level), level, "{text}");
        }
        let finding = look(&way, &Err("not installed".into())).unwrap();
        assert_eq!(finding.level, Level::Warn);
    }
}
