//! Situations, each with the steps it takes.

use super::*;

fn conflicts(desired: &str, observed: &Observed) -> Vec<String> {
    plan(&want(desired), observed).expect_err("planned").0
}

/// The octavia network as this program leaves it, with a pod.
fn complete() -> Observed {
    let empty = node(&[("enp6s0", nic(1500))]);
    let mut done = after(&empty, &plan(&want(OCTAVIA), &empty).unwrap());
    done.links.insert("veth1".into(), veth("octbr"));
    done
}

#[test]
fn the_octavia_policy_on_an_empty_node() {
    let plan = checked(&want(OCTAVIA), &node(&[("enp6s0", Link { up: false, ..nic(1500) })])).unwrap();
    assert_eq!(
        words(&plan),
        [
            "create octbr (bridge)",
            "set octbr up",
            "set enp6s0 up",
            "create enp6s0.24 (VLAN 24 on enp6s0)",
            "make enp6s0.24 a port of octbr",
            "set enp6s0.24 up",
        ]
    );
    let Step::Create(bridge) = &plan.steps[0].apply else { panic!() };
    assert_eq!(bridge.mac.as_deref(), Some("52:54:00:00:00:01"), "the uplink's MAC is pinned");
    assert_eq!(bridge.alias.as_deref(), Some("octavia-bridge: Configuring bridge octbr"));
    assert_eq!(bridge.ipv6, Some(Ipv6 { disabled: true, ..Ipv6::default() }));
    assert_eq!((plan.cuts, plan.missing.len()), (None, 0));
}

#[test]
fn nothing_to_do_is_no_step() {
    assert_eq!(words(&checked(&want(OCTAVIA), &complete()).unwrap()), Vec::<String>::new());
}

#[test]
fn each_drift_takes_its_own_step() {
    let drift = |change: &dyn Fn(&mut Observed)| {
        let mut observed = complete();
        change(&mut observed);
        words(&checked(&want(OCTAVIA), &observed).unwrap())
    };
    let link = |observed: &mut Observed, name: &str, change: &dyn Fn(&mut Link)| {
        change(observed.links.get_mut(name).unwrap());
    };
    assert_eq!(drift(&|o| link(o, "octbr", &|l| l.mtu = 1400)), ["set the MTU of octbr to 1500"]);
    assert_eq!(drift(&|o| link(o, "enp6s0.24", &|l| l.mtu = 1400)), ["set the MTU of enp6s0.24 to 1500"]);
    assert_eq!(
        drift(&|o| link(o, "octbr", &|l| l.kind = Seen::Bridge { stp: true })),
        ["switch STP of octbr off"]
    );
    assert_eq!(drift(&|o| link(o, "octbr", &|l| l.up = false)), ["set octbr up"]);
    assert_eq!(drift(&|o| link(o, "enp6s0.24", &|l| l.master = None)), ["make enp6s0.24 a port of octbr"]);
    let ipv6_on = |l: &mut Link| l.ipv6 = Some(Ipv6::OF_NEW_LINK);
    assert_eq!(
        drift(&|o| link(o, "octbr", &ipv6_on)),
        ["set accept_ra of octbr to 0", "set disable_ipv6 of octbr to 1"]
    );
    // A pod's port released is the pod's business, and a bridge's MAC is kept whatever it is by now.
    assert_eq!(drift(&|o| link(o, "veth1", &|l| l.master = None)).len(), 0);
    assert_eq!(drift(&|o| link(o, "octbr", &|l| l.mac = Some("02:00:00:00:00:09".into()))).len(), 0);
}

#[test]
fn a_changed_vlan_id_makes_the_vlan_anew_and_leaves_bridge_and_pods() {
    let desired = want(&OCTAVIA.replace("id: 24", "id: 25"));
    let plan = checked(&desired, &complete()).unwrap();
    assert_eq!(
        words(&plan),
        [
            "detach enp6s0.24 from its master",
            "set enp6s0.24 down",
            "delete enp6s0.24 (VLAN 24 on enp6s0)",
            "create enp6s0.24 (VLAN 25 on enp6s0)",
            "make enp6s0.24 a port of octbr",
            "set enp6s0.24 up",
        ]
    );
    assert_eq!(after(&complete(), &plan).links["veth1"], complete().links["veth1"]);
    let mut foreign = complete();
    foreign.links.get_mut("enp6s0.24").unwrap().alias = None;
    assert!(super::plan(&desired, &foreign).unwrap_err().0[0].contains("did not make it"));
}

