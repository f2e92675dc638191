//! What is too much is refused by path, and in no time.

use serde_json::json;

use super::super::*;
use super::{parse, refuse};

fn vlan(name: &str, base: &str, id: usize) -> serde_json::Value {
    json!({"name": name, "type": "vlan", "vlan": {"base-iface": base, "id": id}})
}

/// VLANs, each on the one before it, over `nic`.
fn tower(links: usize) -> String {
    let name = |n: usize| if n == 1 { "nic".to_owned() } else { format!("v{n}") };
    let vlans = (2..=links).map(|n| vlan(&name(n), &name(n - 1), 5));
    json!({"interfaces": vlans.collect::<Vec<_>>()}).to_string()
}

#[test]
fn links_stand_on_each_other_as_high_as_the_kernel_allows() {
    assert_eq!(parse(&tower(8)).interfaces.len(), 7);
    let too_high = "interfaces[7].name: v9 stands on 8 links by way of bases and ports: \
                    the kernel stacks at most 8 links, and v9 is one more";
    for links in [9, 10, 1000] {
        assert_eq!(refuse(&tower(links)), [too_high]);
    }
    // One that is left alone does not hide how high it is.
    let ignored = tower(20).replace(r#""name":"v9""#, r#""state":"ignore","name":"v9""#);
    assert_eq!(refuse(&ignored), [too_high]);
}

/// Two VLANs of each bridge stand on the next one: twice as many ways down with each level.
#[test]
fn bridges_whose_ports_stand_on_the_next_bridge_are_refused_by_path() {
    let mut interfaces = Vec::new();
    for level in 0..32 {
        let [a, b] = [format!("va{level}"), format!("vb{level}")];
        let next = format!("br{}", level + 1);
        interfaces.push(json!({"name": format!("br{level}"), "type": "linux-bridge",
            "bridge": {"port": [{"name": a}, {"name": b}]}}));
        interfaces.extend([vlan(&a, &next, 1), vlan(&b, &next, 2)]);
    }
    interfaces.push(json!({"name": "br32", "type": "linux-bridge", "bridge": {"port": []}}));
    let problems = refuse(&json!({"interfaces": interfaces}).to_string());
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(problems[0].starts_with("interfaces[84].name: br28 stands on 8 links"), "{problems:#?}");
}

#[test]
fn a_long_circle_is_named_link_by_link() {
    let names: Vec<String> = (0..1000).map(|n| format!("v{n}")).collect();
    let mut interfaces: Vec<_> = (0..1000).map(|n| vlan(&names[n], &names[(n + 1) % 1000], 5)).collect();
    // One that stands on the circle, and one on which it does not stand.
    interfaces.extend([vlan("above", "v0", 6), vlan("beside", "nic", 7)]);
    let problems = refuse(&json!({"interfaces": interfaces}).to_string());
    assert_eq!(problems.len(), 1000);
    assert!(problems.iter().all(|problem| problem.contains("stands on itself by way of bases and ports")));
    assert!(!problems.iter().any(|problem| problem.contains("above") || problem.contains("beside")));
}

#[test]
fn the_number_of_links_and_of_routes_is_limited_over_all_documents() {
    let bridges = |from: usize, to: usize| {
        let bridge = |n: usize| json!({"name": format!("br{n}"), "type": "linux-bridge"});
        json!({"interfaces": (from..to).map(bridge).collect::<Vec<_>>()}).to_string()
    };
    assert_eq!(parse(&bridges(0, 1024)).interfaces.len(), 1024);
    assert_eq!(refuse(&bridges(0, 1025)), ["interfaces: 1025 entries, and at most 1024 are allowed"]);
    let two = format!("{}\n---\n{}", bridges(0, 1000), bridges(1000, 1025));
    let problems = refuse(&two);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(
        problems[0].starts_with("document 2: interfaces[24]: with it more than 1024 links"),
        "{problems:#?}"
    );
    // Names of ports count: each gets a turn of its own in the plan.
    let ports = |bridge: usize| {
        let ports: Vec<_> = (0..700).map(|n| json!({"name": format!("p{bridge}-{n}")})).collect();
        json!({"name": format!("br{bridge}"), "bridge": {"port": ports}})
    };
    let problems = refuse(&json!({"interfaces": [ports(0), ports(1)]}).to_string());
    assert!(problems[0].starts_with("interfaces[1]: with it more than 1024 links"), "{problems:#?}");

    let routes = |from: usize, to: usize| {
        let route = |n: usize| json!({"destination": format!("10.{}.{}.0/24", n / 256, n % 256), "next-hop-interface": "eth0"});
        json!({"routes": {"config": (from..to).map(route).collect::<Vec<_>>()}}).to_string()
    };
    let problems = refuse(&format!("{}\n---\n{}", routes(0, 1000), routes(1000, 1100)));
    assert_eq!(problems, ["document 2: routes.config[24]: a node can have at most 1024 routes here"]);
}

#[test]
fn a_route_has_no_more_next_hops_than_programs_can_list() {
    let routes = |number: usize, destination: &str, weight: Option<u32>| {
        let v6 = destination.contains(':');
        let gateway = |n: usize| {
            if v6 { format!("fd00::{n:x}") } else { format!("172.23.{}.{}", n / 250, n % 250 + 1) }
        };
        let route = |n: usize| json!({"destination": destination, "next-hop-interface": "octbr", "next-hop-address": gateway(n), "weight": weight});
        json!({"routes": {"config": (0..number).map(route).collect::<Vec<_>>()}}).to_string()
    };
    let most = octavia_bridge_netlink::Route::MAX_NEXT_HOPS;
    assert_eq!(parse(&routes(most, "10.0.0.0/8", Some(1))).routes.len(), most);
    // Without a weight the kernel keeps IPv4 routes apart, and makes one of IPv6's.
    assert_eq!(parse(&routes(most + 9, "10.0.0.0/8", None)).routes.len(), most + 9);
    for (destination, weight) in [("10.0.0.0/8", Some(1)), ("fd01::/64", Some(1)), ("fd01::/64", None)] {
        let text =
            format!("routes.config[128]: one next hop to {destination} too many: a route has at most 128");
        assert_eq!(refuse(&routes(most + 9, destination, weight)), [text]);
    }
    assert_eq!(
        refuse(&routes(4200, "10.0.0.0/8", Some(1))),
        ["routes.config: 4200 entries, and at most 1024 are allowed"]
    );
}

#[test]
fn of_many_problems_some_are_said_and_the_rest_is_counted() {
    let keys: serde_json::Map<String, serde_json::Value> =
        (0..5000).map(|n| (format!("x{n}"), json!(1))).collect();
    let text = Text { origin: "test.yaml".into(), yaml: json!({"desiredState": keys}).to_string() };
    let said = read([&text], &Choice::default()).unwrap_err().to_string();
    assert_eq!(said.lines().count(), 21);
    assert!(said.ends_with("and 980 problems more"), "{said}");
    // What may be left out is not what was not looked at.
    let ours_only = Choice { ours_only: true, ..Choice::default() };
    assert!(read([&text], &ours_only).is_err());
}

#[test]
fn aliases_do_not_make_much_of_little() {
    let item = "z".repeat(400);
    let list = vec![format!("{item:?}"); 2000].join(",");
    let aliases = vec!["*a"; 40].join(",");
    let problems = refuse(&format!("a: &a [{list}]\nb: [{aliases}]"));
    assert!(
        problems[0].starts_with("test.yaml: line 2, column") && problems[0].contains("too large"),
        "{problems:#?}"
    );
    // What nmstate's documents do with them.
    let few = "x-bridge: &b {type: linux-bridge}\ninterfaces: [{name: a, <<: *b}]";
    assert!(!refuse(few)[0].contains("too large"));
}

/// The kernel would switch snooping off, and the agent on again, for ever.
#[test]
fn snooping_is_not_kept_on_in_a_table_that_fills_up() {
    let bridge = |options: &str| {
        format!("interfaces: [{{name: b, type: linux-bridge, bridge: {{options: {{{options}}}}}}}]")
    };
    let problems = refuse(&bridge("hash-max: 511, multicast-snooping: true"));
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].starts_with("interfaces[0].bridge.options.hash-max: with more groups than 511"),
        "{problems:?}"
    );
    for options in
        ["hash-max: 512, multicast-snooping: true", "hash-max: 1, multicast-snooping: false", "hash-max: 1"]
    {
        assert_eq!(parse(&bridge(options)).interfaces.len(), 1, "{options}");
    }
}
