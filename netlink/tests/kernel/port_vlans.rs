//! VLANs of bridge ports, on kernels that can filter them and on kernels that cannot.

use octavia_bridge_netlink::{
    BridgeOptions, Link, LinkKind, Namespace, Netlink, NewBridge, NewVeth, VethPeer, VlanRange,
};

use crate::scene::{in_new_namespace, new_namespace, veth};

const DEFAULT: VlanRange = VlanRange { first: 1, last: 1, pvid: true, untagged: true };

fn tagged(first: u16, last: u16) -> VlanRange {
    VlanRange { first, last, pvid: false, untagged: false }
}

fn native(id: u16) -> VlanRange {
    VlanRange { first: id, last: id, pvid: true, untagged: true }
}

/// A bridge that filters VLANs with the ports `a` and `b`, whose other ends are in the namespace; `None` on a kernel that has
/// no such bridges.
async fn filtering_bridge(netlink: &Netlink) -> Option<([Link; 2], Namespace)> {
    let options = BridgeOptions { vlan_filtering: Some(true), ..BridgeOptions::default() };
    let new = NewBridge { name: "octbr".into(), up: true, options, ..NewBridge::default() };
    match netlink.create_bridge(&new).await {
        Ok(()) => {}
        Err(error) => {
            assert_eq!(error.errno(), Some(95), "{error}");
            return None;
        }
    }
    let bridge = netlink.link("octbr").await.unwrap().unwrap();
    let LinkKind::Bridge(seen) = &bridge.kind else { panic!("{bridge:?}") };
    assert_eq!((seen.vlan_filtering, seen.vlan_default_pvid), (Some(true), Some(1)));
    let pod = new_namespace();
    let mut ports = Vec::new();
    for name in ["a", "b"] {
        let pair = veth(name, &pod);
        let peer = VethPeer { name: name.into(), ..pair.peer };
        netlink.create_veth(&NewVeth { master: Some(bridge.index), peer, ..pair }).await.unwrap();
        ports.push(netlink.link(name).await.unwrap().unwrap());
    }
    Some((ports.try_into().unwrap(), pod))
}

#[test]
fn vlans_of_a_port_are_added_changed_and_removed() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let Some(([a, b], _pod)) = filtering_bridge(&netlink).await else { return lacking(&netlink).await };
        let vlans = async || netlink.port_vlans(a.index).await.unwrap();
        assert_eq!(vlans().await, [DEFAULT]);

        netlink.add_port_vlans(a.index, &[native(100), tagged(200, 203), tagged(300, 300)]).await.unwrap();
        // The port VLAN id has moved; where it was is still without tag.
        let left = VlanRange { pvid: false, ..DEFAULT };
        assert_eq!(vlans().await, [left, native(100), tagged(200, 203), tagged(300, 300)]);
        // The other port has a table of its own.
        assert_eq!(netlink.port_vlans(b.index).await.unwrap(), [DEFAULT]);

        netlink.remove_port_vlans(a.index, 1..=1).await.unwrap();
        netlink.remove_port_vlans(a.index, 201..=250).await.unwrap();
        assert_eq!(vlans().await, [native(100), tagged(200, 200), tagged(300, 300)]);

        netlink.add_port_vlans(a.index, &[tagged(100, 100)]).await.unwrap();
        assert_eq!(vlans().await, [tagged(100, 100), tagged(200, 200), tagged(300, 300)]);
        netlink.add_port_vlans(a.index, &[]).await.unwrap();
        netlink.remove_port_vlans(a.index, 1..=4094).await.unwrap();
        assert_eq!(vlans().await, []);
    });
}

#[test]
fn the_largest_tables_fit_into_one_message_each_way() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let Some(([a, _], _pod)) = filtering_bridge(&netlink).await else { return lacking(&netlink).await };
        netlink.add_port_vlans(a.index, &[tagged(1, 4094)]).await.unwrap();
        assert_eq!(netlink.port_vlans(a.index).await.unwrap(), [tagged(1, 4094)]);
        // Every second id is the longest list there is.
        let odd: Vec<VlanRange> = (1..=4094).step_by(2).map(|id| tagged(id, id)).collect();
        netlink.remove_port_vlans(a.index, 1..=4094).await.unwrap();
        netlink.add_port_vlans(a.index, &odd).await.unwrap();
        assert_eq!(netlink.port_vlans(a.index).await.unwrap(), odd);
    });
}

#[test]
fn a_link_that_is_no_port_has_none_and_gets_none() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let pod = new_namespace();
        netlink.create_veth(&veth("a", &pod)).await.unwrap();
        let link = netlink.link("a").await.unwrap().unwrap();
        assert_eq!(netlink.port_vlans(link.index).await.unwrap(), []);
        let error = netlink.add_port_vlans(link.index, &[native(100)]).await.unwrap_err();
        assert_eq!(error.errno(), Some(95), "{error}");
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("add VLANs 100 pvid untagged to bridge port {}: ", link.index)),
            "{text}"
        );
    });
}

/// What a kernel without VLAN filtering answers: no table, and no success.
async fn lacking(netlink: &Netlink) {
    let new = NewBridge { name: "octbr".into(), up: true, ..NewBridge::default() };
    netlink.create_bridge(&new).await.unwrap();
    let bridge = netlink.link("octbr").await.unwrap().unwrap();
    let LinkKind::Bridge(seen) = &bridge.kind else { panic!("{bridge:?}") };
    assert_eq!(seen.vlan_default_pvid, None, "how such a kernel is told");
    let pod = new_namespace();
    let new = NewVeth { master: Some(bridge.index), ..veth("a", &pod) };
    netlink.create_veth(&new).await.unwrap();
    let port = netlink.link("a").await.unwrap().unwrap();
    let error = netlink.add_port_vlans(port.index, &[native(100)]).await.unwrap_err();
    assert_eq!(error.errno(), Some(95), "{error}");
    assert_eq!(netlink.port_vlans(port.index).await.unwrap(), []);
}