#[test]
fn what_others_made_is_adopted_as_it_is() {
    let observed =
        node(&[("enp6s0", nic(1500)), ("octbr", bridge(None)), ("enp6s0.24", vlan("enp6s0", 24, None))]);
    let plan = checked(&want(OCTAVIA), &observed).unwrap();
    assert_eq!(words(&plan), ["set disable_ipv6 of enp6s0.24 to 1", "make enp6s0.24 a port of octbr"]);
}

#[test]
fn a_missing_base_is_waited_for_and_no_bridge_is_made_without_it() {
    let plan = checked(&want(OCTAVIA), &node(&[])).unwrap();
    assert_eq!(words(&plan), Vec::<String>::new());
    let waits = |of: &str| Missing { of: of.into(), awaits: "enp6s0".into(), why: None };
    assert_eq!(plan.missing, [waits("octbr"), waits("enp6s0.24")]);
}

#[test]
fn a_base_with_a_smaller_mtu_than_its_vlan_is_waited_for_and_all_else_is_kept() {
    let policy = want(&OCTAVIA.replace("type: vlan", "type: vlan\n      mtu: 1500"));
    let mut observed = complete();
    observed.advance(&Step::SetMtu { link: "enp6s0".into(), mtu: 1450 });
    observed.links.get_mut("octbr").unwrap().up = false;
    let plan = checked(&policy, &observed).unwrap();
    assert_eq!(words(&plan), ["set octbr up"]);
    let why = "enp6s0.24: an MTU of 1500 exceeds the 1450 bytes of its base interface";
    assert_eq!(plan.missing[0].to_string(), why);
    assert_eq!((plan.missing[0].of.as_str(), plan.missing.len()), ("enp6s0.24", 1));
    observed.links.get_mut("enp6s0.24").unwrap().mtu = 1400;
    let nearer = words(&checked(&policy, &observed).unwrap());
    assert_eq!(nearer, ["set octbr up", "set the MTU of enp6s0.24 to 1450"]);
    observed.advance(&Step::SetMtu { link: "enp6s0".into(), mtu: 1500 });
    let plan = checked(&policy, &observed).unwrap();
    assert_eq!(words(&plan), ["set octbr up", "set the MTU of enp6s0.24 to 1500"]);
    assert_eq!(plan.missing, []);
    // A new one is refused.
    let empty = node(&[("enp6s0", nic(1450))]);
    assert_eq!(super::plan(&policy, &empty).unwrap_err().0, [why]);
}

#[test]
fn absent_deletes_only_what_is_ours_and_carries_nothing_of_others() {
    let absent = OCTAVIA.replace("state: up", "state: absent");
    let pods = conflicts(&absent, &complete());
    assert_eq!(pods.len(), 1);
    assert!(pods[0].starts_with("octbr cannot be deleted: veth1 would be cut off; "), "{pods:?}");
    let mut alone = complete();
    alone.links.remove("veth1");
    let gone = after(&alone, &checked(&want(&absent), &alone).unwrap());
    assert_eq!(gone.links.keys().collect::<Vec<_>>(), ["enp6s0", "lo"]);

    let foreign = node(&[("octbr", bridge(None))]);
    assert!(conflicts("interfaces: [{name: octbr, state: absent}]", &foreign)[0].contains("did not make it"));
    let plan = checked(&want("interfaces: [{name: enp6s0, state: absent}]"), &complete()).unwrap();
    assert_eq!((plan.steps.len(), plan.warnings.len()), (0, 1));
    let on_top =
        node(&[("a", Link { alias: ours().map(Into::into), ..bridge(None) }), ("a.5", vlan("a", 5, None))]);
    assert!(
        conflicts("interfaces: [{name: a, state: absent}]", &on_top)[0].contains("VLAN a.5 stands on it")
    );
}

