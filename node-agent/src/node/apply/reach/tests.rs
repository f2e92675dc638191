//! What of a later plan is watched.

use super::*;
use crate::node::observed::{Hop, MAIN_TABLE, Route};

fn default(is_v4: bool, gateway: &str, link: &str) -> DefaultRoute {
    DefaultRoute { is_v4, metric: 100, link: link.into(), gateway: Some(gateway.parse().unwrap()) }
}

#[test]
fn a_later_plan_may_touch_what_is_watched_or_was_brought_and_nothing_else() {
    let eth0 = default(true, "10.0.0.1", "eth0");
    let watch = Watch { defaults: vec![eth0.clone()], ..Watch::default() };
    assert!(watch.covers(&[eth0], &[]));
    assert!(watch.covers(&[default(true, "10.0.0.1", "octbr")], &[]), "it has moved");
    let other = default(true, "10.9.0.1", "eth1");
    assert!(!watch.covers(std::slice::from_ref(&other), &[]), "another gateway");
    assert!(!watch.covers(&[default(false, "fd00::1", "eth0")], &[]), "another family");
    let hop = Hop { link: "eth1".into(), gateway: other.gateway, weight: 1, onlink: false };
    let route = Route {
        destination: "0.0.0.0/0".parse().unwrap(),
        table: MAIN_TABLE,
        metric: 0,
        protocol: 79,
        source: None,
        mtu: None,
        detail: None,
        hops: vec![hop],
    };
    let step = Step::AddRoute(route).planned(&Observed::default());
    assert!(watch.covers(std::slice::from_ref(&other), &[step]), "of the policy");
}
