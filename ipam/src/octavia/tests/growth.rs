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

#[test]
fn addresses_in_use_are_to_be_excluded_by_the_fewest_subnets() {
    let in_use = Surroundings { predictable_in_use: addresses(&[97, 98, 120]), ..cluster() };
    // 71 to 96 is Neutron's pool behind the former end, which follows from the lowest predictable address.
    let neutron = ["172.23.0.71/32", "172.23.0.72/29", "172.23.0.80/28"];
    let (nets, paths) = exclude("172.23.0.110", &[], &in_use);
    assert_eq!(nets, [&neutron[..], &["172.23.0.96/31", "172.23.0.98/32"]].concat());
    assert_eq!(paths, ["ipam.exclude"]);
    // The range reaches Neutron's pool, whose first address is the metadata port's, and no predictable address.
    let (nets, paths) = exclude("172.23.0.72", &[], &in_use);
    assert_eq!(nets, ["172.23.0.71/32", "172.23.0.72/32"]);
    assert_eq!(paths, ["ipam.exclude"]);
    let former = Surroundings { former_range_end: Some([172, 23, 0, 70].into()), ..cluster() };
    assert_eq!(exclude("172.23.0.72", &[], &former).0, ["172.23.0.71/32", "172.23.0.72/32"]);
    // Which predictable ones are in use is not known.
    assert_eq!(
        exclude("172.23.0.150", &[], &former).0,
        [&neutron[..], &["172.23.0.96/28", "172.23.0.112/29", "172.23.0.120/31", "172.23.0.122/32"]].concat()
    );
}

#[test]
fn an_excluded_address_and_a_range_that_did_not_grow_are_no_mistake() {
    let in_use = Surroundings { predictable_in_use: addresses(&[97, 98]), ..cluster() };
    let nothing: (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    assert_eq!(exclude("172.23.0.70", &[], &in_use), nothing);
    assert_eq!(exclude("172.23.0.110", &["172.23.0.71/32", "172.23.0.64/26"], &in_use), nothing);
    let (nets, paths) = exclude("172.23.0.110", &["172.23.0.72/29", "172.23.0.80/28"], &in_use);
    assert_eq!(nets, ["172.23.0.71/32", "172.23.0.96/31", "172.23.0.98/32"]);
    assert_eq!(paths, ["ipam.exclude"]);
}