#[test]
fn what_the_kernel_could_only_refuse_is_a_conflict() {
    let observed = node(&[("enp6s0", nic(1500)), ("x", vlan("enp6s0", 24, None)), ("br", bridge(None))]);
    assert_eq!(conflicts(OCTAVIA, &observed), ["enp6s0.24: VLAN 24 on enp6s0 is taken by x"]);
    let cases = [
        (
            "[{name: v, vlan: {base-iface: enp6s0, id: 3}, mtu: 9000}]",
            "v: an MTU of 9000 exceeds the 1500 bytes",
        ),
        ("[{name: enp6s0, mtu: 9001}]", "enp6s0: an MTU of 9001 exceeds the 9000 its driver takes"),
        ("[{name: enp6s0, type: linux-bridge}]", "enp6s0 exists and is of type ethernet, not linux-bridge"),
        ("[{name: v, type: vlan}]", "v does not exist, and the policy lacks vlan.base-iface and vlan.id"),
    ];
    for (interfaces, start) in cases {
        let told = conflicts(&format!("interfaces: {interfaces}"), &observed);
        assert!(told[0].starts_with(start), "{start:?}: {told:?}");
    }
    let taken = node(&[("p", veth("br")), ("br", bridge(None))]);
    let told = conflicts("interfaces: [{name: mine, bridge: {port: [{name: p}]}}]", &taken);
    assert!(told[0].contains("p is to be a port of mine and is one of br"), "{told:?}");
}

#[test]
fn a_base_of_open_vswitch_is_warned_of() {
    let ovs = Link { kind: Seen::Other("openvswitch".into()), ..nic(1500) };
    let base = Link { master: Some("ovs-system".into()), ..nic(1500) };
    let plan = checked(&want(OCTAVIA), &node(&[("enp6s0", base), ("ovs-system", ovs)])).unwrap();
    assert!(plan.warnings.iter().any(|text| text.contains("belongs to Open vSwitch")), "{:?}", plan.warnings);
}

#[test]
fn only_steps_on_the_default_routes_way_can_cut_the_node_off() {
    let mut observed = node(&[("enp1s0", nic(1500)), ("enp6s0", nic(1500))]);
    observed.defaults.push(default("enp1s0", 100));
    let cuts = |interfaces: &str| {
        let yaml = format!(
            "{{interfaces: {interfaces}, routes: {{config: [{{destination: 0.0.0.0/0, state: absent}}]}}}}"
        );
        checked(&want(&yaml), &observed).unwrap().cuts
    };
    assert_eq!(cuts("[{name: v, vlan: {base-iface: enp1s0, id: 24}}]"), None);
    assert_eq!(cuts("[{name: enp6s0, mtu: 9000}]"), None);
    assert_eq!(cuts("[{name: enp1s0, mtu: 9000}]").as_deref(), Some("set the MTU of enp1s0 to 9000"));
    assert_eq!(
        cuts("[{name: b, bridge: {port: [{name: enp1s0}]}}]").as_deref(),
        Some("set disable_ipv6 of enp1s0 to 1")
    );
    assert_eq!(cuts("[{name: enp1s0, state: down}]").as_deref(), Some("set enp1s0 down"));
}

#[test]
fn a_default_route_that_takes_no_packets_from_another_cuts_nothing() {
    let config = |metric: u32| {
        let yaml = format!(
            "{{destination: 0.0.0.0/0, next-hop-address: 10.1.0.1, next-hop-interface: enp6s0, metric: {metric}}}"
        );
        want(&format!("routes: {{config: [{yaml}]}}"))
    };
    let mut observed = node(&[("enp1s0", nic(1500)), ("enp6s0", nic(1500)), ("enp7s0", nic(1500))]);
    let cuts = |observed: &Observed, desired: &Desired| checked(desired, observed).unwrap().cuts;
    assert_eq!(cuts(&observed, &config(50)), None, "the first");
    observed.defaults.push(DefaultRoute { is_v4: false, ..default("enp7s0", 10) });
    assert_eq!(cuts(&observed, &config(50)), None, "the first of its family");
    observed.defaults.extend([default("enp1s0", 100), default("enp7s0", 101)]);
    assert_eq!(cuts(&observed, &config(150)), None, "a worse one");
    let overtakes = "add the route 0.0.0.0/0 via 10.1.0.1 dev enp6s0 metric 50 table 254";
    assert_eq!(cuts(&observed, &config(50)).as_deref(), Some(overtakes));
    assert!(cuts(&observed, &config(100)).is_some(), "in front of the present one");
    for (half, is_v6) in [("0.0.0.0/1", false), ("128.0.0.0/1", false), ("2000::/3", true)] {
        let yaml = format!("{{destination: '{half}', next-hop-interface: enp6s0, metric: 500}}");
        let steps = plan(&want(&format!("routes: {{config: [{yaml}]}}")), &observed).unwrap().steps;
        let danger = danger(&observed, &steps).unwrap();
        assert!(danger.defaults.iter().all(|default| default.is_v4 != is_v6), "{half}");
    }
    // The NIC of a worse default route, as DHCP gives one to each NIC.
    observed.defaults.remove(0);
    let port = want("interfaces: [{name: octbr, type: linux-bridge, bridge: {port: [{name: enp7s0}]}}]");
    assert_eq!(cuts(&observed, &port), None);
    let port = want(
        "{interfaces: [{name: octbr, type: linux-bridge, bridge: {port: [{name: enp1s0}]}}],
          routes: {config: [{destination: 0.0.0.0/0, state: absent}]}}",
    );
    let danger = danger(&observed, &plan(&port, &observed).unwrap().steps).unwrap();
    assert_eq!(danger.defaults, [default("enp1s0", 100)]);
}

