//! Who is asked whether a change has cut the node off.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::router::Router;
use crate::scene::{AGENT, Daemon, Node, on_a_node, until};

const SOON: Duration = Duration::from_secs(20);

const MTU: &str = "interfaces: [{name: enp6s0, type: ethernet, mtu: 1400}]";
const NO_IPV4: &str = "interfaces: [{name: enp6s0, type: ethernet, ipv4: {enabled: false}}]";
const SILENT: &str = "within 10 s after the change";
const HINT: &str = " (to ask another host instead, use --reach HOST:PORT)";

pub(crate) fn uplink(node: &Node) -> Router {
    let router = Router::new(node, "10.0.0.1/24");
    node.ip("link set enp6s0 up");
    node.ip("addr add 10.0.0.5/24 dev enp6s0");
    router
}

/// The hardware address of a link as `ip link show` prints it.
pub(crate) fn mac(text: &str) -> &str {
    text.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap()
}

/// Drops what comes to the port without a word, as a firewall does.
fn drop_tcp(router: &Router, port: u16) {
    router.ip("rule add pref 100 lookup local");
    router.ip("rule del pref 0");
    router.ip(&format!("rule add pref 10 iif wire ipproto tcp dport {port} blackhole"));
}

/// By no gateway's fault, as when the user named somebody.
#[track_caller]
fn is_cut(node: &Node, words: &str, yaml: &str, who: &str, hint: &str) {
    // The kernel notes some time after a carrier has come that its routes have one.
    let state = || node.snapshot().replace(" linkdown", "");
    let before = state();
    let cut = node.run(words, yaml);
    assert_eq!(cut.status, 1, "{}{}", cut.stdout, cut.stderr);
    let text = format!("no answer from {who} {SILENT}{hint}; everything was put back as it was");
    assert!(cut.stderr.contains(&text), "{text}: {}", cut.stderr);
    assert_eq!(state(), before);
}

#[track_caller]
pub(crate) fn is_taken_back(node: &Node, words: &str, yaml: &str, who: &str) {
    is_cut(node, words, yaml, who, HINT);
}

#[test]
fn a_gateway_with_a_firewall_answers_as_a_neighbour() {
    on_a_node(|node| {
        let router = uplink(node);
        drop_tcp(&router, 9);
        node.ip("route add default via 10.0.0.1");
        node.ok("apply -f -", MTU);
        is_taken_back(node, "apply -f -", NO_IPV4, "the gateway 10.0.0.1");
    });
}

/// As providers have it that give a node one address and no subnet.
#[test]
fn a_gateway_that_no_address_reaches_is_asked_on_the_link_of_its_route() {
    on_a_node(|node| {
        let router = Router::new(node, "10.0.0.1/24");
        drop_tcp(&router, 9);
        node.ip("link set enp6s0 up");
        node.ip("addr add 10.0.0.5/32 dev enp6s0");
        node.ip("route add default via 10.0.0.1 dev enp6s0 onlink");
        node.ok("apply -f -", MTU);
        is_taken_back(node, "apply -f -", NO_IPV4, "the gateway 10.0.0.1");
    });
}

/// Both ends have stated each other's hardware address.
#[test]
fn a_gateway_that_does_not_speak_arp_is_asked_by_tcp() {
    on_a_node(|node| {
        let router = uplink(node);
        node.ip("route add default via 10.0.0.1");
        let own = node.ip("link show dev enp6s0");
        let own = mac(&own);
        router.ip("link set wire arp off");
        router.ip(&format!("neigh replace 10.0.0.5 lladdr {own} nud permanent dev wire"));
        let refused = node.run("apply -f -", MTU);
        assert_eq!(refused.status, 1);
        assert!(
            refused.stderr.contains("the gateway 10.0.0.1 does not answer even before"),
            "{}",
            refused.stderr
        );
        let others = router.text("link show dev wire");
        node.ip(&format!("neigh replace 10.0.0.1 lladdr {} nud permanent dev enp6s0", mac(&others)));
        node.ok("apply -f -", MTU);
        assert!(node.ip("neigh show dev enp6s0").contains("PERMANENT"), "it is the administrator's");
        is_taken_back(node, "apply -f -", NO_IPV4, "10.0.0.1:9");
    });
}

