//! plan, apply, show, remove.

use std::time::Duration;

use octavia_bridge_netlink::{EventGroups, Netlink};
use tokio::time::timeout;

use crate::scene::{POLICY, on_a_node};

#[test]
fn a_bridge_is_made_with_all_that_keeps_it_safe() {
    on_a_node(|node| {
        assert_eq!(node.run("plan -f - --check", POLICY).status, 3);
        assert!(node.link("octbr").is_none(), "planning does nothing");
        node.ok("apply -f -", POLICY);
        let (octbr, uplink) = (node.link("octbr").unwrap(), node.link("enp6s0").unwrap());
        assert_eq!(octbr["address"], uplink["address"]);
        assert_eq!(octbr["ifalias"], "octavia-bridge: Configuring bridge octbr");
        assert_eq!(octbr["linkinfo"]["info_data"]["stp_state"], 0);
        assert_eq!(uplink["master"], "octbr");
        for link in [&octbr, &uplink] {
            assert!(link["flags"].as_array().unwrap().contains(&"UP".into()), "{link}");
        }
        assert_eq!(octbr["addr_info"], serde_json::json!([]), "not even a link-local address");
        // A pod with a lower MAC and a smaller MTU changes neither of the bridge's.
        node.pod("veth1");
        let with_pod = node.link("octbr").unwrap();
        assert_eq!((&with_pod["address"], &with_pod["mtu"]), (&octbr["address"], &1500.into()));
    });
}

#[test]
fn applied_again_nothing_is_written_and_pods_stay() {
    on_a_node(|node| {
        node.ok("apply -f -", POLICY);
        node.pod("veth1");
        let before = node.snapshot();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let netlink = Netlink::open().await.unwrap();
            let mut events = netlink.events(EventGroups::ALL).await.unwrap();
            let pause = Duration::from_millis(300);
            // The pod's own events pass first.
            while timeout(pause, events.next()).await.is_ok() {}
            for _ in 0..20 {
                assert_eq!(node.ok("apply -f -", POLICY), "nothing to do\n");
            }
            let mut heard = Vec::new();
            while let Ok(event) = timeout(pause, events.next()).await {
                heard.push(format!("{event:?}"));
            }
            // The kernel tells seconds later that its own addresses are nobody else's.
            heard.retain(|event| !event.contains("fe80:"));
            assert!(heard.is_empty(), "{heard:?}");
        });
        assert_eq!(node.snapshot(), before);
    });
}

#[test]
fn what_show_prints_is_a_policy_that_changes_nothing() {
    on_a_node(|node| {
        node.ok("apply -f -", POLICY);
        node.pod("veth1");
        node.ip("addr add 10.1.1.1/24 dev wire");
        node.ip("route add 10.2.0.0/16 via 10.1.1.9 metric 7");
        for form in ["show", "show --json"] {
            let shown = node.ok(form, "");
            assert_eq!(node.ok("plan -f - --check", &shown), "nothing to do\n", "{shown}");
            assert!(shown.contains("octbr") && shown.contains("10.2.0.0/16"), "{shown}");
        }
        let plan: serde_json::Value = serde_json::from_str(&node.ok("plan --json", "")).unwrap();
        assert_eq!((&plan["version"], &plan["steps"]), (&1.into(), &serde_json::json!([])), "{plan}");
    });
}

