use serde_json::{Value, json};

use super::*;
use crate::request::{Choice, MOST_ROUTES, MOST_WANTS, Owner, Reach, RequestedAddress};

fn parse(ipam: &Value) -> Result<Ipam, ConfError> {
    Ipam::parse(Object::at("ipam".to_owned(), ipam).unwrap(), false)
}

fn strict(ipam: &Value) -> Result<Ipam, ConfError> {
    Ipam::parse(Object::at("ipam".to_owned(), ipam).unwrap(), true)
}

/// `range` of the seed's size and whatever is added to it.
fn with(more: &Value) -> Value {
    let mut ipam = json!({ "type": "whereabouts", "range": "172.23.0.0/24" });
    for (key, value) in more.as_object().unwrap() {
        ipam[key] = value.clone();
    }
    ipam
}

fn bounds(ipam: &Value) -> Vec<String> {
    let ranges = parse(ipam).unwrap().ranges;
    ranges.iter().map(|r| format!("{} {}-{}", r.subnet(), r.first(), r.last())).collect()
}

#[test]
fn an_octavia_attachment_is_read() {
    let conf = parse(&json!({
        "type": "whereabouts",
        "range": "172.23.0.0/24",
        "range_start": "172.23.0.30",
        "range_end": "172.23.0.70",
        "routes": [{ "dst": "172.24.0.0/16", "gw": "172.23.0.150" }],
        "datastore": "file",
        "dataDir": "/var/lib/octavia-bridge",
    }))
    .unwrap();
    assert_eq!(conf.ranges[0].first().to_string(), "172.23.0.30");
    assert_eq!(conf.ranges[0].last().to_string(), "172.23.0.70");
    assert_eq!(conf.routes[0].dst.to_string(), "172.24.0.0/16");
    assert_eq!(conf.reserved(), ["172.23.0.150".parse::<IpAddr>().unwrap()]);
    assert_eq!(conf.datastore, Datastore::File);
    assert_eq!(conf.pools()[0].0.as_str(), "172.23.0.0-24");
    assert!(conf.enable_overlapping_ranges && conf.warnings.is_empty());
}

#[test]
fn ranges_are_read_as_whereabouts_reads_them() {
    for (ipam, expected) in [
        (json!({ "range": "192.168.1.5-192.168.1.25/24" }), "192.168.1.0/24 192.168.1.5-192.168.1.25"),
        (
            json!({ "range": "00192.00168.1.5-000000192.168.1.25/24" }),
            "192.168.1.0/24 192.168.1.5-192.168.1.25",
        ),
        (
            json!({ "range": "00192.00168.1.0/24", "range_start": "00192.00168.1.44", "range_end": "192.168.01.209" }),
            "192.168.1.0/24 192.168.1.44-192.168.1.209",
        ),
        (json!({ "RANGE": "10.0.0.0/30", "Range_Start": "10.0.0.2" }), "10.0.0.0/30 10.0.0.2-10.0.0.2"),
        (json!({ "range": "::ffff:10.0.0.0/120" }), "10.0.0.0/24 10.0.0.1-10.0.0.254"),
        (
            json!({ "range": "2001:db8:480:603d:0304:0403:000:0000-2001:db8:480:603d:0304:0403:0000:0004/64" }),
            "2001:db8:480:603d::/64 2001:db8:480:603d:304:403::-2001:db8:480:603d:304:403:0:4",
        ),
        (
            json!({ "range": "fd00::/64", "range_start": "", "range_end": null }),
            "fd00::/64 fd00::1-fd00::ffff:ffff:ffff:fffe",
        ),
    ] {
        assert_eq!(bounds(&ipam), [expected], "{ipam}");
    }
    let both = json!({ "ipRanges": [{ "range": "192.168.10.0/24" }], "range": "abcd::/64" });
    assert_eq!(bounds(&both)[1], "192.168.10.0/24 192.168.10.1-192.168.10.254", "`range` goes first");
}

