//! Every wrong field: one error object, the right code, the field, the value and what would be right, and no trace.

use octavia_bridge_tests::{Lab, conf};
use serde_json::{Value, json};

/// Changes to the configuration, and what the message must contain.
type Row = (Value, &'static [&'static str]);

/// Every row fails with `code`, says its words, and leaves a host without bridge and a pod without link.
fn all_refused(code: u64, rows: &[Row]) {
    let pod = Lab::new().node("node1").pod("worker");
    let before = pod.node().snapshot(&[&pod]);
    for (changes, words) in rows {
        let outcome = pod.add(&conf::octavia_with(changes.clone())).run();
        assert!(!outcome.status.success(), "accepted {changes}: {}", outcome.stdout);
        let error = outcome.error(code);
        error.says(words);
        // A remedy is a sentence, not a word: field and value alone are shorter.
        assert!(error.msg.len() + error.details.len() >= 30, "no remedy in {error:?}");
        assert!(pod.node().snapshot(&[&pod]) == before, "{changes} left something behind");
    }
}

/// The same for keys of the `ipam` block.
fn all_ipam_refused(code: u64, rows: &[Row]) {
    let wrapped: Vec<Row> = rows.iter().map(|(ipam, words)| (json!({"ipam": ipam}), *words)).collect();
    all_refused(code, &wrapped);
}

#[test]
fn keys_of_the_bridge() {
    all_refused(
        7,
        &[
            (json!({"bridge": ""}), &["bridge", "\"\""]),
            (json!({"bridge": "sixteen-bytes-xx"}), &["bridge", "sixteen-bytes-xx", "15"]),
            (json!({"bridge": "a/b"}), &["bridge", "a/b"]),
            (json!({"bridge": ".."}), &["bridge", ".."]),
            (json!({"bridge": 7}), &["bridge", "7", "string"]),
            (json!({"bridgeMode": "auto"}), &["bridgeMode", "auto", "managed", "unmanaged"]),
            (json!({"dataDir": "relative/path"}), &["dataDir", "relative/path", "absolute"]),
            (json!({"dataDir": ["/x"]}), &["dataDir", "string"]),
            (json!({"agentSocket": "agent.sock"}), &["agentSocket", "agent.sock", "absolute"]),
            (json!({"agentSocket": 7}), &["agentSocket", "7", "string"]),
            (json!({"agentSocket": format!("/run/{}", "a".repeat(107))}), &["agentSocket", "107 bytes"]),
            (
                json!({"agentSocket": "/run/a.sock", "ipam": {"agentSocket": "/run/b.sock"}}),
                &["ipam.agentSocket", "/run/b.sock", "/run/a.sock"],
            ),
            (json!({"announce": "yes"}), &["announce", "yes", "true"]),
            (json!({"strict": 1}), &["strict", "1", "true"]),
            (json!({"mtu": "1500"}), &["mtu", "1500", "number"]),
            (json!({"mtu": 1500.5}), &["mtu", "1500.5"]),
            (json!({"mtu": 10}), &["mtu", "10", "68"]),
            (json!({"mtu": 70000}), &["mtu", "70000", "65535"]),
            (json!({"mtu": -5}), &["mtu", "-5"]),
            (
                json!({"mtu": 1279, "ipam": {"ipRanges": [{"range": "fd00:23::/64"}]}}),
                &["mtu", "1279", "1280"],
            ),
            (json!({"disableContainerInterface": true}), &["disableContainerInterface", "ipam"]),
            (json!({"dns": {"nameservers": "172.23.0.2"}}), &["dns.nameservers", "172.23.0.2", "list"]),
            (json!({"ipam": ["whereabouts"]}), &["ipam", "object"]),
        ],
    );
}

