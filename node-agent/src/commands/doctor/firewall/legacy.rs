//! Legacy iptables, whose tables only its own program can read.

use std::process::{Command, Stdio};

use super::FILTERS;
use crate::commands::doctor::Finding;

/// What its chain FORWARD does with frames between ports of the bridge, if it may drop them.
pub(super) fn look(bridge: &str, rules: Result<String, String>) -> Option<Finding> {
    let remedy = format!("iptables-legacy -I FORWARD -i {bridge} -o {bridge} -j ACCEPT");
    match rules {
        Ok(rules) => {
            let policy = rules.lines().find_map(|line| line.strip_prefix("-P FORWARD "))?.trim();
            let accepts = format!("-A FORWARD -i {bridge} -o {bridge} -j ACCEPT");
            if policy == "ACCEPT" || rules.lines().any(|rule| rule.trim() == accepts) {
                return None;
            }
            let text = format!(
                "packets between ports of {bridge} pass legacy iptables (bridge-nf-call-iptables), where FORWARD has the policy {policy}"
            );
            Some(Finding::fail(FILTERS, text, remedy))
        }
        Err(why) => {
            let text = format!(
                "packets between ports of {bridge} pass legacy iptables (bridge-nf-call-iptables), whose rules cannot be read: {why}"
            );
            let remedy =
                format!("see `iptables-legacy -S FORWARD` on the host; where that says DROP: {remedy}");
            Some(Finding::warn(FILTERS, text, remedy))
        }
    }
}

/// The chain FORWARD, as the host's own program writes it.
pub(super) fn rules() -> Result<String, String> {
    let mut why = String::new();
    for program in ["iptables-legacy", "iptables"] {
        // It waits at most two seconds for its lock.
        let output = Command::new(program).args(["-w", "2", "-S", "FORWARD"]).stdin(Stdio::null()).output();
        match output {
            Ok(output) if output.status.success() => {
                return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
            }
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                let first = said.lines().next().unwrap_or_default();
                why = format!("{program} ends with {}: {first}", output.status);
            }
            Err(cause) => why = format!("{program}: {cause}"),
        }
    }
    Err(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::Level;

    #[test]
    fn the_policy_decides_unless_a_rule_accepts_all_of_the_bridge() {
        let level = |text: &str| look("octbr", Ok(text.to_owned())).map(|finding| finding.level);
        assert_eq!(level("-P FORWARD ACCEPT\n"), None);
        assert_eq!(level("-P FORWARD DROP\n"), Some(Level::Fail));
        assert_eq!(level("-P FORWARD DROP\n-A FORWARD -i octbr -o octbr -j ACCEPT\n"), None);
        assert_eq!(level("-P FORWARD DROP\n-A FORWARD -i octbr2 -o octbr2 -j ACCEPT\n"), Some(Level::Fail));
        let finding = look("octbr", Err("not installed".into())).unwrap();
        assert_eq!(finding.level, Level::Warn);
    }
}
