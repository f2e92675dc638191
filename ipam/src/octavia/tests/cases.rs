//! Definitions that the operator refuses, or accepts and uses wrongly. The outcomes follow from the source of
//! the operator's functions, which these tests do not run.

use serde_json::{Value, json};

use super::{changed, cluster, paths, reviewed};

/// The operator makes objects in Neutron.
const ACCEPTED: &str = "";
const NEUTRON: &str = "cannot allocate IP addresses: 25 in 172.23.0.0/24";
const PREDICTABLE: &str = "predictable IPs: cannot allocate IP addresses: 25 in 172.23.0.0/24";
const NO_RANGE: &str = "cannot allocate IP addresses: 25 in invalid Prefix";
const UNREADABLE: &str = "cannot read network parameters: ";

const GW: &str = "ipam.routes[0].gw";
const DST: &str = "ipam.routes[0].dst";
const END: &str = "ipam.range_end";
/// The router of the documented network, when the pods' range reaches as far.
const GW_WARNED: &str = "warning ipam.routes[0].gw";

/// A name, the change of the documented configuration, how the operator's message begins, and the paths of the findings.
type Case = (&'static str, Value, &'static str, &'static [&'static str]);

fn check(cases: Vec<Case>) {
    for (name, change, outcome, expected) in cases {
        let review = reviewed(&changed(&change), &cluster());
        let said = review.reading.refusal.as_ref().map(ToString::to_string).unwrap_or_default();
        let is_same = if outcome.is_empty() { said.is_empty() } else { said.starts_with(outcome) };
        assert!(is_same, "{name}: the operator says {said:?}, not {outcome:?}");
        assert_eq!(paths(&review), expected, "{name}: {:#?}", review.findings);
        for finding in &review.findings {
            assert!(!finding.field.remedy.is_empty(), "{name}: {finding:?}");
        }
    }
}

fn routes(routes: &Value) -> Value {
    json!({"ipam": {"routes": routes}})
}

fn gw(gw: &str) -> Value {
    routes(&json!([{"dst": "172.24.0.0/16", "gw": gw}]))
}

fn dst(dst: &str) -> Value {
    routes(&json!([{"dst": dst, "gw": "172.23.0.150"}]))
}

fn end(end: &str) -> Value {
    json!({"ipam": {"range_end": end}})
}

fn ipv6(end: &str, gw: &str) -> Value {
    json!({"ipam": {
        "range": "fd00:eeee::/64", "range_start": "fd00:eeee::30", "range_end": end,
        "routes": [{"dst": "fd00:ffff::/64", "gw": gw}],
    }})
}

#[test]
fn routes_and_next_hops() {
    let tenant = json!({"dst": "172.24.0.0/16", "gw": "172.23.0.150"});
    check(vec![
        ("documented", json!({}), ACCEPTED, &[]),
        ("no routes", json!({"ipam": {"routes": null}}), "cannot find gateway information", &["ipam.routes"]),
        ("empty routes", routes(&json!([])), "cannot find gateway information", &["ipam.routes"]),
        ("a route that is null", routes(&json!([null])), ACCEPTED, &[DST, GW, "ipam.routes[0]"]),
        (
            "a route that is null first",
            routes(&json!([null, tenant])),
            ACCEPTED,
            &[DST, GW, "ipam.routes[0]"],
        ),
        ("no gw", routes(&json!([{"dst": "172.24.0.0/16"}])), ACCEPTED, &[GW]),
        ("empty gw", gw(""), ACCEPTED, &[GW]),
        ("gw is not an address", gw("router"), UNREADABLE, &[GW]),
        ("no dst", routes(&json!([{"gw": "172.23.0.150"}])), ACCEPTED, &[DST]),
        ("gw outside the range", gw("172.25.0.1"), ACCEPTED, &[GW]),
        ("gw is the broadcast address", gw("172.23.0.255"), ACCEPTED, &[GW]),
        ("gw is Neutron's metadata port", gw("172.23.0.71"), ACCEPTED, &[GW]),
        ("gw is the last of Neutron's pool", gw("172.23.0.96"), ACCEPTED, &[GW]),
        ("gw is the first predictable one", gw("172.23.0.97"), ACCEPTED, &[GW]),
        ("gw is the last predictable one", gw("172.23.0.122"), ACCEPTED, &[GW]),
        ("gw behind the pools", gw("172.23.0.123"), ACCEPTED, &[]),
        ("gw before the pods", gw("172.23.0.1"), ACCEPTED, &[]),
        ("gw among the pods", gw("172.23.0.40"), ACCEPTED, &[GW_WARNED]),
        (
            "default route first",
            routes(&json!([{"dst": "0.0.0.0/0", "gw": "172.23.0.150"}, tenant])),
            ACCEPTED,
            &[DST],
        ),
        (
            "another route first",
            routes(&json!([{"dst": "10.0.0.0/8", "gw": "172.23.0.1"}, tenant])),
            ACCEPTED,
            &["warning ipam.routes[1].dst"],
        ),
        ("a route without gw first", routes(&json!([{"dst": "10.0.0.0/8"}, tenant])), ACCEPTED, &[GW]),
        ("tenant network is the range", dst("172.23.0.0/24"), ACCEPTED, &[DST]),
        ("tenant network around the range", dst("172.16.0.0/12"), ACCEPTED, &[DST]),
        ("tenant network inside the range", dst("172.23.0.128/25"), ACCEPTED, &[DST]),
        ("tenant network of another family", dst("fd00:ffff::/64"), ACCEPTED, &[GW]),
        ("tenant network of one address", dst("172.24.0.1/32"), ACCEPTED, &[DST]),
        ("tenant network of two amphorae", dst("172.24.0.0/29"), ACCEPTED, &[DST]),
        ("tenant network with enough amphorae", dst("172.24.0.0/28"), ACCEPTED, &[]),
        ("tenant network with host bits", dst("172.24.0.9/16"), ACCEPTED, &["warning ipam.routes[0].dst"]),
        ("tenant network without length", dst("172.24.0.0"), UNREADABLE, &[DST]),
    ]);
}

