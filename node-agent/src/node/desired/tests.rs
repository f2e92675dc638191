//! Documents as they are met in the field, and wrong ones.

mod bonds;
mod keys;
mod limits;
mod schema;

use serde_json::{Value, json};

use super::document::Text;
use super::*;

const OCTAVIA: &str = include_str!("../../../tests/fixtures/octavia.yaml");

fn texts(yaml: &str) -> Vec<Text> {
    vec![Text { origin: "test.yaml".into(), yaml: yaml.into() }]
}

pub(super) fn parse(yaml: &str) -> Desired {
    read(&texts(yaml), &Choice::default()).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The problems, one line each.
pub(super) fn refuse(yaml: &str) -> Vec<String> {
    let problems = read(&texts(yaml), &Choice::default()).expect_err("accepted");
    problems.0.iter().map(ToString::to_string).collect()
}

#[test]
fn the_octavia_policy_is_a_vlan_and_a_bridge_over_it() {
    let desired = parse(OCTAVIA);
    let [vlan, bridge] = desired.interfaces.as_slice() else { panic!("{desired:?}") };
    assert_eq!((vlan.name.as_str(), vlan.state, vlan.mtu), ("enp6s0.24", State::Up, None));
    assert_eq!(vlan.kind, Some(Kind::Vlan { base: Some("enp6s0".into()), id: Some(24) }));
    assert_eq!(vlan.description.as_deref(), Some("Octavia vlan host interface"));
    assert_eq!((bridge.name.as_str(), bridge.mtu), ("octbr", Some(1500)));
    assert_eq!(bridge.kind, Some(Kind::Bridge { ports: Some(vec!["enp6s0.24".into()]), stp: Some(false) }));
    assert!(desired.left_alone.is_empty(), "{:?}", desired.left_alone);
}

#[test]
fn the_three_ways_to_write_a_state_mean_the_same() {
    let policy = parse(OCTAVIA);
    let value: Value = serde_saphyr::from_str(OCTAVIA).unwrap();
    let bare = &value["spec"]["desiredState"];
    assert_eq!(parse(&bare.to_string()), policy);
    assert_eq!(parse(&serde_json::json!({ "desiredState": bare }).to_string()), policy);
}

#[test]
fn sloppy_forms_mean_what_they_say() {
    let sloppy = r#"
interfaces:
- {name: octbr, type: linux-bridge, mtu: "1500", bridge: {options: {stp: {enabled: "false"}}, port: [{name: octavia, vlan: {}}]}}
- {name: octavia, vlan: {id: "24", base-iface: enp7s0}, ipv4: {enabled: no}, ipv6: null}
- {name: ospbr, type: linux-bridge, state: up}
- {name: lo}
"#;
    let desired = parse(sloppy);
    assert_eq!(desired.interfaces[0].mtu, Some(1500));
    let ports = Some(vec!["octavia".to_owned()]);
    assert_eq!(desired.interfaces[0].kind, Some(Kind::Bridge { ports, stp: Some(false) }));
    assert_eq!(desired.interfaces[1].kind, Some(Kind::Vlan { base: Some("enp7s0".into()), id: Some(24) }));
    assert_eq!(desired.interfaces[1].ipv4.as_ref().unwrap().enabled, Some(false));
    assert_eq!(desired.interfaces[1].ipv6, None);
    assert_eq!(desired.interfaces[2].kind, Some(Kind::Bridge { ports: None, stp: None }));
    assert_eq!(desired.interfaces[3].kind, Some(Kind::Loopback));
}

#[test]
fn of_two_entries_with_one_name_the_last_is_taken_and_that_is_said() {
    let desired =
        parse("interfaces: [{name: a, type: ethernet, mtu: 1500}, {name: a, type: ethernet, mtu: 9000}]");
    assert_eq!(desired.interfaces.len(), 1);
    assert_eq!(desired.interfaces[0].mtu, Some(9000));
    assert_eq!(desired.left_alone.len(), 1);
    assert!(desired.left_alone[0].starts_with("interfaces[0]: a is named again"), "{:?}", desired.left_alone);
}

#[test]
fn two_documents_that_disagree_are_a_problem_and_equal_ones_are_not() {
    let one = "interfaces: [{name: a, type: ethernet, mtu: 1500}]";
    assert_eq!(parse(&format!("{one}\n---\n{one}\n---\n")).interfaces.len(), 1);
    let other = one.replace("1500", "9000");
    assert_eq!(
        refuse(&format!("{one}\n---\n{other}")),
        ["document 2: interfaces[0]: a is declared differently by document 1: interfaces[0]"]
    );
}

#[test]
fn what_is_to_be_ignored_asks_for_nothing() {
    let other = "{name: a, type: ovs-bridge, state: ignore, bridge: {}, x: y}, {name: a/b, state: ignore}, {name: b, state: ignore, mtu: 1}";
    let route = "{state: ignore, x: y}";
    let desired = parse(&format!("{{interfaces: [{other}], routes: {{config: [{route}]}}}}"));
    let entries: Vec<_> = desired.interfaces.iter().map(|one| (one.name.as_str(), one.state)).collect();
    assert_eq!((entries, desired.routes.len()), (vec![("b", State::Ignore)], 0));
    // Nor does it contradict another document, or stand in the way of what another entry wants of it.
    let [one, two] = ["interfaces: [{name: a, mtu: 1400}]", "interfaces: [{name: a, state: ignore}]"];
    for both in [format!("{one}\n---\n{two}"), format!("{two}\n---\n{one}")] {
        assert_eq!(parse(&both).interfaces[0].mtu, Some(1400));
    }
    let port = "{name: p, state: ignore, ipv4: {address: [{ip: 10.0.0.1, prefix-length: 24}]}}";
    parse(&format!("interfaces: [{{name: x, bridge: {{port: [{{name: p}}]}}}}, {port}]"));
}

#[test]
fn a_list_of_policies_is_read_as_kubectl_prints_it() {
    let policy = |name: &str, mtu: u32| {
        json!({"apiVersion": "nmstate.io/v1", "kind": "NodeNetworkConfigurationPolicy",
            "metadata": {"name": name, "generation": 1, "annotations": {}},
            "spec": {"desiredState": {"interfaces": [{"name": name, "mtu": mtu}]}}, "status": {"conditions": []}})
    };
    for kind in ["List", "NodeNetworkConfigurationPolicyList"] {
        let list = |second: Value| json!({"apiVersion": "v1", "kind": kind, "items": [policy("a", 1400), second], "metadata": {"resourceVersion": ""}});
        let json = format!("{:#}", list(policy("b", 1500)));
        let yaml = serde_saphyr::to_string(&list(policy("b", 1500))).unwrap();
        // `jq --tab` prints the last.
        for text in [json.clone(), yaml, json.replace("  ", "\t")] {
            assert_eq!(parse(&text).interfaces.len(), 2, "{text}");
        }
        assert_eq!(
            refuse(&list(policy("b", 1)).to_string()),
            ["b: interfaces[0].mtu: 1 is out of bounds, 68 to 65575 are allowed"]
        );
        let nested = refuse(&list(list(policy("b", 1500))).to_string());
        assert_eq!(nested, ["items[1]: is a list itself, and must be a policy"]);
        let other = refuse(&list(json!({"kind": "ConfigMap"})).to_string());
        assert!(other[0].starts_with("items[1]: kind: ConfigMap: not supported"), "{other:?}");
    }
}

#[test]
fn names_stay_as_they_are_written() {
    let yaml = "interfaces: [{name: 007}, {name: 1_0, vlan: {base-iface: 08, id: 020}}, {name: on, bridge: {port: [{name: 0}]}}]
routes: {config: [{destination: 10.0.0.0/8, next-hop-interface: 007, metric: 010}]}";
    let desired = parse(yaml);
    let names: Vec<&str> = desired.interfaces.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["007", "1_0", "on"]);
    // Numbers are decimal.
    assert_eq!(desired.interfaces[1].kind, Some(Kind::Vlan { base: Some("08".into()), id: Some(20) }));
    assert_eq!(desired.interfaces[2].ports(), ["0"]);
    assert_eq!((desired.routes[0].interface.as_deref(), desired.routes[0].metric), (Some("007"), Some(10)));
    let yaml = "# ü
interfaces: [{name: &a 0x10, vlan: {base-iface: 0o17, id: 0x20}}, {name: +7, bridge: {port: [{name: *a}, {name: 0B1}]}}]
---
interfaces:
- name: 0XF
  mtu: +1_500
- {name: 12}
- {name: vrf0, type: vrf, vrf: {route-table-id: 9, port: [13, 0x1F]}}";
    let desired = parse(yaml);
    let names: Vec<&str> = desired.interfaces.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["0x10", "+7", "0XF", "12", "vrf0"]);
    assert_eq!(desired.interfaces[0].kind, Some(Kind::Vlan { base: Some("0o17".into()), id: Some(32) }));
    assert_eq!(desired.interfaces[1].ports(), ["0x10", "0B1"]);
    assert_eq!(desired.interfaces[2].mtu, Some(1500));
    assert_eq!(desired.interfaces[4].ports(), ["13", "0x1F"]);
}

