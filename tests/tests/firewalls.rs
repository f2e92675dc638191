//! Firewalls between ports of a bridge: `doctor` says that frames are dropped exactly where they are.

use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use octavia_bridge_tests::traffic::{AT_ONCE, Echo, ping};
use octavia_bridge_tests::{Agent, Attached, Lab, Node, Pod, conf};
use serde_json::json;

/// Long enough that a packet that has not come by then was dropped.
const DROPPED: Duration = Duration::from_millis(300);

/// Two pods of one bridge, which no policy names.
struct Scene {
    agent: Agent,
    pods: [(Pod, Attached); 2],
    node: Node,
}

impl Scene {
    fn new() -> Self {
        let lab = Lab::new();
        let node = lab.node("node1");
        node.ip("link set lo up");
        let agent = Agent::beside_plugin(&node);
        let octavia = conf::octavia_with(json!({"cniVersion": "1.0.0"}));
        let attach = |name| {
            let pod = node.pod(name);
            let attached = pod.add(&octavia).run().attached();
            (pod, attached)
        };
        let pods = [attach("worker"), attach("housekeeping")];
        let scene = Self { agent, pods, node };
        scene.calls(true);
        scene
    }

    /// Whether frames pass the tables of IPv4.
    fn calls(&self, on: bool) {
        let value = if on { "1" } else { "0" };
        self.node.run(|| {
            std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", value)
                .expect("this needs a kernel with br_netfilter");
        });
    }

    /// Runs a line of commands, each of which has to succeed.
    fn sh(&self, line: &str) {
        self.node.run(|| {
            let output = Command::new("sh").args(["-ec", line]).output().expect("run sh");
            assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        });
    }

    /// Loads rules for `nft` in place of all others.
    fn load(&self, rules: &str) {
        self.node.run(|| {
            let mut nft =
                Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("run nft");
            let text = format!("flush ruleset\n{rules}\n");
            nft.stdin.take().expect("its input").write_all(text.as_bytes()).expect("write the rules");
            assert!(nft.wait().expect("wait for nft").success(), "{rules}");
        });
    }

    /// Asserts that `doctor` has this line of a level, and that frames get through unless it is `fail`.
    #[track_caller]
    fn is(&self, level: &str, part: &str) {
        let said = self.agent.run("doctor", "").stdout;
        let begin = format!("{level:<5} filters");
        let found = said.lines().any(|line| line.starts_with(&begin) && line.contains(part));
        assert!(found, "no line \"{begin} … {part}\" in\n{said}");
        let fails = said.lines().any(|line| line.starts_with("fail  filters"));
        assert_eq!(fails, level == "fail", "{said}");
        let (asked, asking) = (&self.pods[0], &self.pods[1]);
        let address: IpAddr = asked.1.ip();
        let _echo = Echo::start(&asked.0, address);
        let answer = ping(&asking.0, address, if fails { DROPPED } else { AT_ONCE });
        assert_eq!(answer.is_none(), fails, "{part}: {answer:?}\n{said}");
    }
}

const PASSES: &str = "no firewall drops all frames between ports of octbr";

fn forward(family: &str, policy: &str, rules: &str) -> String {
    format!(
        "table {family} t {{\nchain other {{ }}\nchain fw {{\ntype filter hook forward priority 0; policy {policy};\n{rules}\n}}\n}}"
    )
}

#[test]
fn a_policy_of_drop_or_a_rule_that_drops_all_is_a_failure() {
    let scene = Scene::new();
    scene.is("ok", PASSES);
    scene.load(&forward("ip", "drop", ""));
    scene.is("fail", "chain fw of the nftables table ip t drops IPv4 packets");
    scene.is("fail", "policy drop");
    scene.calls(false);
    scene.is("ok", PASSES);
    scene.load(&forward("bridge", "drop", ""));
    scene.is("fail", "chain fw of the nftables table bridge t drops frames");
    scene.calls(true);
    let of_known = "ct state established,related accept\nct state untracked accept\nct state invalid drop\n";
    for (family, policy, rules, why) in [
        ("inet", "accept", "drop", "rule 1 of fw"),
        ("inet", "accept", "counter\nmeta nfproto ipv4 counter drop", "rule 2 of fw"),
        ("ip", "accept", "iifname \"octbr\" oifname \"octbr\" drop", "rule 1 of fw"),
        ("ip", "accept", "iifname \"oct*\" log reject", "rule 1 of fw"),
        (
            "ip",
            "drop",
            "iifname \"octbrx\" accept\niifname \"other\" oifname \"octbr\" accept",
            "policy drop",
        ),
        ("inet", "drop", of_known, "policy drop"),
        (
            "inet",
            "accept",
            &format!("{of_known}\njump other\nreject with icmpx admin-prohibited"),
            "rule 5 of fw",
        ),
        ("inet", "accept", "ct state new drop", "rule 1 of fw"),
        ("inet", "drop", "ct state != new accept", "policy drop"),
        ("ip", "drop", "iifname \"octbr\" oifname \"octbr\" ct state new accept", "of answers, policy drop"),
        ("ip", "drop", "tcp dport 9443 ct state new accept", "of answers, policy drop"),
        ("bridge", "accept", "oifname != \"enp6s0\" drop", "rule 1 of fw"),
    ] {
        scene.load(&forward(family, policy, rules));
        scene.is("fail", why);
    }
    let some = "table ip t {\nchain some {\ntype filter hook forward priority -1; policy drop;\nip saddr 172.23.0.0/24 accept\n}\n}";
    scene.load(&format!("{some}\n{}", forward("ip", "drop", "")));
    scene.is("fail", "chain fw of the nftables table ip t drops IPv4 packets");
}

