//! A link that becomes a port of a bridge has no addresses any more.

use octavia_bridge_netlink::LinkOption;

use super::*;
use crate::node::observed::{Hop, Route};

const BRIDGE: &str = "{name: octbr, type: linux-bridge, bridge: {port: [{name: eth0}]}}";

fn route(destination: &str, gateway: Option<&str>, link: &str) -> Route {
    let gateway = gateway.map(|gateway| gateway.parse().unwrap());
    Route {
        destination: destination.parse().unwrap(),
        table: 254,
        metric: 100,
        protocol: 16,
        source: None,
        mtu: None,
        hops: vec![Hop { link: link.into(), gateway, weight: 1, onlink: false }],
        detail: None,
    }
}

/// A NIC as DHCP leaves it, and an address of an administrator's.
fn dressed() -> Link {
    let plain = |net: &str| Address::plain(net.parse().unwrap());
    let addresses = vec![plain("10.0.0.5/24"), plain("10.0.0.6/24"), plain("fd00::5/64")];
    Link { addresses, ..nic(1500) }
}

fn uplinked(link: Link) -> Observed {
    let mut observed = node(&[("eth0", link)]);
    observed.routes =
        vec![route("0.0.0.0/0", Some("10.0.0.1"), "eth0"), route("fd02::/64", Some("fd00::1"), "eth0")];
    observed.defaults.push(default("eth0", 100));
    observed
}

const GONE: &str = "routes: {config: [{destination: 0.0.0.0/0, state: absent}]}";

#[test]
fn addresses_routes_and_ipv6_are_taken_off_once_and_told() {
    let desired = want(&format!("{{interfaces: [{BRIDGE}], {GONE}}}"));
    let plan = checked(&desired, &uplinked(dressed())).unwrap();
    assert_eq!(
        words(&plan),
        [
            "create octbr (bridge)",
            "set octbr up",
            "remove the route 0.0.0.0/0 via 10.0.0.1 dev eth0 metric 100 table 254",
            "remove the route fd02::/64 via fd00::1 dev eth0 metric 100 table 254",
            "remove fd00::5/64 from eth0",
            "remove 10.0.0.6/24 from eth0",
            "remove 10.0.0.5/24 from eth0",
            "set disable_ipv6 of eth0 to 1",
            "make eth0 a port of octbr",
        ]
    );
    assert_eq!(
        plan.warnings,
        [
            "eth0: it becomes a port of octbr, which has no addresses, and loses 10.0.0.5/24, 10.0.0.6/24, fd00::5/64",
            "eth0: as a port of octbr it carries no routes, and no other one takes the place of \
             the route fd02::/64 via fd00::1 dev eth0 metric 100 table 254",
        ]
    );
    assert!(plan.cuts.is_some());
}

#[test]
fn what_the_bridge_has_instead_is_not_missed() {
    let desired = want(
        "{interfaces: [{name: octbr, type: linux-bridge, bridge: {port: [{name: eth0}]},
           ipv4: {enabled: true, address: [{ip: 10.0.0.5, prefix-length: 24}]}},
           {name: eth0, type: ethernet, ipv4: {enabled: false}, ipv6: {enabled: false}}],
          routes: {config: [{destination: 0.0.0.0/0, next-hop-address: 10.0.0.1, next-hop-interface: octbr},
                            {destination: 'fd02::/64', next-hop-interface: eth0, state: absent}]}}",
    );
    let plan = checked(&desired, &uplinked(dressed())).unwrap();
    assert!(plan.warnings.is_empty(), "{:?}", plan.warnings);
    assert_eq!(
        words(&plan).last().map(String::as_str),
        Some("add the route 0.0.0.0/0 via 10.0.0.1 dev octbr metric 0 table 254")
    );
}