#[test]
fn every_problem_is_told_at_once_with_its_path() {
    let wrong = r"
hostname: x
interfaces:
- {name: this-name-is-too-long, type: vlan, vlan: {base-iface: a, id: 4095}}
- {name: b, type: ovs-bridge, ovs-bridge: {}}
- {name: c, type: linux-bridge, bridge: {options: {vlan-protocol: 802.1ad}, port: [{name: c1, vlan: {mode: trunk}}]}}
- {name: d, type: ethernet, ethernet: {sr-iov: {total-vfs: 2}}, ipv4: {dhcp: true}}
- {type: ethernet, mtu: 3}
routes: {config: [{destination: 10.0.0.0/8, next-hop-address: fe80::1}]}
route-rules: {config: [{ip-from: 10.0.0.0/8}]}
";
    let problems = refuse(wrong);
    for start in [
        "interfaces[0].name: ",
        "interfaces[0].vlan.id: 4095 is out of bounds, 1 to 4094",
        "interfaces[1].type: ovs-bridge: not supported",
        "interfaces[2].bridge.options.vlan-protocol: 802.1ad: not supported",
        "interfaces[2].bridge.port[0].vlan.trunk-tags: missing",
        "interfaces[3].ethernet.sr-iov.total-vfs: 2: not supported",
        "interfaces[3].ipv4.dhcp: true: not supported",
        "interfaces[4].name: missing",
        "interfaces[4].mtu: 3 is out of bounds",
        "routes.config[0].next-hop-interface: missing",
        "routes.config[0].next-hop-address: fe80::1 and 10.0.0.0/8 are of different families",
        "route-rules.config: not supported",
        "hostname: not supported",
    ] {
        assert!(problems.iter().any(|problem| problem.starts_with(start)), "{start:?} not in {problems:#?}");
    }
    assert_eq!(problems.len(), 13, "{problems:#?}");
}