#[test]
fn what_rules_let_through_is_no_failure() {
    let scene = Scene::new();
    for (family, policy, rules) in [
        ("ip", "accept", "tcp dport 22 drop\nct state invalid drop"),
        ("ip", "accept", "iifname != \"other\" goto other\n drop"),
        ("ip", "drop", "iifname \"octbr\" oifname \"octbr\" accept"),
        ("inet", "drop", "jump other\niifname \"oct*\" counter accept"),
        (
            "ip",
            "drop",
            "ct state established accept\niifname \"octbr\" oifname \"octbr\" ct state new accept",
        ),
        ("inet", "drop", "ct state new,established,related accept"),
        ("inet", "drop", "ct state != invalid accept"),
        ("inet", "accept", "iifname \"other\" drop\noifname != \"octbr\" drop"),
        ("inet", "accept", "meta nfproto ipv6 drop\nmeta l4proto tcp drop"),
        ("bridge", "accept", "iifname \"enp6s0\" drop"),
    ] {
        scene.load(&forward(family, policy, rules));
        scene.node.run(|| {
            std::fs::write("/proc/sys/net/bridge/bridge-nf-call-ip6tables", "0").expect("write the setting");
        });
        scene.is("ok", PASSES);
    }
    // What else the rules look at cannot be told beforehand.
    scene.load(&forward("ip", "drop", "ip saddr 172.23.0.0/24 accept"));
    scene.is("warn", "but for some that its rules accept");
    for rule in [
        "ct state vmap { established: accept, new: accept }",
        "ct state { new, established } accept",
        "meta mark 0 accept",
    ] {
        scene.load(&forward("ip", "drop", rule));
        scene.is("warn", "but for some that its rules accept");
    }
    scene.load(&forward("ip", "drop", "").replacen('{', "{\nflags dormant", 1));
    scene.is("ok", PASSES);
    scene.load("");
    // Networks of IPv4 need none of IPv6. A user's root cannot load modules.
    scene.sh("ip6tables-legacy -S >&2 || { echo 'this test needs a kernel with ip6tables: modprobe ip6table_filter' >&2; exit 1; }");
    scene.node.run(|| {
        std::fs::write("/proc/sys/net/bridge/bridge-nf-call-ip6tables", "1").expect("write the setting");
    });
    scene.load(&forward("ip6", "drop", ""));
    scene.is("warn", "drops IPv6 packets");
}

#[test]
fn firewalls_of_iptables_and_ebtables_are_seen_without_their_programs() {
    let scene = Scene::new();
    scene.sh("iptables-nft -P FORWARD DROP");
    scene.is("fail", "chain FORWARD of the nftables table ip filter");
    // As Docker and kube-proxy have it.
    scene.sh("iptables-nft -N DOCKER; iptables-nft -A FORWARD -j DOCKER
        iptables-nft -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
        iptables-nft -A DOCKER -m comment --comment forward -i other -j ACCEPT");
    scene.is("fail", "policy drop");
    scene.sh("iptables-nft -A FORWARD -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT");
    scene.is("warn", "but for some that its rules accept");
    scene.sh("iptables-nft -I FORWARD -i octbr -o octbr -m comment --comment octavia -j ACCEPT");
    scene.is("ok", PASSES);
    scene.sh("iptables-nft -F; iptables-nft -P FORWARD ACCEPT; iptables-nft -A FORWARD -j REJECT");
    scene.is("fail", "rule 1 of FORWARD");
    // As Suricata has it: another program decides, and all packets go on if none does.
    scene.sh(
        "iptables-nft -F; iptables-nft -P FORWARD DROP; iptables-nft -A FORWARD -j NFQUEUE --queue-bypass",
    );
    scene.is("warn", "but for some that its rules accept");
    scene.sh("iptables-nft -F; iptables-nft -P FORWARD ACCEPT; ebtables-nft -P FORWARD DROP");
    scene.is("fail", "table bridge filter drops frames");
    scene.sh("ebtables-nft -A FORWARD -j mark --mark-set 1");
    scene.is("warn", "table bridge filter drops frames");
    scene.sh("ebtables-nft -F");
    scene.sh("ebtables-nft -P FORWARD ACCEPT; iptables-legacy -P FORWARD DROP");
    scene.is("fail", "chain FORWARD of legacy iptables drops IPv4 packets (bridge-nf-call-iptables) between ports of octbr (");
    scene.sh("iptables-legacy -A FORWARD -m conntrack --ctstate NEW,ESTABLISHED -j ACCEPT");
    scene.is("warn", "between ports of octbr (policy DROP), but for some that its rules accept");
    scene.sh("iptables-legacy -F; iptables-legacy -P FORWARD ACCEPT; iptables-legacy -A FORWARD -j REJECT");
    scene.is("fail", "(rule -j REJECT");
    scene.sh("iptables-legacy -I FORWARD -i octbr -o octbr -j ACCEPT");
    scene.is("ok", PASSES);
    // Networks of IPv4 need none of IPv6.
    scene.sh("echo 1 > /proc/sys/net/bridge/bridge-nf-call-ip6tables; ip6tables-legacy -P FORWARD DROP");
    scene.is("warn", "chain FORWARD of legacy ip6tables drops IPv6 packets (bridge-nf-call-ip6tables)");
    scene.sh("ip6tables-legacy -I FORWARD -i octbr -o octbr -j ACCEPT");
    scene.is("ok", PASSES);
}