#[test]
fn ranges_and_bounds() {
    let small = json!({"ipam": {
        "range": "172.23.0.0/26", "range_end": "172.23.0.40", "routes": [{"dst": "172.24.0.0/16", "gw": "172.23.0.60"}],
    }});
    let only_ip_ranges = json!({"ipam": {"range": null, "ipRanges": [{"range": "172.23.0.0/24"}]}});
    check(vec![
        ("no range_end", json!({"ipam": {"range_end": null}}), NEUTRON, &[END, GW_WARNED]),
        ("range_end outside the range", end("172.25.0.70"), NEUTRON, &[END, GW_WARNED]),
        ("range_end before range_start", end("172.23.0.20"), ACCEPTED, &["ipam.range_start"]),
        ("range_end .202", end("172.23.0.202"), ACCEPTED, &[GW_WARNED]),
        (
            "range_end .203: a pool with the broadcast address",
            end("172.23.0.203"),
            ACCEPTED,
            &[END, GW_WARNED],
        ),
        ("range_end .204: a pool with the next network", end("172.23.0.204"), ACCEPTED, &[END, GW_WARNED]),
        ("range_end .205", end("172.23.0.205"), PREDICTABLE, &[END, GW_WARNED]),
        ("range_end .230", end("172.23.0.230"), PREDICTABLE, &[END, GW_WARNED]),
        ("range_end .231", end("172.23.0.231"), NEUTRON, &[END, GW_WARNED]),
        ("range_end .254", end("172.23.0.254"), NEUTRON, &[END, GW_WARNED]),
        ("range_end with leading zeros", end("172.23.0.070"), UNREADABLE, &[END]),
        ("range_end as IPv4 in IPv6", end("::ffff:172.23.0.70"), NEUTRON, &[END]),
        ("range_end is a number", json!({"ipam": {"range_end": 70}}), UNREADABLE, &[END]),
        ("range too small", small, "cannot allocate IP addresses: 25 in 172.23.0.0/26", &[END]),
        (
            "range with bounds",
            json!({"ipam": {"range": "172.23.0.30-172.23.0.70/24"}}),
            UNREADABLE,
            &["ipam.range"],
        ),
        (
            "range with host bits",
            json!({"ipam": {"range": "172.23.0.7/24"}}),
            ACCEPTED,
            &["warning ipam.range"],
        ),
        ("ipRanges alone", only_ip_ranges, NO_RANGE, &["ipam.ipRanges"]),
        ("no ipam", json!({"ipam": null}), NO_RANGE, &["ipam"]),
        ("ipam is a text", json!({"ipam": "172.23.0.0/24"}), UNREADABLE, &["ipam"]),
        ("gateway", json!({"ipam": {"gateway": "172.23.0.1"}}), ACCEPTED, &["warning ipam.gateway"]),
        (
            "keys in another case",
            json!({"ipam": null, "IPAM": {
                "type": "whereabouts", "Range": "172.23.0.0/24", "RANGE_END": "172.23.0.70",
                "Routes": [{"DST": "172.24.0.0/16", "Gw": "172.23.0.150"}],
            }}),
            ACCEPTED,
            &[],
        ),
    ]);
}