#[test]
fn port_vlans() {
    let trunk = |entry: Value| json!({"vlanTrunk": [{"id": 7}, entry]});
    all_refused(
        7,
        &[
            (json!({"vlan": -1}), &["vlan", "-1", "1 to 4094"]),
            (json!({"vlan": 4095}), &["vlan", "4095", "1 to 4094"]),
            (json!({"vlan": 65637}), &["vlan", "65637", "1 to 4094"]),
            (json!({"vlan": "100"}), &["vlan", "\"100\"", "number"]),
            (json!({"vlan": 100.5}), &["vlan", "100.5", "number"]),
            (json!({"vlanTrunk": {"id": 101}}), &["vlanTrunk", "list"]),
            (trunk(json!(101)), &["vlanTrunk[1]", "101", "object"]),
            (trunk(json!(null)), &["vlanTrunk[1]", "null", "object"]),
            (trunk(json!({})), &["vlanTrunk[1]", "{}", "minID"]),
            (trunk(json!({"id": 0})), &["vlanTrunk[1].id", "0", "1 to 4094"]),
            (trunk(json!({"id": 4095})), &["vlanTrunk[1].id", "4095", "1 to 4094"]),
            (trunk(json!({"id": "101"})), &["vlanTrunk[1].id", "\"101\"", "number"]),
            (trunk(json!({"minID": 0, "maxID": 9})), &["vlanTrunk[1].minID", "0", "1 to 4094"]),
            (trunk(json!({"minID": 9, "maxID": 5000})), &["vlanTrunk[1].maxID", "5000", "1 to 4094"]),
            (trunk(json!({"minID": 203, "maxID": 200})), &["vlanTrunk[1]", "203", "\"minID\": 200"]),
            (trunk(json!({"minID": 200})), &["vlanTrunk[1]", "200", "maxID"]),
            (trunk(json!({"maxID": 203, "id": 9})), &["vlanTrunk[1]", "203", "minID"]),
            (json!({"preserveDefaultVlan": "no"}), &["preserveDefaultVlan", "no", "true"]),
            (json!({"strict": true, "vlanTrunk": [{"ID": 7, "vid": 8}]}), &["vlanTrunk[0].vid", "unknown"]),
        ],
    );
}

#[test]
fn a_previous_result_that_is_none() {
    all_refused(
        6,
        &[
            (json!({"prevResult": "x"}), &["prevResult", "0.3.1"]),
            (json!({"prevResult": {"ips": [{"address": "bogus"}]}}), &["prevResult", "0.3.1"]),
        ],
    );
}

#[test]
fn mac_addresses() {
    all_refused(
        7,
        &[
            (json!({"mac": "nonsense"}), &["mac", "nonsense"]),
            (json!({"mac": "01:00:5e:00:00:01"}), &["mac", "01:00:5e:00:00:01", "multicast"]),
            (json!({"mac": "00:00:00:00:00:00"}), &["mac", "00:00:00:00:00:00"]),
            (json!({"mac": "02:00:00:00:00:01:02:03"}), &["mac", "02:00:00:00:00:01:02:03"]),
            (
                json!({"runtimeConfig": {"mac": "ff:ff:ff:ff:ff:ff"}}),
                &["runtimeConfig.mac", "ff:ff:ff:ff:ff:ff"],
            ),
            (json!({"runtimeConfig": {"mac": 2}}), &["runtimeConfig.mac", "2"]),
            (json!({"args": {"cni": {"mac": "02:00"}}}), &["args.cni.mac", "02:00"]),
        ],
    );
    let pod = Lab::new().node("node1").pod("worker");
    let error = pod.add(&conf::octavia()).args("MAC=nonsense").run().any_error();
    error.says(&["CNI_ARGS", "MAC", "nonsense"]);
    assert!(pod.node().link_names().is_empty());
}

#[test]
fn what_the_reference_plugin_does_and_this_one_does_not_yet() {
    all_refused(
        2,
        &[
            (json!({"isGateway": true}), &["isGateway", "true"]),
            (json!({"isDefaultGateway": true}), &["isDefaultGateway", "true"]),
            (json!({"forceAddress": true}), &["forceAddress", "true"]),
            (json!({"ipMasq": true}), &["ipMasq", "true"]),
            (json!({"hairpinMode": true}), &["hairpinMode", "true"]),
            (json!({"promiscMode": true}), &["promiscMode", "true"]),
            (json!({"macspoofchk": true}), &["macspoofchk", "true"]),
            (json!({"portIsolation": true}), &["portIsolation", "true"]),
            (json!({"enabledad": true}), &["enabledad", "true"]),
            (json!({"ipam": {"datastore": "etcd"}}), &["ipam.datastore", "etcd"]),
            (
                json!({"ipam": {"configuration_path": "/etc/whereabouts.conf"}}),
                &["ipam.configuration_path", "/etc/whereabouts.conf", "file"],
            ),
            (json!({"ipam": {"node_slice_size": "/26"}}), &["node_slice_size", "/26"]),
        ],
    );
}