#[test]
fn an_address_can_be_cut_off_by_its_links_and_by_routes_to_it() {
    let mut observed = node(&[("eth0", nic(1500)), ("eth1", nic(1500)), ("br0", bridge(None))]);
    observed.links.get_mut("eth1").unwrap().master = Some("br0".into());
    let way = Way { to: "10.50.0.1".parse().unwrap(), links: BTreeSet::from(["br0".to_owned()]) };
    let cuts = |yaml: &str| {
        let steps = plan(&want(yaml), &observed).unwrap().steps;
        (may_cut(&observed, &steps), cuts(&observed, &steps, &way))
    };
    assert_eq!(cuts("interfaces: [{name: eth0, mtu: 1400}]"), (false, None));
    // Nothing has an address, so that nothing can be cut off.
    assert_eq!(
        cuts("interfaces: [{name: eth1, mtu: 1400}]").1.as_deref(),
        Some("set the MTU of eth1 to 1400")
    );
    let route = |destination: &str| {
        format!("routes: {{config: [{{destination: {destination}, next-hop-interface: eth0}}]}}")
    };
    assert_eq!(
        cuts(&route("10.50.0.0/16")),
        (true, Some("add the route 10.50.0.0/16 dev eth0 metric 0 table 254".into()))
    );
    assert_eq!(cuts(&route("10.51.0.0/16")), (true, None));
    observed.links.get_mut("br0").unwrap().addresses.push(Address::plain("10.50.0.9/24".parse().unwrap()));
    let cuts = |link: &str, address: &str, length: u8| {
        let yaml = format!(
            "interfaces: [{{name: {link}, ipv4: {{enabled: true, address: [{{ip: {address}, prefix-length: {length}}}]}}}}]"
        );
        let steps = plan(&want(&yaml), &observed).unwrap().steps;
        assert!(may_cut(&observed, &steps));
        super::cuts(&observed, &steps, &way)
    };
    assert_eq!(cuts("eth0", "10.50.0.2", 28).as_deref(), Some("add 10.50.0.2/28 to eth0"), "another subnet");
    assert_eq!(cuts("br0", "10.50.0.1", 32).as_deref(), Some("add 10.50.0.1/32 to br0"), "its own address");
    assert_eq!(cuts("br0", "10.50.0.2", 28), None);
    assert_eq!(cuts("eth0", "10.50.0.33", 28), None);
}

#[test]
fn addresses_of_ours_are_the_list_and_of_others_at_least_the_list() {
    let old: ipnet::IpNet = "10.0.0.9/24".parse().unwrap();
    let listed =
        "interfaces: [{name: v, ipv4: {enabled: true, address: [{ip: 10.0.0.1, prefix-length: 24}]}}]";
    let with = |alias| {
        node(&[("e", nic(1500)), ("v", Link { addresses: vec![Address::plain(old)], ..vlan("e", 3, alias) })])
    };
    let ours_plan = words(&checked(&want(listed), &with(ours())).unwrap());
    assert!(ours_plan.contains(&"remove 10.0.0.9/24 from v".to_owned()), "{ours_plan:?}");
    let foreign = checked(&want(listed), &with(None)).unwrap();
    assert_eq!(words(&foreign), ["add 10.0.0.1/24 to v"]);
    assert_eq!(foreign.warnings, ["v keeps 10.0.0.9/24, which the policy does not list"]);
    let lo = checked(
        &want("interfaces: [{name: lo, ipv4: {address: [{ip: 10.9.9.9, prefix-length: 32}]}}]"),
        &node(&[]),
    );
    assert_eq!(words(&lo.unwrap()), ["add 10.9.9.9/32 to lo"]);
}