#[test]
fn gateways_of_both_families_have_to_answer_also_link_local_ones() {
    on_a_node(|node| {
        let router = uplink(node);
        router.ip("addr add fe80::1/64 dev wire nodad");
        node.ip("-6 route add default via fe80::1 dev enp6s0");
        let has_link_local = || {
            let text = node.ip("-6 addr show dev enp6s0 scope link");
            text.contains("fe80::") && !text.contains("tentative")
        };
        until(SOON, "duplicate address detection", has_link_local);
        node.ok("apply -f -", MTU);
        let no_ipv6 = "interfaces: [{name: enp6s0, type: ethernet, ipv6: {enabled: false}}]";
        is_taken_back(node, "apply -f -", no_ipv6, "the gateway fe80::1");
        node.ip("route add default via 10.0.0.1");
        until(SOON, "duplicate address detection", has_link_local);
        // The gateway of the other family answers, which is not enough.
        is_taken_back(node, "apply -f -", NO_IPV4, "the gateway 10.0.0.1");
        // Its link is another one afterwards.
        until(SOON, "duplicate address detection", has_link_local);
        let bridge = "{interfaces: [{name: br0, type: linux-bridge, bridge: {port: [{name: enp6s0}]},
              ipv4: {enabled: true, address: [{ip: 10.0.0.5, prefix-length: 24}]}, ipv6: {enabled: true}}],
            routes: {config: [{destination: 0.0.0.0/0, next-hop-address: 10.0.0.1, next-hop-interface: br0},
              {destination: '::/0', next-hop-address: 'fe80::1', next-hop-interface: br0}]}}";
        node.ok("apply -f -", bridge);
        assert_eq!(node.link("enp6s0").unwrap()["master"], "br0");
    });
}

#[test]
fn what_cuts_nothing_is_not_guarded() {
    on_a_node(|node| {
        node.ip("link set enp6s0 up");
        node.ip("addr add 10.0.0.5/24 dev enp6s0");
        let config = |metric: u32, gateway: &str| {
            format!(
                "routes: {{config: [{{destination: 0.0.0.0/0, next-hop-address: {gateway}, next-hop-interface: enp6s0, metric: {metric}}}]}}"
            )
        };
        // Nobody answers there.
        node.ok("apply -f -", &config(100, "10.0.0.1"));
        node.ok("apply -f -", &config(150, "10.0.0.2"));
        // A better one takes its place.
        is_taken_back(node, "apply -f -", &config(50, "10.0.0.3"), "the gateway 10.0.0.3");
    });
}

/// 10.50.0.1 is behind the router; a route by a host that is not there cuts the way to it, and no default route.
fn far(node: &Node) -> Router {
    let router = uplink(node);
    router.ip("addr add 10.50.0.1/32 dev lo");
    node.ip("route add default via 10.0.0.1");
    router
}

const DETOUR: &str = "routes: {config: [{destination: 10.50.0.0/16, next-hop-address: 10.0.0.77, next-hop-interface: enp6s0}]}";

#[test]
fn what_the_user_names_is_asked_wherever_the_way_to_it_could_be_cut() {
    on_a_node(|node| {
        let _router = far(node);
        node.ok("plan -f -", DETOUR);
        is_cut(node, "apply -f - --reach 10.50.0.1:443", DETOUR, "10.50.0.1:443", "");
        let other = DETOUR.replace("10.50", "10.51");
        node.ok("apply -f - --reach 10.50.0.1:443", &other);
        let silent = node.run("apply -f - --reach 10.50.0.2:443", DETOUR);
        assert_eq!(silent.status, 1);
        assert!(
            silent.stderr.contains("10.50.0.2:443 does not answer even before the change"),
            "{}",
            silent.stderr
        );
        assert_eq!(node.run("apply -f - --reach 10.50.0.1", DETOUR).status, 2);

        // A name, resolved before the change.
        fs::write(node.path("hosts"), "10.50.0.1 far.example\n").unwrap();
        fs::write(node.path("policy.yaml"), DETOUR).unwrap();
        let script = format!(
            "mount --bind {hosts} /etc/hosts && exec {AGENT} apply -f {policy} --reach far.example:443 --state-dir {state} --nmstate-lock {lock}",
            hosts = node.path("hosts").display(),
            policy = node.path("policy.yaml").display(),
            state = node.path("state").display(),
            lock = node.path("lock").display(),
        );
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-c", &script])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(&format!("no answer from far.example:443 (10.50.0.1) {SILENT}")), "{stderr}");
    });
}