#[test]
fn keys_that_ask_for_nothing_pass() {
    let pod = Lab::new().node("node1").pod("worker");
    let quiet = json!({
        "isGateway": false, "isDefaultGateway": null, "forceAddress": false, "ipMasq": false,
        "ipMasqBackend": "nftables", "hairpinMode": false, "promiscMode": false, "vlan": 0, "vlanTrunk": [],
        "preserveDefaultVlan": false, "macspoofchk": false, "portIsolation": false, "enabledad": false,
        "disableContainerInterface": false, "mtu": 0, "args": {}, "runtimeConfig": {}, "capabilities": {"ips": true},
    });
    pod.add(&conf::octavia_with(quiet)).run().attached();
}

#[test]
fn ranges() {
    all_ipam_refused(
        7,
        &[
            (json!({"range": "bogus"}), &["ipam.range", "bogus", "172.23.0.0/24"]),
            (json!({"range": "172.23.0.0/33"}), &["ipam.range", "172.23.0.0/33"]),
            (json!({"range": "172.23.0.0/31"}), &["ipam.range", "/31"]),
            (json!({"range": ["172.23.0.0/24"]}), &["ipam.range", "string"]),
            (json!({"range_start": "bogus"}), &["ipam.range_start", "bogus"]),
            (json!({"range_end": "172.23.0"}), &["ipam.range_end", "172.23.0"]),
            (
                json!({"range_start": "172.23.0.70", "range_end": "172.23.0.30"}),
                &["172.23.0.70", "172.23.0.30"],
            ),
            (json!({"exclude": ["bogus"]}), &["ipam.exclude[0]", "bogus"]),
            (json!({"exclude": "172.23.0.30/32"}), &["ipam.exclude", "list"]),
            (json!({"ipRanges": [{"range": "bogus"}]}), &["ipam.ipRanges[0].range", "bogus"]),
            (json!({"ipRanges": {"range": "172.23.0.0/24"}}), &["ipam.ipRanges", "list"]),
            (json!({"ipRanges": [7]}), &["ipam.ipRanges[0]", "7"]),
            (json!({"gateway": "bogus"}), &["ipam.gateway", "bogus"]),
            (json!({"gateway": "10.0.0.1"}), &["ipam.gateway", "10.0.0.1"]),
            (json!({"network_name": "Not A Name"}), &["ipam.network_name", "Not A Name"]),
            (json!({"datastore": "files"}), &["ipam.datastore", "files", "file"]),
            (json!({"datastore": 7}), &["ipam.datastore", "7", "string"]),
            (
                json!({"datastore": "kubernetes", "configuration_path": "own.conf"}),
                &["ipam.configuration_path", "own.conf", "absolute"],
            ),
            (json!({"type": "a/b"}), &["ipam.type", "a/b"]),
            (json!({"type": 7}), &["ipam.type", "7", "string"]),
            (json!({"enable_overlapping_ranges": "yes"}), &["ipam.enable_overlapping_ranges", "yes"]),
        ],
    );
}

