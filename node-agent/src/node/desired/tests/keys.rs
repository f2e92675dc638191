//! Each key that the policies of RHOSO deployments use, read on its own.

use super::*;

fn interface(fields: &str) -> Interface {
    parse(&format!("interfaces: [{{name: a, {fields}}}]")).interfaces.remove(0)
}

fn route(fields: &str) -> Route {
    let base = "destination: 10.0.0.0/8, next-hop-interface: a";
    parse(&format!("routes: {{config: [{{{base}, {fields}}}]}}")).routes.remove(0)
}

#[test]
fn common_keys() {
    assert_eq!(interface("").name, "a");
    assert_eq!(interface("description: uplink").description.as_deref(), Some("uplink"));
    for (state, means) in
        [("up", State::Up), ("down", State::Down), ("absent", State::Absent), ("ignore", State::Ignore)]
    {
        assert_eq!(interface(&format!("state: {state}")).state, means);
    }
    assert_eq!(interface("").state, State::Up);
    assert_eq!(interface("type: ethernet").kind, Some(Kind::Ethernet));
    assert_eq!(interface("type: loopback").kind, Some(Kind::Loopback));
    assert_eq!(interface("").kind, None);
    for mtu in ["1496", "'1496'"] {
        assert_eq!(interface(&format!("mtu: {mtu}")).mtu, Some(1496));
    }
    assert_eq!(interface("mtu: 65536").mtu, Some(65_536));
}

#[test]
fn keys_of_ipv4() {
    let ip = |fields: &str| interface(&format!("ipv4: {{{fields}}}")).ipv4.unwrap();
    assert_eq!(ip("enabled: true").enabled, Some(true));
    assert_eq!(ip("enabled: false").enabled, Some(false));
    assert_eq!(ip("dhcp: false"), Ip::default());
    assert_eq!(ip("address: []").addresses, Some(Vec::new()));
    let one = Some(vec!["172.17.0.10/24".parse().unwrap()]);
    assert_eq!(ip("address: [{ip: 172.17.0.10, prefix-length: 24}]").addresses, one);
    assert_eq!(ip("address: [{ip: 172.17.0.10, prefix-length: '24'}]").addresses, one);
}

#[test]
fn keys_of_ipv6() {
    let ip = |fields: &str| interface(&format!("ipv6: {{{fields}}}")).ipv6.unwrap();
    assert_eq!(ip("enabled: false").enabled, Some(false));
    assert_eq!(ip("dhcp: 'false'"), Ip::default());
    assert_eq!(ip("autoconf: false").autoconf, Some(false));
    assert_eq!(ip("autoconf: true").autoconf, Some(true));
    let one = Some(vec!["fd00:bbbb::10/64".parse().unwrap()]);
    assert_eq!(ip("address: [{ip: 'fd00:bbbb::10', prefix-length: 64}]").addresses, one);
}

#[test]
fn keys_of_a_vlan() {
    for id in ["20", "'20'"] {
        let vlan = interface(&format!("type: vlan, vlan: {{base-iface: enp6s0, id: {id}}}"));
        assert_eq!(vlan.kind, Some(Kind::Vlan { base: Some("enp6s0".into()), id: Some(20) }));
    }
}

#[test]
fn keys_of_a_bridge() {
    let bridge = |fields: &str| interface(&format!("type: linux-bridge, bridge: {{{fields}}}")).kind.unwrap();
    assert_eq!(bridge("options: {stp: {enabled: false}}"), Kind::Bridge { ports: None, stp: Some(false) });
    let ports = Some(vec!["enp6s0".to_owned()]);
    assert_eq!(bridge("port: [{name: enp6s0}]"), Kind::Bridge { ports: ports.clone(), stp: None });
    assert_eq!(bridge("port: [{name: enp6s0, vlan: {}}]"), Kind::Bridge { ports, stp: None });
    assert_eq!(bridge("port: []"), Kind::Bridge { ports: Some(Vec::new()), stp: None });
}

#[test]
fn keys_of_a_vrf() {
    let vrf = interface("type: vrf, vrf: {port: [b, c], route-table-id: '10'}").kind;
    let ports = Some(vec!["b".to_owned(), "c".to_owned()]);
    assert_eq!(vrf, Some(Kind::Vrf { ports, table: Some(10) }));
}

#[test]
fn keys_of_a_route() {
    let plain = route("next-hop-address: 172.17.0.1");
    assert_eq!(plain.destination, Some("10.0.0.0/8".parse().unwrap()));
    assert_eq!(plain.gateway, Some("172.17.0.1".parse().unwrap()));
    assert_eq!(plain.interface.as_deref(), Some("a"));
    assert_eq!((plain.absent, plain.metric, plain.table, plain.weight), (false, None, None, None));
    assert_eq!(route("metric: 100").metric, Some(100));
    assert_eq!(route("metric: -1").metric, None);
    assert_eq!(route("table-id: '10'").table, Some(10));
    assert_eq!(route("table-id: 0").table, None);
    assert_eq!(route("weight: 200").weight, Some(200));
    assert!(route("state: absent").absent);
    assert_eq!(route("state: absent").table, None);
    assert_eq!(route("state: absent, table-id: 0").table, Some(254));
    assert_eq!(route("next-hop-address: 0.0.0.0").gateway, None);
    assert_eq!(
        refuse(
            "routes: {config: [{destination: 10.0.0.0/8, next-hop-interface: a, next-hop-address: 224.0.0.9}]}"
        ),
        ["routes.config[0].next-hop-address: 224.0.0.9 is a multicast address, which no router has"]
    );
}

#[test]
fn keys_that_are_accepted_and_left_alone() {
    let desired = parse(
        "{dns-resolver: {config: {server: [172.22.0.1], search: []}}, route-rules: {config: []}, interfaces: []}",
    );
    assert_eq!(desired.left_alone, ["dns-resolver: resolvers are left to the host's own configuration"]);
}

#[test]
fn keys_of_a_policy() {
    let desired = parse(
        "{apiVersion: nmstate.io/v1, kind: NodeNetworkConfigurationPolicy, \
          metadata: {name: p, namespace: openstack, labels: {osp/nncm-config-type: standard}}, \
          spec: {nodeSelector: {}, maxUnavailable: 3, desiredState: {interfaces: [{name: a}]}}}",
    );
    assert_eq!(desired.interfaces.len(), 1);
    assert_eq!(
        refuse(
            "{kind: NodeNetworkConfigurationPolicy, metadata: {name: p}, spec: {capture: {a: b}, desiredState: {}}}"
        ),
        ["p: spec.capture: not supported"]
    );
}
