//! The table of keys in `docs/nmstate.md`: complete, and true.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::*;
use super::{refuse, texts};

const TABLE: &str = include_str!("../../../../../docs/nmstate.md");
const KEYS: &str = include_str!("../../../../tests/fixtures/nmstate-keys.txt");

/// One row.
struct Key {
    path: String,
    verdict: String,
    accepted: Vec<Value>,
    refused: Vec<Value>,
}

fn table() -> Vec<Key> {
    let mut keys = Vec::new();
    for line in TABLE.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let values = |cell: &str| {
            let words = cell.split('`').skip(1).step_by(2);
            words.map(|word| serde_saphyr::from_str(word).unwrap()).collect()
        };
        keys.push(Key {
            path: cells[0].trim_matches('`').to_owned(),
            verdict: cells[1].to_owned(),
            accepted: values(cells[2]),
            refused: values(cells[3]),
        });
    }
    keys
}

/// A state in which the key has its place.
fn state_for(path: &str) -> Value {
    let address = |ip: &str, length: u8| json!({"ip": ip, "prefix-length": length});
    let (name, value) = match path.strip_prefix("interfaces[].") {
        None => {
            return json!({"routes": {"config": [{"destination": "10.0.0.0/8", "next-hop-interface": "a"}]}});
        }
        Some(path) if path.starts_with("ipv4.address[]") => {
            ("ipv4", json!({"address": [address("10.0.0.1", 24)]}))
        }
        Some(path) if path.starts_with("ipv6.address[]") => {
            ("ipv6", json!({"address": [address("fd00::1", 64)]}))
        }
        Some(path) if path.starts_with("ipv6.auto-") => ("ipv6", json!({"autoconf": true})),
        Some(path) if path.starts_with("ipv4.") => ("ipv4", json!({})),
        Some(path) if path.starts_with("ipv6.") => ("ipv6", json!({})),
        Some(path) if path.starts_with("vlan.") => ("vlan", json!({"base-iface": "e", "id": 5})),
        Some(path) if path.starts_with("bridge.port[].vlan.") => {
            let vlan = json!({"mode": "trunk", "trunk-tags": [{"id": 3}], "enable-native": true, "tag": 9});
            ("bridge", json!({"port": [{"name": "e", "vlan": vlan}]}))
        }
        Some(path) if path.starts_with("bridge.port[]") => ("bridge", json!({"port": [{"name": "e"}]})),
        Some(path) if path.starts_with("bridge.options.stp.") => {
            ("bridge", json!({"options": {"stp": {"enabled": true}}}))
        }
        Some(path) if path.starts_with("bridge.") => ("bridge", json!({})),
        Some(path) if path.starts_with("vrf.") => ("vrf", json!({"route-table-id": 5})),
        Some(path) if path.starts_with("link-aggregation.options.") => {
            ("link-aggregation", json!({"port": ["e"], "options": {"arp_ip_target": "192.0.2.9"}}))
        }
        Some(path) if path.starts_with("link-aggregation.") => ("link-aggregation", json!({})),
        Some(path) if path.starts_with("ethernet.") => ("ethernet", json!({})),
        Some(_) => return json!({"interfaces": [{"name": "a"}]}),
    };
    json!({"interfaces": [{"name": "a", name: value}]})
}

fn set(state: &Value, path: &str, value: &Value) -> String {
    let mut state = state.clone();
    let mut place = &mut state;
    // `802.1x` has a dot of its own.
    for key in path.replace("802.1x", "802~1x").split('.') {
        let key = key.replace('~', ".");
        match key.strip_suffix("[]") {
            Some(list) => place = &mut place[list][0],
            None => place = &mut place[key.as_str()],
        }
    }
    *place = value.clone();
    state.to_string()
}

fn wanted(yaml: &str) -> Result<Desired, Problems> {
    read(&texts(yaml), &Choice::default())
}

#[test]
fn the_table_has_every_key_of_nmstate_once() {
    let listed: Vec<String> = table().into_iter().map(|key| key.path).collect();
    let known: Vec<&str> = KEYS.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(listed, known);
    assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), known.len());
}

#[test]
fn each_example_in_the_table_does_what_the_table_says() {
    for Key { path, verdict, accepted, refused } in table() {
        let without = state_for(&path);
        let before = wanted(&without.to_string()).unwrap();
        let mut some_difference = false;
        for value in &accepted {
            let after =
                wanted(&set(&without, &path, value)).unwrap_or_else(|problems| panic!("{path}: {problems}"));
            let same = (&after.interfaces, &after.routes) == (&before.interfaces, &before.routes);
            some_difference |= !same;
            let no_effect = ["default only", "ignored", "left alone"].contains(&verdict.as_str());
            // An interface that has a section at all is of its type.
            let section = ["ethernet", "mptcp", "lldp"].iter().any(|key| path.ends_with(key));
            assert!(same || !no_effect || section, "{path}: {value} changes what is wanted: {after:?}");
            assert_eq!(after.left_alone.is_empty(), verdict != "left alone", "{path}");
        }
        // A port's tags say no more with these two than without.
        let says_little = ["e.ethernet", "].ethernet", ".vlan.mode", ".vlan.enable-native"]
            .iter()
            .any(|key| path.ends_with(key));
        assert_eq!(some_difference || says_little, verdict == "yes" || says_little, "{path}: {verdict}");
        assert_eq!(accepted.is_empty(), verdict == "refused", "{path}");
        for value in &refused {
            let problems = refuse(&set(&without, &path, value));
            assert_eq!(problems.len(), 1, "{path}: {problems:?}");
            if verdict == "default only" {
                assert!(problems[0].contains("not supported"), "{problems:?}");
            }
        }
        assert!(!refused.is_empty() || !["default only", "refused"].contains(&verdict.as_str()), "{path}");
    }
}