#[test]
fn what_contradicts_itself_is_refused() {
    let cases = [
        (
            "[{name: a, type: vlan, vlan: {base-iface: b, id: 2}, mtu: 9000}, {name: b, type: ethernet, mtu: 1500}]",
            "interfaces[0].mtu: 9000 exceeds the 1500 bytes of its base interface b",
        ),
        (
            "[{name: a, type: vlan, vlan: {base-iface: b, id: 2}}, {name: b, state: absent}]",
            "interfaces[0].vlan.base-iface: b is to be absent",
        ),
        (
            "[{name: a, type: vlan, vlan: {base-iface: b, id: 2}}, {name: b, state: down}]",
            "interfaces[0].vlan.base-iface: b is to be down",
        ),
        (
            "[{name: x, bridge: {port: [{name: p}]}}, {name: y, bridge: {port: [{name: p}]}}]",
            "interfaces[0].port: p is a port of y as well",
        ),
        (
            "[{name: x, bridge: {port: [{name: p}]}}, {name: p, ipv4: {address: [{ip: 10.0.0.1, prefix-length: 24}]}}]",
            "interfaces[0].port: p has addresses",
        ),
        (
            "[{name: x, bridge: {port: [{name: v}]}}, {name: v, vlan: {base-iface: x, id: 3}}]",
            "interfaces[0].name: x stands on itself",
        ),
        (
            "[{name: x, bridge: {port: [{name: p, vlan: {tag: 24, enable-native: true}}]}}]",
            "interfaces[0].bridge.port[0].vlan.enable-native: only a trunk has it",
        ),
        (
            "[{name: x, vlan: {base-iface: b, id: 2}}, {name: y, vlan: {base-iface: b, id: 2}}]",
            "interfaces[1].vlan.id: b already has a VLAN with this id: x",
        ),
        ("[{name: x, vlan: {base-iface: lo, id: 2}}]", "interfaces[0].vlan.base-iface: lo carries no VLANs"),
        ("[{name: x, bridge: {port: [{name: lo}]}}]", "interfaces[0].port: lo cannot be a port"),
        ("[{name: x, vrf: {port: [lo], route-table-id: 9}}]", "interfaces[0].port: lo cannot be a port"),
        ("[{name: lo, state: down}]", "interfaces[0].state: lo is always up"),
        ("[{name: lo, type: loopback, state: absent}]", "interfaces[0].state: lo is always up"),
        ("[{name: x, bridge: {}, mtu: 65536}]", "interfaces[0].mtu: 65536 is out of bounds, 68 to 65535"),
        (
            "[{name: a, ipv4: {address: [{ip: 224.0.0.1, prefix-length: 24}]}}]",
            "interfaces[0].ipv4.address[0].ip: 224.0.0.1 is not the address of one host",
        ),
        (
            "[{name: a, ipv6: {address: [{ip: '::', prefix-length: 64}]}}]",
            "interfaces[0].ipv6.address[0].ip: :: is not the address of one host",
        ),
        ("[{name: a, mtu: _1500}]", "interfaces[0].mtu: must be a whole number"),
        ("[{name: a, mtuu: 1}]", "interfaces[0].mtuu: not supported; perhaps mtu is meant"),
        ("[{name: b, brigde: {}}]", "interfaces[0].brigde: not supported; perhaps bridge is meant"),
        (
            "[{name: a, ipv4: {address: [{ip: 10.0.0.1, prefix-length: 33}]}}]",
            "interfaces[0].ipv4.address[0].prefix-length: 33 is out of bounds, 0 to 32 are allowed",
        ),
        ("[{name: a, ipv4: {address: [{}]}}]", "interfaces[0].ipv4.address[0].ip: missing"),
        ("[{name: 1.10}]", "interfaces[0].name: a text is needed, and without quotes this is the number 1.1"),
        (
            "[{name: x, vrf: {port: [1.10], route-table-id: 9}}]",
            "interfaces[0].vrf.port[0]: a text is needed, and without quotes this is the number 1.1",
        ),
        ("[{name: x, vrf: {port: [{}], route-table-id: 9}}]", "interfaces[0].vrf.port[0]: must be a text"),
        ("[{name: \"a\\eb\"}]", "interfaces[0].name: use link name \"a\\u{1b}b\""),
        ("[{name: a, type: vlan, vlan: {base-iface: b}}]", "interfaces[0].vlan.id: missing; write a VLAN id"),
        (
            "[{name: a, type: vlan, bridge: {}}]",
            "interfaces[0].bridge: an interface of type vlan has no such section",
        ),
        (
            "[{name: a, mtu: 1000, ipv6: {address: [{ip: fd00::1, prefix-length: 64}]}}]",
            "interfaces[0].mtu: IPv6 needs at least 1280 bytes",
        ),
        (
            "[{name: a, ipv4: {address: [{ip: fd00::1, prefix-length: 24}]}}]",
            "interfaces[0].ipv4.address[0].ip: an address of the other family",
        ),
        ("[{name: a, mac-address: '01:00:5e:00:00:01'}]", "interfaces[0].mac-address: a link cannot"),
        ("{}", "interfaces: must be a list, not a mapping"),
    ];
    for (interfaces, start) in cases {
        let problems = refuse(&format!("interfaces: {interfaces}"));
        assert!(problems[0].starts_with(start), "{start:?}: {problems:#?}");
    }
}