#[test]
fn what_comes_later_is_told_and_stays() {
    let desired = want(&format!("interfaces: [{BRIDGE}]"));
    let mut observed = node(&[("octbr", bridge(ours()))]);
    observed.links.get_mut("octbr").unwrap().ipv6 = Some(Ipv6 { disabled: true, ..Ipv6::default() });
    let leased = Link { addresses: vec![Address::plain("10.0.0.5/24".parse().unwrap())], ..veth("octbr") };
    observed.links.insert("eth0".into(), leased);
    let plan = checked(&desired, &observed).unwrap();
    assert_eq!(words(&plan), Vec::<String>::new());
    assert_eq!(plan.warnings.len(), 1);
    assert!(
        plan.warnings[0].starts_with("eth0: it is a port of octbr and has 10.0.0.5/24"),
        "{:?}",
        plan.warnings
    );
}

#[test]
fn a_vlan_of_ours_that_is_made_anew_under_its_bridge_loses_what_others_gave_it() {
    let octavia = OCTAVIA.replace("id: 24", "id: 25");
    let empty = node(&[("enp6s0", nic(1500))]);
    let mut observed = after(&empty, &plan(&want(OCTAVIA), &empty).unwrap());
    let vlan = observed.links.get_mut("enp6s0.24").unwrap();
    vlan.addresses.push(Address::plain("10.9.0.5/24".parse().unwrap()));
    let plan = checked(&want(&octavia), &observed).unwrap();
    assert!(!words(&plan).iter().any(|step| step.starts_with("add ")), "{:?}", words(&plan));
    assert!(plan.warnings.iter().any(|text| text.contains("loses 10.9.0.5/24")), "{:?}", plan.warnings);
}

#[test]
fn a_port_of_a_vrf_keeps_its_addresses() {
    let desired = want("interfaces: [{name: red, type: vrf, vrf: {port: [eth0], route-table-id: 10}}]");
    let observed = uplinked(dressed());
    let done = after(&observed, &checked(&desired, &observed).unwrap());
    assert_eq!(done.links["eth0"].addresses.len(), 3);
    assert_eq!(done.routes.len(), 2);
}

#[test]
fn a_route_by_a_port_is_refused_before_any_step() {
    let desired = want(&format!(
        "{{interfaces: [{BRIDGE}], routes: {{config: [{{destination: 10.8.0.0/16, next-hop-address: 10.0.0.1, next-hop-interface: eth0}}]}}}}"
    ));
    let told = plan(&desired, &uplinked(dressed())).unwrap_err().0;
    let text = "route to 10.8.0.0/16: its interface eth0 is a port of octbr and carries no routes; name octbr instead";
    assert_eq!(told, [text]);
}

fn bridged(more: &str) -> String {
    format!(
        "{{interfaces: [{{name: octbr, type: linux-bridge, bridge: {{port: [{{name: eth0}}]}},
           ipv4: {{enabled: true, address: [{{ip: 10.0.0.10, prefix-length: 24}}]}}}}{more}}}"
    )
}

#[test]
fn the_last_default_route_goes_only_if_the_policy_says_so() {
    let observed = uplinked(dressed());
    let refused = |yaml: &str, observed: &Observed| plan(&want(yaml), observed).unwrap_err().0;
    let text = "eth0: as a port of octbr it carries no routes, and the node would lose its last IPv4 default route, via 10.0.0.1; \
                list a route to 0.0.0.0/0 by octbr in the policy, or that route with state: absent";
    assert_eq!(refused(&bridged("]"), &observed), [text]);
    // As nmstate's documents have it of every port.
    let off = ", {name: eth0, type: ethernet, ipv4: {enabled: false}, ipv6: {enabled: false}}]";
    assert_eq!(refused(&bridged(off), &observed), [text]);
    let route = |rest: &str| bridged(&format!("], routes: {{config: [{{destination: 0.0.0.0/0, {rest}}}]}}"));
    checked(&want(&route("next-hop-address: 10.0.0.9, next-hop-interface: octbr")), &observed).unwrap();
    checked(&want(&route("next-hop-interface: eth0, state: absent")), &observed).unwrap();
    let other = route("next-hop-interface: eth0, next-hop-address: 10.0.0.2, state: absent");
    assert_eq!(refused(&other, &observed), [text]);
    // Another NIC has one as well, which stays.
    let mut two = uplinked(dressed());
    two.links.insert("eth1".into(), nic(1500));
    two.routes.push(route_by("eth1"));
    two.defaults.push(default("eth1", 200));
    checked(&want(&bridged("]")), &two).unwrap();
    let told = refused(&bridged(", {name: eth1, type: ethernet, state: down}]"), &two);
    assert_eq!(told, [text]);
    for entry in ["state: down", "ipv4: {enabled: false}"] {
        let yaml = format!("interfaces: [{{name: eth0, type: ethernet, {entry}}}]");
        checked(&want(&yaml), &observed).unwrap();
    }
}

