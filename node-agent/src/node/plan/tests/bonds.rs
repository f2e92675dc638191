//! Bonds.

use super::*;
use crate::node::described;

#[test]
fn what_is_shown_of_a_bond_is_in_force() {
    let second = Link { mac: Some("52:54:00:00:00:02".into()), ..nic(1500) };
    let before = node(&[("eth0", nic(1500)), ("eth1", second)]);
    for fail_over_mac in ["none", "active"] {
        let wanted = want(&format!(
            "interfaces: [{{name: bond0, type: bond, link-aggregation: {{mode: active-backup, port: [eth0, eth1], \
             options: {{primary: eth0, fail_over_mac: {fail_over_mac}}}}}}}]"
        ));
        let first = plan(&wanted, &before).unwrap_or_else(|conflicts| panic!("{conflicts}"));
        let done = after(&before, &first);
        let mac_of = |name: &str| done.links[name].mac.as_deref();
        assert_eq!(mac_of("bond0"), mac_of("eth0"));
        assert_eq!(mac_of("bond0") == mac_of("eth1"), fail_over_mac == "none");
        let shown = described::state(&done).to_string();
        let again = plan(&want(&shown), &done).unwrap_or_else(|conflicts| panic!("{conflicts}"));
        assert_eq!(words(&again), [""; 0], "{shown}");
    }
}
