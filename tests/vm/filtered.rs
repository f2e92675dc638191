//! Port VLANs of a policy: one bridge over a trunk, whose ports are in VLANs.

use octavia_bridge_tests::traffic::{Echo, expect_answer, ping};
use octavia_bridge_tests::{Agent, Lab, Node};
use serde_json::Value;

use crate::nodes::{PATIENCE, SILENCE, attach, two_kept_nodes};
use crate::port_vlans::{bridge, in_vlan, vlans};

/// A bridge over the trunk itself, with this section for its uplink.
fn policy(vlan: &str) -> String {
    format!(
        "interfaces: [{{name: octbr, type: linux-bridge, bridge: {{options: {{stp: {{enabled: false}}}}, port: [{{name: enp6s0, vlan: {vlan}}}]}}}}]"
    )
}

fn filters(node: &Agent) -> bool {
    node.ip_json("-d link show octbr")[0]["linkinfo"]["info_data"]["vlan_filtering"] == 1
}

#[test]
fn pods_in_a_vlan_of_the_bridge_meet_those_over_a_vlan_interface() {
    let lab = Lab::new();
    // The second has the VLAN interface, as the first could.
    let [first, second] = two_kept_nodes(&lab);
    first.ok("remove", "");
    first.ok("apply", &policy("{mode: trunk, trunk-tags: [{id: 24}, {id-range: {min: 100, max: 103}}]}"));
    assert!(filters(&first));
    assert_eq!(vlans(&first, "enp6s0"), "24, 100-103");
    let (blue, attached) = attach(&first, "blue", &in_vlan(24));
    let (other, _) = attach(&first, "other", &in_vlan(25));
    let (far, remote) = attach(&second, "far", &octavia_bridge_tests::conf::octavia());
    let _echoes = [Echo::start(&blue, attached.ip()), Echo::start(&far, remote.ip())];
    expect_answer(&blue, remote.ip(), PATIENCE);
    expect_answer(&far, attached.ip(), PATIENCE);
    assert!(ping(&other, remote.ip(), SILENCE).is_none());
}

#[test]
fn tables_are_changed_kept_shown_and_given_back() {
    let lab = Lab::new();
    let node: Node = lab.node("node1");
    node.ip("link add enp6s0 type veth peer name wire");
    let agent = Agent::on(&node, "node1");
    for (section, expected) in [
        ("{}", "1 pvid untagged"),
        ("{mode: access, tag: 24}", "24 pvid untagged"),
        ("{mode: trunk, trunk-tags: [{id: 24}, {id: 26}, {id: 25}]}", "24-26"),
        (
            "{mode: trunk, enable-native: true, tag: 25, trunk-tags: [{id-range: {min: 24, max: 26}}]}",
            "24, 25 pvid untagged, 26",
        ),
    ] {
        agent.ok("apply", &policy(section));
        assert_eq!(vlans(&node, "enp6s0"), expected, "{section}");
        assert_eq!(filters(&agent), section != "{}");
        assert_eq!(agent.ok("apply", &policy(section)), "nothing to do\n", "{section}");
        let shown = agent.ok("show", "");
        assert_eq!(agent.run("plan --check", &shown).status, Some(0), "{shown}");
    }
    let shown: Value = serde_json::from_str(&agent.ok("show --json", "")).expect("JSON");
    let octbr = shown["interfaces"].as_array().and_then(|all| all.iter().find(|one| one["name"] == "octbr"));
    let section = octbr.expect("octbr")["bridge"]["port"][0]["vlan"].to_string();
    assert_eq!(
        section,
        r#"{"tag":25,"mode":"trunk","enable-native":true,"trunk-tags":[{"id":24},{"id":26}]}"#
    );
    // A later step fails: the bridge has no IPv6.
    let before = vlans(&node, "enp6s0");
    let route = "\nroutes: {config: [{destination: 'fd09::/64', next-hop-interface: octbr, next-hop-address: 'fd00::9'}]}";
    agent.fails(1, "apply", &format!("{}{route}", policy("{mode: access, tag: 7}")), &["put back"]);
    assert_eq!(vlans(&node, "enp6s0"), before);
    // So does one that another program took out and the agent puts back.
    node.ip("link set enp6s0 nomaster");
    let keep = policy("{mode: access, tag: 24}");
    agent.ok("apply", &keep);
    assert_eq!(vlans(&node, "enp6s0"), "24 pvid untagged");
    node.ip("link set octbr type bridge vlan_filtering 0");
    agent.ok("apply", &keep);
    assert!(filters(&agent));
    // So does one that leaves the bridge for a while, also if it has none.
    let moved = "interfaces: [{name: octbr, type: linux-bridge, bridge: {port: []}}, {name: br-two, type: linux-bridge, bridge: {port: [{name: enp6s0}]}}]";
    for has in ["24 pvid untagged", ""] {
        if has.is_empty() {
            bridge(&node, "vlan del dev enp6s0 vid 24");
        }
        assert_eq!(vlans(&node, "enp6s0"), has);
        agent.fails(1, "apply", &format!("{moved}{route}"), &["everything was put back"]);
        assert_eq!(node.ip_json("link show enp6s0")[0]["master"], "octbr");
        assert_eq!(vlans(&node, "enp6s0"), has);
    }
}

#[test]
fn filtering_that_cuts_the_node_off_is_taken_back() {
    let lab = Lab::new();
    let (node, gateway) = (lab.node("node1"), lab.node("gateway"));
    lab.trunk(&node, &gateway);
    gateway.ip("addr add 10.1.1.9/24 dev enp6s0");
    gateway.ip("link set lo up");
    let agent = Agent::on(&node, "node1");
    agent.ok("apply", &policy("{}"));
    node.ip("addr add 10.1.1.1/24 dev octbr");
    node.ip("route add default via 10.1.1.9");
    for section in ["{mode: trunk, trunk-tags: [{id: 24}]}", "{mode: access, tag: 24}"] {
        let says = ["no answer from the gateway 10.1.1.9", "everything was put back"];
        agent.fails(1, "apply", &policy(section), &says);
        assert!(!filters(&agent));
        assert_eq!(vlans(&node, "enp6s0"), "1 pvid untagged");
    }
    // The frames of the node itself are in VLAN 1.
    agent.ok("apply", &policy("{mode: trunk, enable-native: true, tag: 1, trunk-tags: [{id: 24}]}"));
    assert!(filters(&agent));
}
