//! Options of VLANs, and a node's whole network as RHOSO's documentation lays it out, beside Octavia's bridge.

use octavia_bridge_tests::changes::until;
use octavia_bridge_tests::{Agent, Lab, conf};

use crate::nodes::{PATIENCE, POLICY, attach, call, two_nodes};

/// A policy for VLAN 30 with these keys.
fn vlan(keys: &str) -> String {
    format!("interfaces: [{{name: storage, type: vlan, vlan: {{base-iface: enp6s0, id: 30, {keys}}}}}]")
}

/// The flags that the kernel has for it, as `ip` names them.
fn flags(node: &Agent) -> Vec<String> {
    let link = node.ip_json("-d link show dev storage").remove(0);
    let flags = link["linkinfo"]["info_data"]["flags"].as_array().cloned().unwrap_or_default();
    flags.iter().filter_map(|flag| flag.as_str().map(ToOwned::to_owned)).collect()
}

#[test]
fn options_of_a_vlan_are_set_changed_and_shown() {
    let lab = Lab::new();
    let [first, _second] = two_nodes(&lab);
    let node = Agent::on(&first, "node1");
    for (keys, expected) in [
        ("reorder-headers: true", &["REORDER_HDR"][..]),
        ("reorder-headers: false", &[]),
        ("reorder-headers: false, loose-binding: true", &["LOOSE_BINDING"]),
        ("registration-protocol: gvrp", &["GVRP", "LOOSE_BINDING"]),
        (
            "registration-protocol: mvrp, reorder-headers: true, loose-binding: false",
            &["REORDER_HDR", "MVRP"],
        ),
        ("registration-protocol: none", &["REORDER_HDR"]),
    ] {
        node.ok("apply", &vlan(keys));
        assert_eq!(flags(&node), expected, "{keys}");
        assert_eq!(node.ok("apply", &vlan(keys)), "nothing to do\n", "{keys}");
    }
    let other = "reorder-headers: false, loose-binding: true, registration-protocol: gvrp";
    node.ok("apply", &vlan(other));
    let state = node.ok("show", "");
    for key in ["reorder-headers: false", "loose-binding: true", "registration-protocol: gvrp"] {
        assert!(state.contains(key), "{key} in {state}");
    }
    // Another id: a new link, with the options from its first moment.
    let index = node.expect_link("storage").index();
    node.ok("apply", &vlan(other).replace("id: 30", "id: 31"));
    assert_ne!(node.expect_link("storage").index(), index);
    assert_eq!(flags(&node), ["GVRP", "LOOSE_BINDING"]);
}

#[test]
fn options_of_a_vlan_are_kept_and_a_failed_change_gives_them_back() {
    let lab = Lab::new();
    let [first, _second] = two_nodes(&lab);
    let node = Agent::on(&first, "node1");
    let policy = vlan("reorder-headers: false, loose-binding: true, registration-protocol: mvrp");
    let expected = ["MVRP", "LOOSE_BINDING"];
    node.ok("apply", &policy);
    assert_eq!(flags(&node), expected);
    // The kernel refuses this gateway.
    let fails = vlan("reorder-headers: true, loose-binding: false, registration-protocol: gvrp")
        + "\nroutes: {config: [{destination: 10.2.0.0/16, next-hop-interface: storage, next-hop-address: 10.9.9.9}]}";
    node.fails(1, "apply", &fails, &["everything was put back as it was"]);
    assert_eq!(flags(&node), expected);

    let mut keeper = node.keep(&policy);
    for drift in ["reorder_hdr on", "loose_binding off", "gvrp on", "mvrp off"] {
        // A pause, so that they are not taken for a fight.
        std::thread::sleep(std::time::Duration::from_millis(2100));
        node.ip(&format!("link set storage type vlan {drift}"));
        until(PATIENCE, drift, || flags(&node) == expected);
    }
    assert_eq!(keeper.stop(), Some(0));
}

/// Control plane on the NIC itself, three VLANs with addresses, and the bridge for Octavia.
const NODE: &str = r"
apiVersion: nmstate.io/v1
kind: NodeNetworkConfigurationPolicy
metadata: {name: worker-0}
spec:
  desiredState:
    interfaces:
    - description: internal API
      name: internalapi
      type: vlan
      state: up
      ipv4: {enabled: true, dhcp: false, address: [{ip: 172.17.0.10, prefix-length: 24}]}
      ipv6: {enabled: false}
      vlan: {base-iface: enp6s0, id: '20', reorder-headers: true}
    - description: storage
      name: storage
      type: vlan
      state: up
      ipv4: {enabled: true, dhcp: false, address: [{ip: 172.18.0.10, prefix-length: 24}]}
      ipv6: {enabled: false}
      vlan: {base-iface: enp6s0, id: 21, reorder-headers: true}
    - description: tenant
      name: tenant
      type: vlan
      state: up
      ipv4: {enabled: true, dhcp: false, address: [{ip: 172.19.0.10, prefix-length: 24}]}
      ipv6: {enabled: false}
      vlan: {base-iface: enp6s0, id: 22, reorder-headers: true}
    - description: control plane
      name: enp6s0
      type: ethernet
      state: up
      mtu: 1500
      ipv4: {enabled: true, dhcp: false, address: [{ip: 192.168.122.10, prefix-length: 24}]}
      ipv6: {enabled: false}
    dns-resolver: {config: {search: [], server: [192.168.122.1]}}
    route-rules: {config: []}
    routes: {config: []}
";

#[test]
fn the_network_of_a_node_and_octavias_bridge_come_up_together() {
    let lab = Lab::new();
    let nodes = two_nodes(&lab);
    let mut agents = Vec::new();
    for (number, node) in nodes.iter().enumerate() {
        let agent = Agent::on(node, &format!("node{}", number + 1));
        let own = NODE.replace(".10, prefix", &format!(".{}, prefix", 10 + number));
        let both = format!("{own}---\n{POLICY}");
        agent.ok("apply --all-policies", &both);
        assert_eq!(agent.ok("apply --all-policies", &both), "nothing to do\n");
        for name in ["internalapi", "storage", "tenant", "enp6s0"] {
            assert_eq!(agent.expect_link(name).addresses().len(), 1, "{name}");
        }
        agents.push(agent);
    }
    for network in ["172.17.0", "172.18.0", "172.19.0", "192.168.122"] {
        call(&agents[0], &agents[1], format!("{network}.11").parse().unwrap());
    }
    let (worker, _) = attach(&agents[0], "worker", &conf::octavia());
    let (manager, there) = attach(&agents[1], "healthmanager", &conf::octavia());
    call(&worker, &manager, there.ip());
}