/// The agent of a cluster whose API server is 10.50.0.1.
fn in_a_cluster(node: &Node, policy: &str) -> Daemon {
    let kubeconfig = "{apiVersion: v1, kind: Config, current-context: c, \
        clusters: [{name: k, cluster: {server: 'http://10.50.0.1:6443'}}], \
        contexts: [{name: c, context: {cluster: k, user: u}}], users: [{name: u, user: {}}]}";
    fs::write(node.path("kubeconfig"), kubeconfig).unwrap();
    fs::write(node.path("policy.yaml"), policy).unwrap();
    node.start(&format!(
        "run --cluster --node-name n --kubeconfig {} --socket {} --health-bind none -f {}",
        node.path("kubeconfig").display(),
        node.path("agent.sock").display(),
        node.path("policy.yaml").display(),
    ))
}

#[test]
fn in_a_cluster_the_api_server_has_to_answer_by_a_new_connection() {
    on_a_node(|node| {
        let _router = far(node);
        let before = node.snapshot();
        let mut daemon = in_a_cluster(node, DETOUR);
        let text = format!("no answer from 10.50.0.1:6443 {SILENT}");
        until(Duration::from_secs(60), "it is taken back", || node.log().contains(&text));
        until(SOON, "as before", || node.snapshot() == before);
        // Each try is an outage.
        std::thread::sleep(Duration::from_secs(8));
        assert_eq!(node.snapshot(), before);
        assert!(node.log().contains("not tried again"), "{}", node.log());
        assert_eq!(daemon.stop(), Some(0));
    });
}

/// It may be on this node, or its service's address may be translated to one that is.
#[test]
fn the_api_server_alone_is_not_enough() {
    on_a_node(|node| {
        let router = uplink(node);
        router.ip("addr add 10.50.0.1/32 dev lo");
        node.ip("route add 10.50.0.0/16 via 10.0.0.1");
        // Nobody has this address.
        node.ip("route add default via 10.0.0.9");
        let before = node.snapshot();
        let mut daemon = in_a_cluster(node, MTU);
        let text = "the gateway 10.0.0.9 does not answer even before the change";
        until(Duration::from_secs(60), "it is refused", || node.log().contains(text));
        assert_eq!(node.snapshot(), before);
        assert_eq!(daemon.stop(), Some(0));
    });
}

#[test]
fn what_others_do_while_gateways_are_asked_is_theirs() {
    on_a_node(|node| {
        let _router = uplink(node);
        node.ip("route add default via 10.0.0.1");
        node.ip("addr add fd00::5/64 dev enp6s0 nodad");
        // Nobody has this address, which takes seconds to find out.
        node.ip("-6 route add default via fd00::9 dev enp6s0");
        let policy = NO_IPV4.replace("type: ethernet", "type: ethernet, mtu: 1400");
        fs::write(node.path("policy.yaml"), policy).unwrap();
        let mut agent = node.agent(&format!("apply -f {}", node.path("policy.yaml").display()));
        let agent = agent.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        until(SOON, "it is asked", || node.ip("neigh show fd00::9 dev enp6s0").contains("INCOMPLETE"));
        node.ip("addr add fd00::77/64 dev enp6s0 nodad");
        let output = agent.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        let text =
            format!("no answer from the gateway 10.0.0.1 {SILENT}{HINT}; everything was put back as it was");
        assert!(stderr.contains(&text), "{stderr}");
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(node.ip("-6 addr show dev enp6s0").contains("fd00::77"));
    });
}