#[test]
fn weighted_entries_are_one_route_and_a_changed_route_replaces_ours_only() {
    let route = |gateway: &str, weight: &str| {
        format!(
            "{{destination: 10.8.0.0/16, next-hop-address: {gateway}, next-hop-interface: enp6s0{weight}}}"
        )
    };
    let config = |entries: &[String]| want(&format!("routes: {{config: [{}]}}", entries.join(", ")));
    let observed = node(&[("enp6s0", nic(1500))]);
    let two = config(&[route("10.0.0.1", ", weight: 1"), route("10.0.0.2", ", weight: 1")]);
    let plan_of_two = checked(&two, &observed).unwrap();
    assert_eq!(
        words(&plan_of_two),
        ["add the route 10.8.0.0/16 via 10.0.0.1 dev enp6s0 via 10.0.0.2 dev enp6s0 metric 0 table 254"]
    );
    let mut with_two = after(&observed, &plan_of_two);
    let other = config(&[route("10.0.0.3", "")]);
    assert_eq!(checked(&other, &with_two).unwrap().steps.len(), 2);
    with_two.routes[0].protocol = 4;
    assert_eq!(checked(&other, &with_two).unwrap().steps.len(), 1, "an administrator's route stays");
    let absent = want("routes: {config: [{state: absent, destination: 10.8.0.0/16}]}");
    assert_eq!(checked(&absent, &with_two).unwrap().steps.len(), 1);
    // nmstate's way to replace a route.
    let replaced = config(&["{state: absent, destination: 10.8.0.0/16}".to_owned(), route("10.0.0.3", "")]);
    let plan = checked(&replaced, &with_two).unwrap();
    assert_eq!(
        words(&plan),
        [
            "remove the route 10.8.0.0/16 via 10.0.0.1 dev enp6s0 via 10.0.0.2 dev enp6s0 metric 0 table 254",
            "add the route 10.8.0.0/16 via 10.0.0.3 dev enp6s0 metric 0 table 254"
        ]
    );
    assert_eq!(checked(&replaced, &after(&with_two, &plan)).unwrap().steps.len(), 0);
    // In whatever table.
    with_two.routes[0].table = 10;
    assert_eq!(checked(&absent, &with_two).unwrap().steps.len(), 1);
    let of_main = want("routes: {config: [{state: absent, destination: 10.8.0.0/16, table-id: 0}]}");
    assert_eq!(checked(&of_main, &with_two).unwrap().steps.len(), 0);
    assert_eq!(checked(&want("interfaces: []"), &with_two).unwrap().steps.len(), 0);
}

#[test]
fn lowering_a_base_lowers_its_vlans_by_steps_that_can_be_undone() {
    let observed = node(&[("enp6s0", nic(9000)), ("x", Link { mtu: 9000, ..vlan("enp6s0", 24, None) })]);
    let plan = checked(&want("interfaces: [{name: enp6s0, mtu: 1500}]"), &observed).unwrap();
    assert_eq!(words(&plan), ["set the MTU of x to 1500", "set the MTU of enp6s0 to 1500"]);
}

#[test]
fn a_link_of_ours_that_the_list_no_longer_names_is_detached() {
    let observed = complete();
    let desired = want(&OCTAVIA.replace("port:\n        - name: enp6s0.24", "port: []"));
    assert_eq!(words(&checked(&desired, &observed).unwrap()), ["detach enp6s0.24 from its master"]);
}

#[test]
fn a_bridge_with_a_larger_mtu_than_its_uplink_is_told_and_kept() {
    let desired =
        want("interfaces: [{name: octbr, type: linux-bridge, mtu: 9000, bridge: {port: [{name: eth0}]}}]");
    let plan = checked(&desired, &node(&[("eth0", nic(1500))])).unwrap();
    let text = "octbr: its MTU of 9000 exceeds the 1500 bytes of its port eth0, which drops what is longer";
    assert_eq!(plan.warnings, [text]);
    assert!(checked(&desired, &node(&[("eth0", nic(9000))])).unwrap().warnings.is_empty());
}
