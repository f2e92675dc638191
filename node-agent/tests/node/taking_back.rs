//! What a change that fails, or is refused, leaves: the node as it was, or words that say what differs.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::router::Router;
use crate::scene::{Node, POLICY, on_a_node, until};

/// The node's own NIC with its routes, and the router that they go by.
fn uplink(node: &Node) -> Router {
    let router = Router::new(node, "10.0.0.1/24");
    node.ip("link set enp6s0 up");
    node.ip("addr add 10.0.0.5/24 dev enp6s0 label enp6s0:a");
    node.ip("addr add 10.0.0.7/24 dev enp6s0");
    node.ip("addr add fd00::5/64 dev enp6s0 nodad");
    node.ip("route add default via 10.0.0.1");
    node.ip("route add 192.168.0.0/16 via 10.0.0.1 src 10.0.0.7 metric 50");
    node.ip("-6 route add fd02::/64 via fd00::1");
    router
}

fn snapshot(node: &Node) -> String {
    let v6 = node.ip("-6 -o addr show scope global");
    node.snapshot() + &v6 + &node.ip("-6 route show dev enp6s0 proto boot")
}

const WITHOUT_IPV4: &str =
    "interfaces: [{name: enp6s0, type: ethernet, state: up, ipv4: {enabled: false}, mtu: 1270}]";

#[test]
fn the_last_address_comes_back_with_all_routes_that_went_with_it() {
    on_a_node(|node| {
        let _router = uplink(node);
        let before = snapshot(node);
        let plan = node.ok("plan -f -", WITHOUT_IPV4);
        for line in [
            "remove the route 0.0.0.0/0 via 10.0.0.1 dev enp6s0 metric 0 table 254",
            "remove the route 192.168.0.0/16 via 10.0.0.1 dev enp6s0 metric 50 table 254",
            "remove fd00::5/64 from enp6s0",
            "could disconnect the node",
        ] {
            assert!(plan.contains(line), "{line}: {plan}");
        }
        let cut = node.run("apply -f -", WITHOUT_IPV4);
        assert_eq!(cut.status, 1, "{}{}", cut.stdout, cut.stderr);
        assert!(cut.stderr.contains("everything was put back as it was"), "{}", cut.stderr);
        assert_eq!(snapshot(node), before);
        assert!(!node.path("state/agent/journal.jsonl").exists());
    });
}

#[test]
fn a_link_local_address_that_others_gave_comes_back() {
    for change in
        ["mtu: 1270, ipv4: {enabled: false}", "state: down", "ipv6: {enabled: false}, ipv4: {enabled: false}"]
    {
        on_a_node(move |node| {
            let _router = uplink(node);
            node.ip("addr add fe80::1/64 dev enp6s0 nodad");
            let has_it = || node.ip("-6 -o addr show dev enp6s0").contains("fe80::1/64");
            let before = snapshot(node);
            let cut =
                node.run("apply -f -", &format!("interfaces: [{{name: enp6s0, type: ethernet, {change}}}]"));
            assert_eq!(cut.status, 1, "{change}: {}{}", cut.stdout, cut.stderr);
            assert!(cut.stderr.contains("everything was put back"), "{change}: {}", cut.stderr);
            assert!(has_it(), "{change}: {}", cut.stderr);
            assert_eq!(snapshot(node), before, "{change}");
        });
    }
}

#[test]
fn routes_of_others_stay_when_the_bridge_gets_another_address() {
    on_a_node(|node| {
        let policy = |last: &str| {
            format!(
                "interfaces: [{{name: octbr, type: linux-bridge, state: up, bridge: {{port: [{{name: enp6s0}}]}},
                  ipv4: {{enabled: true, address: [{{ip: 172.23.0.{last}, prefix-length: 24}}]}}}}]"
            )
        };
        node.ok("apply -f -", &policy("5"));
        node.ip("route add 10.99.0.0/16 via 172.23.0.150 dev octbr proto static mtu 1400");
        node.ip("route add 10.98.0.0/16 via 172.23.0.150 dev octbr src 172.23.0.5");
        let answer = node.run("apply -f -", &policy("6"));
        assert_eq!(answer.status, 0, "{}", answer.stderr);
        let routes = node.ip("route show");
        assert!(routes.contains("10.99.0.0/16 via 172.23.0.150 dev octbr proto static mtu 1400"), "{routes}");
        // Which nobody can keep, and so it is named.
        assert!(!routes.contains("10.98.0.0/16"), "{routes}");
        assert!(
            answer.stderr.contains("10.98.0.0/16") && answer.stderr.contains("172.23.0.5 is gone"),
            "{}",
            answer.stderr
        );
        assert_eq!(node.ok("plan -f -", &policy("6")), "nothing to do\n");
    });
}