#[test]
fn routes_and_addresses() {
    let via = |gw: &str| json!({"routes": [{"dst": "172.24.0.0/16", "gw": gw}]});
    all_ipam_refused(
        7,
        &[
            (json!({"routes": [{"gw": "172.23.0.150"}]}), &["ipam.routes[0].dst"]),
            (json!({"routes": [{"dst": "bogus"}]}), &["ipam.routes[0].dst", "bogus"]),
            (
                json!({"routes": [{"dst": "172.24.0.0/16", "priority": -1}]}),
                &["ipam.routes[0].priority", "-1"],
            ),
            (json!({"routes": [{"dst": "172.24.0.0/16", "table": 1e12}]}), &["ipam.routes[0].table"]),
            (
                json!({"routes": [{"dst": "172.24.0.0/16", "scope": 256}]}),
                &["ipam.routes[0].scope", "256", "255"],
            ),
            (json!({"routes": [{"dst": "172.24.0.0/16", "mtu": "x"}]}), &["ipam.routes[0].mtu", "x"]),
            (json!({"routes": {"dst": "172.24.0.0/16"}}), &["ipam.routes", "list"]),
            (via("bogus"), &["ipam.routes[0].gw", "bogus"]),
            (via("10.0.0.1"), &["ipam.routes[0].gw", "10.0.0.1"]),
            (via("fd00::1"), &["ipam.routes[0].gw", "fd00::1", "172.24.0.0/16"]),
            (json!({"addresses": [{"address": "bogus"}]}), &["ipam.addresses[0].address", "bogus"]),
            (json!({"addresses": [{"address": "172.23.0.150/24"}]}), &["172.23.0.150"]),
        ],
    );
}

#[test]
fn requested_addresses() {
    all_refused(
        7,
        &[
            (json!({"runtimeConfig": {"ips": ["bogus"]}}), &["runtimeConfig.ips", "bogus"]),
            (json!({"runtimeConfig": {"ips": "172.23.0.40"}}), &["runtimeConfig.ips", "list"]),
            (
                json!({"runtimeConfig": {"ips": ["10.0.0.40"]}}),
                &["runtimeConfig.ips", "10.0.0.40", "172.23.0.0/24"],
            ),
            (json!({"runtimeConfig": {"ips": ["172.23.0.255"]}}), &["runtimeConfig.ips", "172.23.0.255"]),
            (
                json!({"runtimeConfig": {"ips": ["172.23.0.40/16"]}}),
                &["runtimeConfig.ips", "172.23.0.40/16", "24"],
            ),
            (json!({"args": {"cni": {"ips": ["172.23.0.150"]}}}), &["args.cni.ips", "172.23.0.150"]),
            (
                json!({"runtimeConfig": {"ips": ["172.23.0.254"]}}),
                &[
                    "runtimeConfig.ips[0]",
                    "172.23.0.254",
                    "172.23.0.30-172.23.0.70",
                    "\"capabilities\": {\"ips\": true}",
                ],
            ),
            (
                json!({"args": {"cni": {"ips": ["172.23.0.44"]}}, "ipam": {"exclude": ["172.23.0.44/32"]}}),
                &["args.cni.ips[0]", "is excluded", "172.23.0.44/32", "capabilities"],
            ),
        ],
    );
    let pod = Lab::new().node("node1").pod("worker");
    pod.add(&conf::octavia()).args("IP=bogus").run().any_error().says(&["CNI_ARGS", "IP", "bogus"]);
    // A pod's annotation, as multus hands it on.
    let annotated = pod.add(&conf::octavia()).args("IgnoreUnknown=1;IP=172.23.0.1/24").run();
    annotated.error(7).says(&["CNI_ARGS IP", "172.23.0.1/24", "172.23.0.30-172.23.0.70", "capabilities"]);
    assert!(pod.node().link_names().is_empty());
}

#[test]
fn strictness_turns_oddities_into_errors() {
    let pod = Lab::new().node("node1").pod("worker");
    let before = pod.node().snapshot(&[&pod]);
    for (odd, words) in [
        (json!({"brigde": "octbr"}), ["brigde"]),
        (json!({"ipam": {"rnage": "x"}}), ["ipam.rnage"]),
        (json!({"ipam": {"range_start": "10.0.0.1"}}), ["ipam.range_start"]),
    ] {
        let strict = conf::with(conf::octavia_with(odd.clone()), json!({"strict": true}));
        pod.add(&strict).run().error(7).says(&words);
        pod.node().snapshot(&[&pod]).assert_same_as(&before);
        // Without `strict` they are warnings on stderr, in the runtime's log.
        let outcome = pod.add(&conf::octavia_with(odd)).run();
        outcome.attached();
        if words[0] == "ipam.range_start" {
            assert!(outcome.stderr.contains(words[0]), "no warning in {:?}", outcome.stderr);
        }
        pod.del(&conf::octavia()).run().silent_success();
        pod.node().ip("link del octbr");
    }
}