#[test]
fn addresses_and_routes_come_and_go_with_ours_only() {
    on_a_node(|node| {
        let policy = r"
interfaces:
- {name: enp6s0, type: ethernet, ipv4: {enabled: true, address: [{ip: 10.1.1.1, prefix-length: 24}]}}
- {name: lo, ipv4: {enabled: true, address: [{ip: 10.9.9.9, prefix-length: 32}]}}
routes:
  config:
  - {destination: 10.2.0.0/16, next-hop-address: 10.1.1.9, next-hop-interface: enp6s0, metric: 150}
  - {destination: 10.3.0.0/16, next-hop-address: 10.1.1.7, next-hop-interface: enp6s0, weight: 1, table-id: 10}
  - {destination: 10.3.0.0/16, next-hop-address: 10.1.1.8, next-hop-interface: enp6s0, weight: 2, table-id: 10}
";
        node.ip("link set enp6s0 up");
        node.ip("addr add 10.1.5.1/24 dev enp6s0");
        node.ip("route add 10.4.0.0/16 via 10.1.5.9");
        node.ok("apply -f -", policy);
        let routes = node.ip("route show table all");
        for part in
            ["10.2.0.0/16 via 10.1.1.9 dev enp6s0 proto 79 metric 150", "10.3.0.0/16 table 10", "weight 2"]
        {
            assert!(routes.contains(part), "{part}: {routes}");
        }
        assert!(node.ip("addr show enp6s0").contains("10.1.5.1/24"), "an address of the host's stays");
        assert_eq!(node.ok("apply -f -", policy), "nothing to do\n");
        node.ok("remove", "");
        let left = node.ip("route show table all");
        assert!(
            left.contains("10.4.0.0/16") && !left.contains("10.2.0.0/16") && !left.contains("10.3.0.0/16"),
            "{left}"
        );
    });
}

#[test]
fn remove_takes_what_is_ours_and_spares_a_bridge_with_pods() {
    on_a_node(|node| {
        let before = node.snapshot();
        node.ok("apply -f -", POLICY);
        node.pod("veth1");
        let refused = node.run("remove", "");
        assert_eq!(refused.status, 1);
        assert!(
            refused.stderr.contains("octbr cannot be deleted: veth1 would be cut off"),
            "{}",
            refused.stderr
        );
        assert!(node.link("octbr").is_some());
        node.ip("link del veth1");
        node.ok("remove", "");
        node.ip("link set enp6s0 down");
        assert_eq!(node.snapshot(), before);
        assert_eq!(node.ok("remove", ""), "nothing to do\n");
        assert_eq!(node.run("apply", "").status, 2, "nothing is kept any more");
    });
}

/// On a kernel with 8021q the policy works, on another it fails half-way and leaves no trace.
#[test]
fn the_octavia_policy_works_or_names_the_missing_module() {
    on_a_node(|node| {
        let kernel_has_vlans = node.kernel_makes("link enp6s0 name probe type vlan id 99");
        let before = node.snapshot();
        let answer = node.run("apply -f -", include_str!("../fixtures/octavia.yaml"));
        assert_eq!(answer.status == 0, kernel_has_vlans, "{}", answer.stderr);
        if kernel_has_vlans {
            let vlan = node.link("enp6s0.24").unwrap();
            assert_eq!(
                (&vlan["linkinfo"]["info_data"]["id"], &vlan["master"]),
                (&24.into(), &"octbr".into())
            );
            return;
        }
        assert_eq!(answer.status, 1);
        for part in ["create enp6s0.24 (VLAN 24 on enp6s0)", "8021q is missing", "everything was put back"] {
            assert!(answer.stderr.contains(part), "{part}: {}", answer.stderr);
        }
        assert_eq!(node.snapshot(), before);
    });
}

#[test]
fn a_vrf_works_where_the_kernel_has_them_and_else_the_module_is_named() {
    on_a_node(|node| {
        let kernel_has_vrfs = node.kernel_makes("name probe type vrf table 11");
        let answer = node.run(
            "apply -f -",
            "interfaces: [{name: red, type: vrf, vrf: {port: [enp6s0], route-table-id: 10}}]",
        );
        assert_eq!(answer.status == 0, kernel_has_vrfs, "{}", answer.stderr);
        if kernel_has_vrfs {
            assert_eq!(node.link("enp6s0").unwrap()["master"], "red");
        } else {
            assert!(answer.stderr.contains("module vrf is missing"), "{}", answer.stderr);
        }
    });
}

/// No policy may ask for it, so that what is shown could not be planned.
#[test]
fn a_loopback_that_is_down_is_not_shown() {
    on_a_node(|node| {
        node.ip("link set lo down");
        let shown = node.ok("show", "");
        assert!(!shown.contains("name: lo\n"), "{shown}");
        assert_eq!(node.run("plan --check -f -", &shown).status, 0);
    });
}