#[test]
fn a_text_that_is_not_yaml_or_another_object_is_refused() {
    assert!(refuse("interfaces: [")[0].starts_with("test.yaml: not YAML"));
    assert!(refuse("kind: ConfigMap\n")[0].starts_with("kind: ConfigMap: not supported"));
    assert!(refuse("")[0].contains("nothing in it is for this node"));
}

#[test]
fn ours_only_leaves_out_whole_entries_and_names_them() {
    let choice = Choice { ours_only: true, ..Choice::default() };
    let yaml =
        "interfaces: [{name: v, vlan: {base-iface: b, id: 2, protocol: 802.1ad}}, {name: b, type: ethernet}]";
    let desired = read(&texts(yaml), &choice).unwrap();
    assert_eq!(desired.interfaces.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(
        desired.left_alone,
        [
            "interfaces[0]: v is left out as a whole: vlan.protocol: 802.1ad: not supported, only 802.1q is; write 802.1q, or \
             leave the key out"
        ]
    );
    // An Open vSwitch bridge has a section of the same name as another's, and any name.
    let ovs = "interfaces: [{name: br-external-of-all, type: ovs-bridge, bridge: {port: [{name: e}]}}, {name: b, type: ethernet}]";
    let desired = read(&texts(ovs), &choice).unwrap();
    assert_eq!(desired.interfaces.len(), 1);
    assert_eq!(
        desired.left_alone,
        ["interfaces[0]: br-external-of-all is left out as a whole: type: ovs-bridge: not supported"]
    );
    assert_eq!(refuse(ovs), ["interfaces[0].type: ovs-bridge: not supported"]);
    // A mistake is no missing feature.
    let wrong = "interfaces: [{name: v, vlan: {base-iface: b, id: 0, protocol: 802.1ad}}]";
    assert_eq!(read(&texts(wrong), &choice).unwrap_err().0.len(), 2);
}

#[test]
fn a_policy_is_taken_where_the_node_bears_every_label_it_asks_for() {
    let yaml = "kind: NodeNetworkConfigurationPolicy\nmetadata: {name: p}\nspec: {nodeSelector: {kubernetes.io/hostname: w0}, desiredState: {interfaces: [{name: a}]}}";
    let with = |labels: &[&str], all_policies| {
        let labels = labels.iter().map(|label| label.parse().unwrap()).collect();
        read(&texts(yaml), &Choice { labels, all_policies, ours_only: false })
    };
    assert_eq!(with(&["kubernetes.io/hostname=w0", "x=y"], false).unwrap().interfaces.len(), 1);
    assert_eq!(with(&[], true).unwrap().interfaces.len(), 1);
    let error = with(&["kubernetes.io/hostname=w1"], false).unwrap_err().to_string();
    assert!(error.contains("policy p: its nodeSelector asks for kubernetes.io/hostname=w0"), "{error}");
    assert!(with(&[], false).unwrap_err().to_string().contains("give --node-label"));
}