fn route_by(link: &str) -> Route {
    Route { metric: 200, ..route("0.0.0.0/0", Some("10.0.0.1"), link) }
}

/// The kernel makes it, and no step is about it.
#[test]
fn a_default_route_of_a_router_advertisement_comes_again_where_the_bridge_takes_them() {
    let mut observed = uplinked(dressed());
    observed.routes.clear();
    observed.defaults = vec![DefaultRoute {
        is_v4: false,
        metric: 1024,
        link: "eth0".into(),
        gateway: Some("fe80::1".parse().unwrap()),
    }];
    let with = |ipv6: &str| {
        format!("interfaces: [{{name: octbr, type: linux-bridge, bridge: {{port: [{{name: eth0}}]}}{ipv6}}}]")
    };
    let told = plan(&want(&with("")), &observed).unwrap_err().0;
    assert!(told[0].contains("its last IPv6 default route, via fe80::1"), "{told:?}");
    plan(&want(&with(", ipv6: {enabled: true, autoconf: true}")), &observed).unwrap();
    plan(&want("interfaces: [{name: eth0, type: ethernet, mtu: 1400}]"), &observed).unwrap();
}

/// An earlier release took it, and it is on nodes' disks.
#[test]
fn a_port_that_is_to_have_ip_and_no_address_is_told_and_has_none() {
    let vlan = "{name: eth0.24, type: vlan, vlan: {base-iface: eth0, id: 24}";
    let ip = "ipv4: {enabled: true}, ipv6: {enabled: true, autoconf: true}";
    let yaml = format!(
        "interfaces: [{{name: octbr, type: linux-bridge, bridge: {{port: [{{name: eth1}}, {{name: eth0.24}}]}}}},
          {{name: eth1, type: ethernet, {ip}}}, {vlan}, {ip}}}]"
    );
    let plan = checked(&want(&yaml), &node(&[("eth0", nic(1500)), ("eth1", nic(1500))])).unwrap();
    for port in ["eth1", "eth0.24"] {
        let text = format!(
            "{port}: the policy enables IPv4 or IPv6 on it, which a port of octbr cannot have; this is ignored: write enabled: false"
        );
        assert!(plan.warnings.contains(&text), "{:?}", plan.warnings);
    }
    assert!(words(&plan).contains(&"set disable_ipv6 of eth1 to 1".to_owned()), "{:?}", words(&plan));
}

#[test]
fn a_port_that_is_put_back_has_its_vlans_again_also_none() {
    for (filters, vlans, again) in [
        (1, vec![], true),
        (1, vec![model::DEFAULT_VLAN], true),
        (0, vec![model::DEFAULT_VLAN], true),
        (0, vec![], false),
    ] {
        let filtering = Link { options: [(LinkOption::VlanFiltering, filters)].into(), ..bridge(None) };
        let port = Link { vlans: vlans.clone(), ..veth("octbr") };
        let observed = node(&[("octbr", filtering), ("veth0", port)]);
        let planned = Step::SetMaster { link: "veth0".into(), master: None }.planned(&observed);
        let step = Step::SetPortVlans { link: "veth0".into(), vlans };
        assert_eq!(planned.then.contains(&step), again, "{step}");
    }
}