#[test]
fn what_cannot_be_put_back_is_told_and_has_a_status_of_its_own() {
    on_a_node(|node| {
        let _router = uplink(node);
        let policy = node.path("policy.yaml");
        std::fs::write(&policy, WITHOUT_IPV4).unwrap();
        let mut agent = node.agent(&format!("apply -f {}", policy.display()));
        agent.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let agent = agent.spawn().unwrap();
        until(Duration::from_secs(10), "the change", || {
            !node.ip("-4 addr show dev enp6s0").contains("inet ")
        });
        // Meanwhile somebody takes what the routes need, and nobody else may give it back.
        node.ip("link set enp6s0 down");
        let output = agent.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(4), "{stderr}");
        assert!(stderr.contains("the node is not as it was"), "{stderr}");
        assert!(
            stderr.contains("the route 0.0.0.0/0 via 10.0.0.1 dev enp6s0 metric 0 table 254 is missing"),
            "{stderr}"
        );
        assert!(stderr.contains("the state of enp6s0 is down, not up"), "{stderr}");
        assert!(!node.path("state/agent/journal.jsonl").exists(), "one attempt");
        // What has nothing to do with the lost route is done.
        node.ip("link add eth1 type veth peer name eth1-wire");
        node.ok("apply -f -", &POLICY.replace("enp6s0", "eth1"));
    });
}

/// What answered before the first try has to answer after the next.
#[test]
fn a_second_try_after_a_lost_default_route_is_guarded_as_well() {
    on_a_node(|node| {
        let router = uplink(node);
        let policy = node.path("policy.yaml");
        std::fs::write(&policy, WITHOUT_IPV4).unwrap();
        let mut agent = node.agent(&format!("apply -f {}", policy.display()));
        agent.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let agent = agent.spawn().unwrap();
        until(Duration::from_secs(10), "the change", || {
            !node.ip("-4 addr show dev enp6s0").contains("inet ")
        });
        node.ip("link set enp6s0 down");
        assert_eq!(agent.wait_with_output().unwrap().status.code(), Some(4));
        assert_eq!(node.ip("route show default"), "");
        node.ip("link set enp6s0 up");
        let before = snapshot(node);
        let again = node.run("apply -f -", WITHOUT_IPV4);
        assert_eq!(again.status, 1, "{}{}", again.stdout, again.stderr);
        assert!(again.stderr.contains("no answer from the gateway 10.0.0.1 within"), "{}", again.stderr);
        assert_eq!(snapshot(node), before);
        // One that heals the node passes, although nobody answers before it.
        router.ip("addr del 10.0.0.1/24 dev wire");
        router.ip("addr add 10.0.0.1/25 dev wire");
        node.ip("addr flush dev enp6s0");
        let heals = "{interfaces: [{name: enp6s0, type: ethernet, state: up, mtu: 1400,
              ipv4: {enabled: true, address: [{ip: 10.0.0.5, prefix-length: 25}]}}],
              routes: {config: [{destination: 0.0.0.0/0, next-hop-address: 10.0.0.1, next-hop-interface: enp6s0}]}}";
        node.ok("apply -f -", heals);
        assert!(node.ip("route show default").contains("via 10.0.0.1"));
    });
}

#[test]
fn an_output_that_nobody_reads_changes_no_status() {
    on_a_node(|node| {
        for (words, yaml) in [("apply -f -", POLICY), ("remove", "")] {
            std::fs::write(node.path("input"), yaml).unwrap();
            let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
            let mut agent = node.agent(words);
            agent.stdin(std::fs::File::open(node.path("input")).unwrap());
            agent.stdout(full.try_clone().unwrap()).stderr(full);
            assert_eq!(agent.status().unwrap().code(), Some(0), "{words}");
            assert_eq!(node.link("octbr").is_some(), words != "remove");
        }
    });
}

#[test]
fn a_log_that_cannot_be_written_ends_no_agent() {
    on_a_node(|node| {
        let (reader, writer) = std::io::pipe().unwrap();
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        drop(reader);
        for log in [Stdio::from(full), Stdio::from(writer)] {
            std::fs::write(node.path("policy.yaml"), POLICY).unwrap();
            let mut agent =
                node.agent(&format!("run --health-bind none -f {}", node.path("policy.yaml").display()));
            agent.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
            let mut daemon = crate::scene::Daemon(agent.spawn().unwrap());
            until(Duration::from_secs(10), "the bridge", || crate::scene::complete(node));
            node.ip("link set octbr down");
            until(Duration::from_secs(10), "the repair", || crate::scene::complete(node));
            assert_eq!(daemon.stop(), Some(0));
            node.ok("remove", "");
        }
    });
}

