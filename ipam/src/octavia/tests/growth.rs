//! A range that grew towards the pools.

use std::net::IpAddr;

use serde_json::json;

use super::{Surroundings, changed, cluster, paths, reviewed};

fn addresses(last: &[u8]) -> Vec<IpAddr> {
    last.iter().map(|last| IpAddr::from([172, 23, 0, *last])).collect()
}

fn exclude(range_end: &str, already: &[&str], surroundings: &Surroundings) -> (Vec<String>, Vec<String>) {
    let change = json!({"ipam": {
        "range_end": range_end, "exclude": already, "routes": [{"dst": "172.24.0.0/16", "gw": "172.23.0.250"}],
    }});
    let review = reviewed(&changed(&change), surroundings);
    (review.exclude.iter().map(ToString::to_string).collect(), paths(&review))
}

fn former(end: u8) -> Surroundings {
    Surroundings { former_range_end: Some([172, 23, 0, end].into()), ..cluster() }
}

/// Of a definition whose `exclude` lacks addresses that are certainly in use, and others that may be.
const BOTH: [&str; 2] = ["ipam.exclude", "warning ipam.exclude"];

#[test]
fn addresses_in_use_are_to_be_excluded_by_the_fewest_subnets() {
    // Behind every former end that fits these three, 71 to 94 are Neutron's.
    let in_use = Surroundings { predictable_in_use: addresses(&[97, 98, 120]), ..cluster() };
    let (nets, paths) = exclude("172.23.0.110", &[], &in_use);
    let neutron = [
        "172.23.0.71/32",
        "172.23.0.72/29",
        "172.23.0.80/29",
        "172.23.0.88/30",
        "172.23.0.92/31",
        "172.23.0.94/32",
    ];
    assert_eq!(nets, [&neutron[..], &["172.23.0.97/32", "172.23.0.98/32"]].concat());
    assert_eq!(paths, BOTH);
    // The range reaches Neutron's pool, whose first address is the metadata port's, and no predictable address.
    let (nets, paths) = exclude("172.23.0.72", &[], &in_use);
    assert_eq!(nets, ["172.23.0.71/32", "172.23.0.72/32"]);
    assert_eq!(paths, BOTH);
    assert_eq!(exclude("172.23.0.72", &[], &former(70)), (nets, vec!["ipam.exclude".to_owned()]));
    // Which predictable ones are in use is not known.
    assert_eq!(
        exclude("172.23.0.150", &[], &former(70)).0,
        [
            "172.23.0.71/32",
            "172.23.0.72/29",
            "172.23.0.80/28",
            "172.23.0.96/28",
            "172.23.0.112/29",
            "172.23.0.120/31",
            "172.23.0.122/32"
        ]
    );
}

#[test]
fn the_former_end_is_as_certain_as_the_addresses_that_are_left() {
    // All are in use, so the end was .70.
    let all: Vec<u8> = (97..=122).collect();
    let in_use = Surroundings { predictable_in_use: addresses(&all), ..cluster() };
    assert_eq!(exclude("172.23.0.110", &[], &in_use), exclude("172.23.0.110", &[], &former(70)));
    // Without the first node's two the end was .70 to .72, so .71, .72, .97 and .98 may be free.
    let in_use = Surroundings { predictable_in_use: addresses(&all[2..]), ..cluster() };
    let (nets, paths) = exclude("172.23.0.98", &[], &in_use);
    assert_eq!(
        nets,
        ["172.23.0.73/32", "172.23.0.74/31", "172.23.0.76/30", "172.23.0.80/28", "172.23.0.96/32"]
    );
    assert_eq!(paths, BOTH);
    // A single node's say little: the end was .46 to .70.
    let in_use = Surroundings { predictable_in_use: addresses(&[97, 98]), ..cluster() };
    assert_eq!(exclude("172.23.0.96", &[], &in_use).0, ["172.23.0.71/32", "172.23.0.72/32"]);
    // No pool has both of these.
    let in_use = Surroundings { predictable_in_use: addresses(&[97, 160]), ..cluster() };
    let (nets, paths) = exclude("172.23.0.190", &[], &in_use);
    assert_eq!(
        (nets, &paths[..]),
        (vec!["172.23.0.97/32".to_owned(), "172.23.0.160/32".to_owned()], &BOTH.map(str::to_owned)[..])
    );
}

#[test]
fn an_address_of_another_pool_than_the_former_end_s_leaves_a_doubt() {
    // The range grew twice: the second time from an end between .108 and .133, so that .134 is certainly Neutron's.
    let known = ["172.23.0.71/32", "172.23.0.72/29", "172.23.0.80/28", "172.23.0.96/31", "172.23.0.160/32"];
    let in_use = |last: &[u8]| Surroundings { predictable_in_use: addresses(last), ..former(70) };
    let (nets, paths) = exclude("172.23.0.190", &known, &in_use(&[97, 160]));
    assert_eq!((nets, &paths[..]), (vec!["172.23.0.134/32".into()], &BOTH.map(str::to_owned)[..]));
    // Those of the given end's pool, and of the present one, are no contradiction.
    let nothing: (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    assert_eq!(exclude("172.23.0.190", &known, &in_use(&[97, 217])), nothing);
}

#[test]
fn an_excluded_address_and_a_range_that_did_not_grow_are_no_mistake() {
    let in_use = Surroundings { predictable_in_use: addresses(&[97, 98]), ..cluster() };
    let nothing: (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    assert_eq!(exclude("172.23.0.70", &[], &in_use), nothing);
    // Nor one that is in another subnet than it was.
    let elsewhere = Surroundings { predictable_in_use: vec![[172, 22, 0, 97].into()], ..cluster() };
    assert_eq!(exclude("172.23.0.110", &[], &elsewhere), nothing);
    // Nor one whose first node has gone.
    let later = Surroundings { predictable_in_use: addresses(&[99, 100]), ..cluster() };
    assert_eq!(exclude("172.23.0.70", &[], &later), nothing);
    assert_eq!(exclude("172.23.0.110", &["172.23.0.32/27", "172.23.0.64/26"], &in_use), nothing);
    let (nets, paths) = exclude("172.23.0.110", &["172.23.0.72/29", "172.23.0.80/28"], &in_use);
    assert_eq!(nets, ["172.23.0.71/32", "172.23.0.97/32", "172.23.0.98/32"]);
    assert_eq!(paths, BOTH);
}