#[test]
fn wrong_values_name_field_value_and_remedy() {
    for (ipam, expected) in [
        (json!({}), "ipam.range: is missing; write the subnet"),
        (json!({ "range": "10.0.0.0" }), "ipam.range: \"10.0.0.0\" is not a range; write one like"),
        (json!({ "range": "10.0.0.0/33" }), "ipam.range: \"10.0.0.0/33\" is not a range"),
        (json!({ "range": "10.0.0.1 - 10.0.0.9/24" }), "is not a range"),
        (json!({ "range": "192.168.1.5-192.168.2.25/28" }), "starts outside its subnet 192.168.2.16/28"),
        (json!({ "range": "10.0.0.9-10.0.0.5/24" }), "runs backwards from 10.0.0.9 to 10.0.0.5"),
        (
            json!({ "range": "10.0.0.0/31" }),
            "ipam.range: \"10.0.0.0/31\" leaves no usable host address; use a prefix length of at most 30",
        ),
        (json!({ "range": "fd00::/128" }), "at most 126"),
        (
            json!({ "range": "0.0.0.0/0" }),
            "ipam.range: \"0.0.0.0/0\" is a whole address family; write a subnet",
        ),
        (json!({ "range": "10.0.0.1-10.0.0.9/0" }), "is a whole address family"),
        (json!({ "range": "::/0", "network_name": "a" }), "ipam.range: \"::/0\" is a whole address family"),
        (
            with(&json!({ "addresses": [{ "address": "10.0.0.5/0" }] })),
            "ipam.addresses[0].address: \"10.0.0.5/0\" makes a whole address family its subnet",
        ),
        (
            json!({ "range": "::1:0:0:0/80" }),
            "begins with \"::\", which no pool can be named after; set network_name",
        ),
        (
            with(&json!({ "range_start": "bogus" })),
            "ipam.range_start: \"bogus\" is not an IP address; write one like",
        ),
        (
            with(&json!({ "range_end": "172.23.0.70/24" })),
            "ipam.range_end: \"172.23.0.70/24\" is not an IP address",
        ),
        (
            with(&json!({ "range_start": "172.23.0.70", "range_end": "172.23.0.30" })),
            "ipam.range_start: \"172.23.0.70\" lies after range_end 172.23.0.30",
        ),
        (with(&json!({ "range_start": "fd00::1" })), "is not of the address family of 172.23.0.0/24"),
        (with(&json!({ "range_start": 30 })), "ipam.range_start: 30 is not a string"),
        (with(&json!({ "exclude": ["192.168.0.1/123"] })), "ipam.exclude[0]: \"192.168.0.1/123\" is neither"),
        (
            with(&json!({ "exclude": ["172.23.0.1", "100::2::1"] })),
            "ipam.exclude[1]: \"100::2::1\" is neither",
        ),
        (with(&json!({ "exclude": ["172.023.0.1"] })), "is neither a subnet nor an address"),
        (with(&json!({ "exclude": ["172.23.0.1-172.23.0.5"] })), "is neither a subnet nor an address"),
        (
            json!({ "ipRanges": [{ "range": "10.0.0.0/24", "range_start": "10.0.0.010" }] }),
            "ipam.ipRanges[0].range_start: \"10.0.0.010\" is not an IP",
        ),
        (json!({ "ipRanges": [{}] }), "ipam.ipRanges[0].range: is missing"),
        (
            with(&json!({ "gateway": "10.1.1.1" })),
            "ipam.gateway: \"10.1.1.1\" is not a host of 172.23.0.0/24",
        ),
        (with(&json!({ "gateway": "172.23.0.255" })), "is not a host of"),
        (with(&json!({ "gateway": "gw" })), "ipam.gateway: \"gw\" is not an IP address"),
        (
            json!({ "addresses": [{ "address": "10.0.0.5/24" }], "gateway": "10.0.0.1" }),
            "write it as addresses[].gateway",
        ),
        (
            with(&json!({ "addresses": [{ "address": "10.0.0.5" }] })),
            "ipam.addresses[0].address: \"10.0.0.5\" is not an address with prefix",
        ),
        (with(&json!({ "addresses": [{}] })), "ipam.addresses[0].address: is missing"),
        (
            with(&json!({ "addresses": [{ "address": "10.0.0.0/24" }] })),
            "is the first or last address of 10.0.0.0/24",
        ),
        (
            with(&json!({ "addresses": [{ "address": "10.0.0.5/24", "gateway": "10.0.1.1" }] })),
            "ipam.addresses[0].gateway",
        ),
        (
            with(&json!({ "addresses": [{ "address": "172.23.0.1/24" }], "gateway": "172.23.0.1" })),
            "is also a gateway",
        ),
        (
            with(&json!({ "addresses": [{ "address": "10.0.0.5/24" }, { "address": "10.0.0.5/16" }] })),
            "ipam.addresses[1].address: \"10.0.0.5/16\" is listed twice",
        ),
        (with(&json!({ "routes": [{ "gw": "172.23.0.1" }] })), "ipam.routes[0].dst: is missing"),
        (
            with(&json!({ "routes": [{ "dst": "default" }] })),
            "ipam.routes[0].dst: \"default\" is not an address with prefix",
        ),
        (
            with(&json!({ "routes": [{ "dst": "10.0.0.0/8", "gw": "10.0.0.1" }] })),
            "ipam.routes[0].gw: \"10.0.0.1\" is not a neighbour; write a host of 172.23.0.0/24",
        ),
        (
            with(&json!({ "routes": [{ "dst": "10.0.0.0/8", "gw": "fe80::1" }] })),
            "is not of the address family of 10.0.0.0/8",
        ),
        (
            with(&json!({ "routes": [{ "dst": "10.0.0.0/8", "mtu": -1 }] })),
            "ipam.routes[0].mtu: -1 is out of bounds; write 0 to 65520",
        ),
        (
            with(&json!({ "routes": [{ "dst": "10.0.0.0/8", "mtu": 65521 }] })),
            "ipam.routes[0].mtu: 65521 is out of bounds",
        ),
        (
            with(&json!({ "routes": [{ "dst": "10.0.0.0/8", "advmss": 65496 }] })),
            "ipam.routes[0].advmss: 65496 is out of bounds; write 0 to 65495",
        ),
        (
            with(&json!({ "routes": [{ "dst": "10.0.0.0/8", "priority": -5 }] })),
            "ipam.routes[0].priority: -5 is out of bounds; write 0 to 4294967295",
        ),
        (
            with(&json!({ "routes": [{ "dst": "10.0.0.0/8", "scope": 256 }] })),
            "ipam.routes[0].scope: 256 is out of bounds; write 0 to 255",
        ),
        (
            with(&json!({ "routes": [{ "dst": "10.0.0.0/8", "table": 4294967296_u64 }] })),
            "ipam.routes[0].table: 4294967296 is out",
        ),
        (
            with(&json!({ "network_name": "Net_A" })),
            "ipam.network_name: \"Net_A\" cannot begin an object's name",
        ),
        (with(&json!({ "network_name": "a".repeat(250) })), "is too long for the name of a pool"),
        (
            with(&json!({ "network_name": "a".repeat(239), "datastore": "file" })),
            "too long for the name of a pool's file",
        ),
        (
            with(&json!({ "datastore": "File" })),
            "ipam.datastore: \"File\" is not a datastore; write \"file\" or \"kubernetes\"",
        ),
        (with(&json!({ "dataDir": "var/lib" })), "ipam.dataDir: \"var/lib\" is not an absolute path"),
        (
            with(&json!({ "enable_overlapping_ranges": "false" })),
            "ipam.enable_overlapping_ranges: \"false\" is not a boolean",
        ),
        (with(&json!({ "dns": { "search": "a" } })), "ipam.dns.search: \"a\" is not a list"),
    ] {
        match parse(&ipam) {
            Err(ConfError::Field(error)) => {
                let message = error.to_string();
                assert!(message.contains(expected), "{ipam}\n{expected}\n{message}");
            }
            other => panic!("{ipam} gives {other:?}"),
        }
    }
}