/// Only a new policy needs the disk.
#[test]
fn a_full_disk_keeps_nothing_from_being_repaired() {
    on_a_node(|node| {
        std::fs::create_dir_all(node.path("state")).unwrap();
        let state = node.path("state").display().to_string();
        let mount = |words: &str| {
            assert!(
                Command::new("mount").args(words.split(' ')).arg(&state).status().unwrap().success(),
                "{words}"
            );
        };
        mount("-t tmpfs -o size=64k tmpfs");
        std::fs::write(node.path("policy.yaml"), POLICY).unwrap();
        node.ok(&format!("apply -f {}", node.path("policy.yaml").display()), "");
        assert!(std::fs::write(format!("{state}/fill"), vec![0; 1 << 20]).is_err(), "the disk is not full");
        let run = format!("run --health-bind none -f {}", node.path("policy.yaml").display());
        let mut daemon = node.start(&run);
        for damage in ["link set octbr down", "link del octbr"] {
            until(Duration::from_secs(10), "the start", || crate::scene::complete(node));
            node.ip(damage);
            until(Duration::from_secs(10), damage, || crate::scene::complete(node));
        }
        // Not for the moment of the repair alone, whose own events make the agent look again.
        std::thread::sleep(Duration::from_secs(1));
        let without = "note  policy   changes are made without a journal";
        let ready = node.run("health ready", "").stdout;
        assert!(ready.contains(without) && ready.contains("ok    policy"), "{ready}");
        let fill = format!("{state}/fill");
        std::fs::remove_file(&fill).unwrap();
        node.ip("link set octbr down");
        until(Duration::from_secs(10), "a journal again", || {
            crate::scene::complete(node) && !node.run("health ready", "").stdout.contains(without)
        });
        assert!(std::fs::write(&fill, vec![0; 1 << 20]).is_err(), "the disk is not full");
        // A new one is refused, and the old one stays.
        let other = POLICY.replace("1500", "1400");
        assert_eq!(daemon.stop(), Some(0));
        let refused = node.run("apply -f -", &other);
        assert_eq!(refused.status, 1, "{}", refused.stderr);
        assert!(refused.stderr.contains("No space left on device"), "{}", refused.stderr);
        node.ip("link set octbr down");
        node.ok("apply", "");
        assert!(crate::scene::complete(node));
        mount("-o remount,ro,size=64k");
        node.ip("link set octbr down");
        node.ok("apply", "");
        assert!(crate::scene::complete(node));
        assert!(Command::new("umount").arg(&state).status().unwrap().success());
    });
}

/// Each try is an outage of ten seconds.
#[test]
fn a_policy_that_cut_the_node_off_is_not_tried_again_by_itself() {
    on_a_node(|node| {
        let router = uplink(node);
        node.ip("link add eth1 type veth peer name eth1-wire");
        let good =
            "interfaces: [{name: octbr, type: linux-bridge, state: up, bridge: {port: [{name: eth1}]}}]";
        let bad = format!("{good}\n---\n{WITHOUT_IPV4}");
        let policy = node.path("policy.yaml");
        std::fs::write(&policy, good).unwrap();
        node.ok(&format!("apply -f {}", policy.display()), "");
        let before = snapshot(node);
        std::fs::write(&policy, bad).unwrap();
        let run = format!("run --health-bind none -f {}", policy.display());
        let tries = |log: &str| log.matches("within 10 s after the change").count();
        let is_back = || node.log().contains("not tried again") && snapshot(node) == before;

        let mut daemon = node.start(&run);
        until(Duration::from_secs(30), "the first try and its end", is_back);
        // Neither by a retry, nor by an event, and what was in force before is kept.
        for _ in 0..3 {
            node.ip("link set octbr down");
            until(Duration::from_secs(10), "the repair", || snapshot(node) == before);
            std::thread::sleep(Duration::from_secs(3));
            assert_eq!(snapshot(node), before);
        }
        let ready = node.run("health ready", "").stdout;
        assert!(ready.contains("a newer one has no effect") && ready.contains("not tried again"), "{ready}");
        assert!(node.log().contains("not tried again"));
        assert_eq!(daemon.stop(), Some(0));

        let mut daemon = node.start(&run);
        until(Duration::from_secs(10), "the next process knows", || node.log().contains("not tried again"));
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(snapshot(node), before, "{}", node.log());
        // Somebody asks for it, and it is well by now.
        router.ip("addr add fd00::1/64 dev wire nodad");
        daemon.signal(nix::sys::signal::Signal::SIGHUP);
        until(Duration::from_secs(10), "the second try", || {
            !node.ip("-4 addr show dev enp6s0").contains("inet ")
        });
        until(Duration::from_secs(30), "and its end", || snapshot(node) == before);
        assert!(tries(&node.log()) <= 2, "{}", node.log());
        assert_eq!(daemon.stop(), Some(0));
    });
}
