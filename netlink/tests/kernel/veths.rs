//! Veth pairs across namespaces.

use octavia_bridge_netlink::{
    Link, LinkChange, LinkKind, MacAddress, Netlink, NewBridge, NewVeth, PortFlags, VethPeer,
};

use crate::scene::{bridge, in_new_namespace, new_namespace, up, veth};

#[test]
fn one_message_makes_both_ends_as_described() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let pod = new_namespace();
        let octbr = bridge(&netlink, "octbr").await;
        let (near_mac, far_mac) = (MacAddress([2, 0, 0, 0, 0, 1]), MacAddress([2, 0, 0, 0, 0, 2]));
        let new = NewVeth {
            name: "veth1234567890a".into(),
            mac: Some(near_mac),
            mtu: Some(1450),
            master: Some(octbr.index),
            alias: Some("octavia-bridge".into()),
            up: true,
            link_local: false,
            port: PortFlags { bpdu_guard: Some(true), ..PortFlags::default() },
            peer: VethPeer { name: "net1".into(), mac: Some(far_mac), mtu: Some(1400), namespace: &pod },
        };
        netlink.create_veth(&new).await.unwrap();

        let near = netlink.link("veth1234567890a").await.unwrap().unwrap();
        assert_eq!((near.mac, near.mtu, near.up), (Some(near_mac), 1450, true));
        assert_eq!(near.master, Some(octbr.index));
        assert_eq!(near.alias.as_deref(), Some("octavia-bridge"));
        assert_eq!(near.kind, LinkKind::Veth);
        assert!(!near.carrier && !near.is_forwarding(), "{near:?}");
        assert!(near.port.as_ref().is_some_and(|port| port.bpdu_guard && port.learning), "{near:?}");

        let inside = Netlink::open_in(&pod).await.unwrap();
        let far = inside.link("net1").await.unwrap().unwrap();
        assert_eq!((far.mac, far.mtu, far.up), (Some(far_mac), 1400, false));
        assert_eq!((far.parent, near.parent), (Some(near.index), Some(far.index)));
        assert!(near.parent_namespace.is_some(), "the peer's index is one of another namespace");
        // The far end was never here under any name.
        let names: Vec<_> = netlink.links().await.unwrap().into_iter().map(|link| link.name).collect();
        assert_eq!(names, ["lo", "octbr", "veth1234567890a"]);
    });
}

#[test]
fn a_name_taken_in_the_pod_leaves_nothing_behind_here() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let pod = new_namespace();
        netlink.create_veth(&veth("first", &pod)).await.unwrap();
        let error = netlink.create_veth(&veth("second", &pod)).await.unwrap_err();
        assert!(error.is_exists(), "{error}");
        assert!(error.to_string().starts_with("create veth second with its peer net1 in "), "{error}");
        assert_eq!(netlink.link("second").await.unwrap(), None);
    });
}

#[test]
fn deleting_one_end_deletes_the_other() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let pod = new_namespace();
        netlink.create_veth(&veth("a", &pod)).await.unwrap();
        let near = netlink.link("a").await.unwrap().unwrap();
        assert!(netlink.delete_link(near.index).await.unwrap());
        let inside = Netlink::open_in(&pod).await.unwrap();
        assert_eq!(inside.link("net1").await.unwrap(), None);
    });
}

/// `addrgenmode` of a link of the calling thread's namespace; `None` where it has no IPv6.
fn generation(name: &str) -> Option<String> {
    let words = ["-details", "link", "show", name];
    let output = std::process::Command::new("ip").args(words).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split("addrgenmode ").nth(1).map(|rest| rest.split_whitespace().next().unwrap().to_owned())
}

#[test]
fn the_near_end_takes_a_link_local_address_only_if_it_may() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        for (name, mtu, link_local, mode) in [
            ("may", None, true, Some("eui64")),
            ("maynot", None, false, Some("none")),
            // IPv6 needs 1280 bytes (RFC 8200); the kernel refuses the setting where there is none.
            ("cannot", Some(1000), false, None),
        ] {
            let pod = new_namespace();
            let new = NewVeth { mtu, link_local, alias: Some("a pod's".into()), ..veth(name, &pod) };
            netlink.create_veth(&new).await.unwrap();
            assert_eq!(generation(name).as_deref(), mode, "{name}");
            let alias = netlink.link(name).await.unwrap().unwrap().alias;
            assert_eq!(alias.as_deref(), Some("a pod's"), "{name}");
        }
    });
}

/// Up and with a carrier it would have one at once if it could.
#[test]
fn a_bridge_takes_a_link_local_address_only_if_it_may() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        for (name, mtu, link_local, mode) in [
            ("may", None, true, Some("eui64")),
            ("maynot", None, false, Some("none")),
            ("cannot", Some(1000), false, None),
        ] {
            let new = NewBridge { name: name.into(), mtu, link_local, up: true, ..NewBridge::default() };
            netlink.create_bridge(&new).await.unwrap();
            assert_eq!(generation(name).as_deref(), mode, "{name}");
            let made = netlink.link(name).await.unwrap().unwrap();
            assert!(made.up, "{name}");
            let pod = new_namespace();
            // As small, since the bridge follows it.
            let mut port = NewVeth { mtu, ..veth(&format!("{name}-port"), &pod) };
            port.master = Some(made.index);
            netlink.create_veth(&port).await.unwrap();
            let inside = Netlink::open_in(&pod).await.unwrap();
            let far = inside.link("net1").await.unwrap().unwrap();
            inside.change_link(far.index, &up()).await.unwrap();
            let patience = std::time::Duration::from_secs(30);
            netlink.wait_for_link(port.name.as_str(), patience, Link::is_forwarding).await.unwrap();
            netlink.wait_for_link(name, patience, |link| link.carrier).await.unwrap();
            // Told of its carrier, a link that may have an address has had it before (`linkwatch_do_dev` calls the chain
            // of notifiers ahead of the message).
            let addressed = !netlink.addresses(made.index).await.unwrap().is_empty();
            assert_eq!(addressed, link_local, "{name}");
        }
    });
}

#[test]
fn arp_notify_is_set_with_a_message() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let octbr = bridge(&netlink, "octbr").await;
        // The namespace of the thread that asks.
        let now = || std::fs::read_to_string("/proc/sys/net/ipv4/conf/octbr/arp_notify");
        for (on, read) in [(true, "1\n"), (false, "0\n")] {
            let change = LinkChange { arp_notify: Some(on), ..LinkChange::default() };
            netlink.change_link(octbr.index, &change).await.unwrap();
            assert_eq!(now().unwrap(), read);
        }
    });
}