#[test]
fn what_is_not_done_here_is_unsupported() {
    for more in [
        json!({ "node_slice_size": "/26" }),
        json!({ "configuration_path": "/etc/cni/whereabouts.conf", "datastore": "file" }),
        json!({ "datastore": "etcd" }),
    ] {
        assert!(matches!(parse(&with(&more)), Err(ConfError::Unsupported(_))), "{more}");
    }
    assert!(parse(&with(&json!({ "node_slice_size": "", "configuration_path": null }))).is_ok());
}

#[test]
fn a_range_with_nothing_left_of_it_is_refused() {
    for ipam in [
        json!({ "range": "192.168.1.0/30", "exclude": ["192.168.1.0/30"] }),
        json!({ "range": "192.168.1.0/24", "range_end": "192.168.1.9", "exclude": ["192.168.1.0/28"] }),
        json!({ "range": "192.168.1.0/30", "exclude": ["192.168.1.1", "192.168.1.2/32"] }),
        json!({ "range": "fd00::/64", "exclude": ["fd00::/65", "fd00::8000:0:0:0/65"] }),
    ] {
        let message = parse(&with(&ipam)).unwrap_err().to_string();
        assert!(message.starts_with("ipam.exclude: leaves no address of "), "{ipam}: {message}");
    }
    let some_left =
        json!({ "range": "192.168.1.0/29", "range_start": "192.168.1.2", "exclude": ["192.168.1.0/30"] });
    assert!(parse(&with(&some_left)).is_ok());
}