#[test]
fn ipv6_and_both_families() {
    let both = json!({"ipam": {
        "ipRanges": [{"range": "fd00:eeee::/64"}],
        "routes": [{"dst": "172.24.0.0/16", "gw": "172.23.0.150"}, {"dst": "fd00:ffff::/64", "gw": "fd00:eeee::150"}],
    }});
    let refused = "cannot allocate IP addresses: 25 in fd00:eeee::/64";
    check(vec![
        ("IPv6", ipv6("fd00:eeee::70", "fd00:eeee::150"), ACCEPTED, &[]),
        ("IPv6, gw in Neutron's pool", ipv6("fd00:eeee::70", "fd00:eeee::8a"), ACCEPTED, &[GW]),
        ("IPv6, range_end outside", ipv6("fd00:eeef::70", "fd00:eeee::150"), refused, &[END, GW_WARNED]),
        (
            "IPv6, a pool that leaves the network",
            ipv6("fd00:eeee::ffff:ffff:ffff:ffcc", "fd00:eeee::150"),
            ACCEPTED,
            &[END, GW_WARNED],
        ),
        ("IPv6 beside IPv4", both, ACCEPTED, &[]),
    ]);
}

#[test]
fn keys_beside_ipam() {
    let list = json!({
        "plugins": [{"type": "octavia-bridge", "bridge": "octbr", "ipam": {}}], "type": null, "bridge": null, "ipam": null,
    });
    check(vec![
        ("a list of plugins", list, NO_RANGE, &["plugins"]),
        ("macvlan", json!({"type": "macvlan", "master": "enp6s0.24"}), ACCEPTED, &["type"]),
        (
            "host-device of nicMappings",
            json!({"type": "host-device", "device": "octbr"}),
            ACCEPTED,
            &["type"],
        ),
        ("port isolation", json!({"portIsolation": true}), ACCEPTED, &["portIsolation"]),
        ("MAC check", json!({"macspoofchk": true}), ACCEPTED, &["macspoofchk"]),
        ("neither", json!({"portIsolation": false, "macspoofchk": false, "vlan": 0}), ACCEPTED, &[]),
        ("tagged twice", json!({"vlan": 24}), ACCEPTED, &["vlan"]),
        ("a misspelt plugin", json!({"type": "octavia-brigde"}), ACCEPTED, &["type"]),
        ("a plugin in capitals", json!({"type": "Bridge", "bridge": null}), ACCEPTED, &["type", "bridge"]),
        ("no plugin", json!({"type": null}), ACCEPTED, &["type"]),
        ("a plugin that is a number", json!({"type": 5}), ACCEPTED, &["type"]),
        ("a plugin that is not known", json!({"type": "ovs"}), ACCEPTED, &["warning type"]),
        ("a misspelt IPAM plugin", json!({"ipam": {"type": "wherabouts"}}), ACCEPTED, &["ipam.type"]),
        ("no IPAM plugin", json!({"ipam": {"type": null}}), ACCEPTED, &["ipam.type"]),
        ("an IPAM plugin that is a number", json!({"ipam": {"type": 5}}), ACCEPTED, &["ipam.type"]),
        ("another IPAM plugin", json!({"ipam": {"type": "host-local"}}), ACCEPTED, &["warning ipam.type"]),
        ("port isolation as a text", json!({"portIsolation": "true"}), ACCEPTED, &["portIsolation"]),
        ("a bridge without policy", json!({"bridge": "octavia"}), ACCEPTED, &["warning bridge"]),
        ("a bridge that is a number", json!({"bridge": 5}), ACCEPTED, &["bridge"]),
        ("no bridge", json!({"bridge": null}), ACCEPTED, &["bridge"]),
        (
            "several",
            json!({"vlan": 24, "ipam": {"range_end": "172.23.0.20", "routes": []}}),
            "cannot find",
            &["vlan", "ipam.routes", "ipam.range_start"],
        ),
    ]);
}