#[test]
fn oddities_warn_and_strict_refuses_them() {
    for (more, expected) in [
        (
            json!({ "range_start": "10.9.9.9" }),
            "ipam.range_start: \"10.9.9.9\" is not a usable host of 172.23.0.0/24; the range starts at 172.23.0.1 instead",
        ),
        (json!({ "range_end": "172.23.0.255" }), "the range ends at 172.23.0.254 instead"),
        (json!({ "range": "172.23.0.0-172.23.0.9/24" }), "ipam.range: \"172.23.0.0\" is not a usable host"),
        (
            json!({ "range": "172.23.0.5-172.23.0.9/24", "range_start": "172.23.0.7" }),
            "has no effect because ipam.range names both bounds",
        ),
        (json!({ "exclude": ["172.23.0.1", "10.0.0.0/8"] }), "ipam.exclude[1]: \"10.0.0.0/8\" has no effect"),
        (
            json!({ "range": "", "ipRanges": [{ "range": "10.0.0.0/24" }], "exclude": ["10.0.0.1"] }),
            "ipam.exclude: has no effect without a range",
        ),
        (json!({ "rnge_first": "172.23.0.9" }), "ipam.rnge_first: unknown key in ipam; ignored"),
        (
            json!({ "ipRanges": [{ "range": "10.0.0.0/24", "omit": [] }] }),
            "ipam.ipRanges[0].omit: unknown key in ipam; ignored",
        ),
        (json!({ "routes": [{ "dst": "10.0.0.0/8", "via": "172.23.0.1" }] }), "ipam.routes[0].via"),
        (json!({ "addresses": [{ "address": "10.0.0.5/24", "gw": "10.0.0.1" }] }), "ipam.addresses[0].gw"),
        (json!({ "dns": { "nameserver": "10.0.0.1" } }), "ipam.dns.nameserver"),
        (json!({ "log_level": "loud" }), "ipam.log_level: \"loud\" is not a log level"),
        (json!({ "log_file": "/etc/cron.d/x" }), "ipam.log_file: \"/etc/cron.d/x\" is not a place for logs"),
        (json!({ "log_file": "w.log" }), "ipam.log_file: \"w.log\" is not a place for logs"),
    ] {
        let ipam = with(&more);
        let warnings = parse(&ipam).unwrap().warnings;
        assert!(warnings.len() == 1 && warnings[0].contains(expected), "{ipam}: {warnings:?}");
        match strict(&ipam) {
            Err(ConfError::Field(error)) => assert_eq!(error.to_string(), warnings[0]),
            other => panic!("strict {ipam} gives {other:?}"),
        }
    }
}

#[test]
fn whereabouts_own_settings_pass_even_strictly() {
    let conf = strict(&with(&json!({
        "datastore": "kubernetes", "kubernetes": { "kubeconfig": "/etc/x" }, "etcd_host": "a", "sleep_for_race": 5,
        "leader_lease_duration": 1500, "leader_renew_deadline": 1000, "leader_retry_period": 500,
        "reconciler_cron_expression": "30 4 * * *", "log_file": "/var/log/whereabouts.log", "log_level": "Debug",
        "Name": "n", "PodName": "p", "PodNamespace": "s", "network_name": "",
        "enable_overlapping_ranges": false,
        "dns": { "nameservers": ["10.0.0.53"], "domain": "a.b", "search": ["c"], "options": ["ndots:5"] },
    })))
    .unwrap();
    assert_eq!(conf.log_level.as_deref(), Some("debug"));
    assert_eq!(conf.dns.nameservers, ["10.0.0.53"]);
    assert_eq!((conf.network_name, conf.enable_overlapping_ranges), (None, false));
}

#[test]
fn next_hops_may_be_any_neighbour() {
    for more in [
        json!({ "routes": [{ "dst": "10.0.0.0/8" }] }),
        json!({ "routes": [{ "dst": "10.0.0.0/8", "gw": "" }] }),
        json!({ "routes": [{ "dst": "10.1.0.0/16" }, { "dst": "10.0.0.0/8", "gw": "10.1.0.1" }] }),
        json!({ "routes": [{ "dst": "::/0", "gw": "fe80::1" }] }),
        json!({ "addresses": [{ "address": "10.5.0.9/24" }], "routes": [{ "dst": "10.0.0.0/8", "gw": "10.5.0.1" }] }),
        json!({ "ipRanges": [{ "range": "fd00::/64" }], "routes": [{ "dst": "::/0", "gw": "fd00::" }] }),
    ] {
        assert!(parse(&with(&more)).is_ok(), "{more}");
    }
    // With a gateway of the family, the first route goes through that and makes nobody a neighbour.
    let through = json!({
        "gateway": "172.23.0.1",
        "routes": [{ "dst": "10.1.0.0/16" }, { "dst": "10.0.0.0/8", "gw": "10.1.0.1" }],
    });
    assert!(parse(&with(&through)).is_err());
}

#[test]
fn routes_are_masked_and_zero_is_absent() {
    let routes =
        json!([{ "dst": "10.1.2.3/8", "mtu": 0, "advmss": 1400, "priority": 5, "table": 0, "scope": 253 }]);
    let conf = parse(&with(&json!({ "routes": routes }))).unwrap();
    let route = &conf.routes[0];
    assert_eq!(route.dst.to_string(), "10.0.0.0/8");
    let numbers = (route.mtu, route.advmss, route.priority, route.table, route.scope);
    assert_eq!(numbers, (None, Some(1400), Some(5), Some(0), Some(253)));
    let most = json!([{ "dst": "10.0.0.0/8", "mtu": 65520, "advmss": 65495, "priority": u32::MAX }]);
    let route = &parse(&with(&json!({ "routes": most }))).unwrap().routes[0];
    assert_eq!((route.mtu, route.advmss, route.priority), (Some(65520), Some(65495), Some(u32::MAX)));
}

#[test]
fn a_gateway_goes_with_its_own_subnet_only() {
    let conf = parse(&with(&json!({
        "gateway": "172.23.0.1",
        "ipRanges": [{ "range": "fd00::/64" }, { "range": "10.0.0.0/24" }],
        "addresses": [{ "address": "172.23.0.9/24" }, { "address": "10.5.0.9/24", "gateway": "10.5.0.1" }],
    })))
    .unwrap();
    let owner = Owner { container_id: "c".into(), ifname: "net1".into(), pod: None };
    let request = conf.request(owner, &[], Reach::Range).unwrap();
    let gateways: Vec<Option<String>> =
        request.wants.iter().map(|w| w.gateway.map(|g| g.to_string())).collect();
    let expected = [Some("172.23.0.1"), None, None, None, Some("10.5.0.1")];
    assert_eq!(gateways.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
    let link_local = with(&json!({ "gateway": "fe80::1", "ipRanges": [{ "range": "fd00::/64" }] }));
    let conf = parse(&link_local).unwrap();
    assert_eq!(conf.gateway_of(&conf.ranges[0].subnet()), None);
    assert!(conf.gateway_of(&conf.ranges[1].subnet()).is_some());
}

fn pins(conf: &Ipam, asked: &[&str]) -> Result<Vec<String>, String> {
    pins_within(conf, asked, Reach::Subnet)
}

fn pins_within(conf: &Ipam, asked: &[&str], reach: Reach) -> Result<Vec<String>, String> {
    let requested: Vec<RequestedAddress> =
        asked.iter().map(|text| RequestedAddress::parse("CNI_ARGS IP", text).unwrap()).collect();
    let owner = Owner { container_id: "c".into(), ifname: "net1".into(), pod: None };
    let request = conf.request(owner, &requested, reach).map_err(|error| error.to_string())?;
    let shown = |choice: &Choice| match choice {
        Choice::Exactly(address) => address.to_string(),
        Choice::Lowest(range) => format!("any of {}", range.subnet()),
    };
    Ok(request.wants.iter().map(|want| shown(&want.choice)).collect())
}

#[test]
fn requested_addresses_take_the_place_of_their_range() {
    let conf = parse(&with(&json!({
        "range_start": "172.23.0.30", "range_end": "172.23.0.70", "exclude": ["172.23.0.60/30"],
        "ipRanges": [{ "range": "fd00::/64" }],
        "addresses": [{ "address": "10.0.0.5/24" }],
    })))
    .unwrap();
    let any = ["any of 172.23.0.0/24", "any of fd00::/64", "10.0.0.5"];
    assert_eq!(pins(&conf, &[]).unwrap(), any);
    assert_eq!(pins(&conf, &["fd00::7/64"]).unwrap(), [any[0], "fd00::7", any[2]]);
    assert_eq!(pins(&conf, &["172.23.0.61"]).unwrap(), ["172.23.0.61", any[1], any[2]]);
    assert_eq!(pins(&conf, &["172.23.0.9", "172.23.0.9/24"]).unwrap(), ["172.23.0.9", any[1], any[2]]);
    let two = ["172.23.0.200", "172.23.0.40"];
    assert_eq!(pins(&conf, &two).unwrap(), ["172.23.0.200", any[1], "172.23.0.40", any[2]]);
    let halves = parse(&json!({
        "ipRanges": [{ "range": "10.0.0.10-10.0.0.20/24" }, { "range": "10.0.0.30-10.0.0.40/24" }],
    }))
    .unwrap();
    assert_eq!(pins(&halves, &["10.0.0.35"]).unwrap(), ["any of 10.0.0.0/24", "10.0.0.35"]);
}

#[test]
fn requested_addresses_that_cannot_be_are_refused() {
    let conf = parse(&with(&json!({
        "gateway": "172.23.0.1",
        "routes": [{ "dst": "172.24.0.0/16", "gw": "172.23.0.150" }],
        "addresses": [{ "address": "172.23.0.5/24" }],
    })))
    .unwrap();
    for (asked, expected) in [
        (
            "10.0.0.1",
            "CNI_ARGS IP: \"10.0.0.1\" is in none of the network's ranges; ask for an address of 172.23.0.0/24",
        ),
        ("172.23.0.9/16", "has another prefix length than its range 172.23.0.0/24; write /24"),
        ("172.23.0.0", "is the first or last address"),
        ("172.23.0.255/24", "is the first or last address"),
        ("172.23.0.1", "is a gateway or a route's next hop"),
        ("172.23.0.150", "is a gateway or a route's next hop"),
        ("172.23.0.5", "is one of ipam.addresses already"),
    ] {
        let message = pins(&conf, &[asked]).unwrap_err();
        assert!(message.contains(expected), "{asked}: {message}");
    }
    let fixed = parse(&json!({ "addresses": [{ "address": "10.0.0.5/24" }] })).unwrap();
    assert!(pins(&fixed, &["10.0.0.6"]).unwrap_err().contains("has no range"));
    for text in ["", "10.0.0", "10.0.0.1/33", "10.0.0.1,10.0.0.2"] {
        assert!(RequestedAddress::parse("x", text).is_err(), "{text}");
    }
}

#[test]
fn a_pod_asks_for_what_its_ranges_hand_out_unless_the_network_allows_more() {
    let conf = parse(&with(&json!({
        "range_start": "172.23.0.30", "range_end": "172.23.0.70", "exclude": ["172.23.0.44"],
        "ipRanges": [{ "range": "172.23.0.200-172.23.0.210/24" }],
    })))
    .unwrap();
    let within = |asked: &str| pins_within(&conf, &[asked], Reach::Range);
    assert_eq!(within("172.23.0.30").unwrap(), ["172.23.0.30", "any of 172.23.0.0/24"]);
    // Of two ranges over one subnet, either will do.
    assert_eq!(within("172.23.0.205/24").unwrap(), ["any of 172.23.0.0/24", "172.23.0.205"]);
    for (asked, why) in [
        ("172.23.0.1/24", "\"172.23.0.1/24\" lies outside 172.23.0.30-172.23.0.70; ask for an address of it"),
        ("172.23.0.71", "lies outside"),
        ("172.23.0.44", "\"172.23.0.44\" is excluded from 172.23.0.30-172.23.0.70 by 172.23.0.44/32"),
    ] {
        let message = within(asked).unwrap_err();
        assert!(message.contains(why) && message.ends_with(r#""capabilities": {"ips": true}"#), "{message}");
        assert!(pins(&conf, &[asked]).is_ok(), "{asked}");
    }
}

#[test]
fn one_attachment_has_so_many_addresses_and_routes_and_no_more() {
    let ranges = |count: usize| vec![json!({ "range": "10.0.0.0/16" }); count];
    let fixed = |count: usize| -> Vec<Value> {
        (1..=count).map(|n| json!({ "address": format!("10.1.0.{n}/16") })).collect()
    };
    assert!(parse(&json!({ "ipRanges": ranges(MOST_WANTS) })).is_ok());
    assert!(parse(&with(&json!({ "ipRanges": ranges(13), "addresses": fixed(50) }))).is_ok());
    for (ipam, field, count) in [
        (json!({ "ipRanges": ranges(2500) }), "ipam.ipRanges", 2500),
        (json!({ "addresses": fixed(65) }), "ipam.addresses", 65),
        (with(&json!({ "ipRanges": ranges(13), "addresses": fixed(51) })), "ipam.addresses", 65),
    ] {
        let message = parse(&ipam).unwrap_err().to_string();
        assert!(message.starts_with(&format!("{field}: makes {count} addresses")), "{message}");
        assert!(message.ends_with("64 are the most"), "{message}");
    }
    let conf = parse(&json!({ "range": "10.0.0.0/16" })).unwrap();
    let asked: Vec<String> = (0..65).map(|n| format!("10.0.0.{}", n + 1)).collect();
    let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
    assert_eq!(pins(&conf, &asked[..64]).unwrap().len(), 64);
    assert!(pins(&conf, &asked).unwrap_err().contains("makes 65 addresses of one attachment"));
    let two = parse(&json!({ "range": "10.0.0.0/16", "addresses": [{ "address": "10.5.0.9/24" }] })).unwrap();
    assert!(pins(&two, &asked[..64]).unwrap_err().contains("makes 65 addresses of one attachment"));
    let routes = |count: usize| with(&json!({ "routes": vec![json!({ "dst": "10.0.0.0/8" }); count] }));
    assert!(parse(&routes(MOST_ROUTES)).is_ok());
    let excludes = |count: usize| {
        with(&json!({ "exclude": vec!["172.23.0.1"; count], "ipRanges": [
        { "range": "10.0.0.0/16", "exclude": vec!["10.0.0.1"; count] },
    ] }))
    };
    assert!(parse(&excludes(512)).is_ok());
    let message = parse(&excludes(513)).unwrap_err().to_string();
    assert_eq!(message, "ipam.exclude: has 1026 entries; write fewer, 1024 are the most");
    let message = parse(&routes(MOST_ROUTES + 1)).unwrap_err().to_string();
    assert_eq!(message, "ipam.routes: has 1025 entries; write fewer, 1024 are the most");
}
