//! Addresses of both families.

use ipnet::IpNet;
use octavia_bridge_netlink::{Family, Netlink, NewAddress, RouteFilter};

use crate::scene::{cable, in_new_namespace, new_namespace};

fn new(address: &str) -> NewAddress {
    NewAddress { address: address.parse().unwrap(), nodad: true, noprefixroute: false }
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

#[test]
fn addresses_of_both_families_come_and_go() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let pod = new_namespace();
        let (near, ..) = cable(&netlink, &pod).await;
        for address in ["172.23.0.5/24", "10.0.0.0/31", "10.1.0.1/32", "fd00:23::5/64"] {
            netlink.add_address(near.index, &new(address)).await.unwrap();
        }
        let seen = netlink.addresses(near.index).await.unwrap();
        let find = |text: &str| seen.iter().find(|seen| seen.address == net(text)).unwrap();
        let v4 = find("172.23.0.5/24");
        assert_eq!(v4.broadcast, Some("172.23.0.255".parse().unwrap()));
        assert_eq!((v4.label.as_deref(), v4.peer, v4.valid_seconds), (Some("a"), None, None));
        assert_eq!(find("10.0.0.0/31").broadcast, None, "RFC 3021");
        assert_eq!(find("10.1.0.1/32").broadcast, None);
        let v6 = find("fd00:23::5/64");
        assert!(v6.nodad && !v6.tentative && !v6.dad_failed, "usable at once: {v6:?}");
        assert_eq!((v6.link, v6.scope), (near.index, 0));

        let error = netlink.add_address(near.index, &new("172.23.0.5/24")).await.unwrap_err();
        assert!(error.is_exists(), "{error}");
        assert!(error.to_string().starts_with("add address 172.23.0.5/24 to link "), "{error}");

        for address in ["172.23.0.5/24", "fd00:23::5/64"] {
            assert!(netlink.delete_address(near.index, net(address)).await.unwrap());
            assert!(!netlink.delete_address(near.index, net(address)).await.unwrap());
        }
        let left: Vec<_> =
            netlink.addresses(near.index).await.unwrap().into_iter().filter(|seen| seen.scope == 0).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    });
}

#[test]
fn without_nodad_an_ipv6_address_starts_tentative() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let pod = new_namespace();
        let (near, ..) = cable(&netlink, &pod).await;
        let careful = NewAddress { nodad: false, ..new("fd00:23::6/64") };
        netlink.add_address(near.index, &careful).await.unwrap();
        let seen = netlink.addresses(near.index).await.unwrap();
        let v6 = seen.iter().find(|seen| seen.address == net("fd00:23::6/64")).unwrap();
        assert!(v6.tentative && !v6.nodad, "{v6:?}");
    });
}

#[test]
fn the_route_to_the_subnet_can_be_left_out() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let pod = new_namespace();
        let (near, ..) = cable(&netlink, &pod).await;
        let filter = RouteFilter { family: Some(Family::V4), table: Some(254), link: Some(near.index) };
        let bare = NewAddress { noprefixroute: true, ..new("172.23.0.5/24") };
        netlink.add_address(near.index, &bare).await.unwrap();
        assert!(netlink.routes(&filter).await.unwrap().is_empty());
        assert!(netlink.addresses(near.index).await.unwrap()[0].noprefixroute);
        netlink.add_address(near.index, &new("172.24.0.5/24")).await.unwrap();
        assert_eq!(netlink.routes(&filter).await.unwrap().len(), 1);
    });
}

#[test]
fn addresses_are_those_of_the_one_link() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let (pod, other) = (new_namespace(), new_namespace());
        let (near, ..) = cable(&netlink, &pod).await;
        let mut second = crate::scene::veth("b", &other);
        second.peer.name = "net2".into();
        netlink.create_veth(&second).await.unwrap();
        let second = netlink.link("b").await.unwrap().unwrap();
        netlink.add_address(near.index, &new("172.23.0.5/24")).await.unwrap();
        netlink.add_address(second.index, &new("172.23.1.5/24")).await.unwrap();

        let own = netlink.addresses(second.index).await.unwrap();
        assert!(own.iter().all(|seen| seen.link == second.index), "{own:?}");
        assert!(own.iter().any(|seen| seen.address == net("172.23.1.5/24")));
        let all = netlink.all_addresses().await.unwrap();
        for address in ["172.23.0.5/24", "172.23.1.5/24"] {
            assert!(all.iter().any(|seen| seen.address == net(address)), "{all:?}");
        }
        assert!(netlink.addresses(4242).await.unwrap().is_empty());
        assert!(netlink.add_address(4242, &new("172.23.2.5/24")).await.unwrap_err().is_not_found());
        assert!(!netlink.delete_address(4242, net("172.23.2.5/24")).await.unwrap());
    });
}

#[test]
fn an_address_that_is_restored_is_as_it_was() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let pod = new_namespace();
        let (near, ..) = cable(&netlink, &pod).await;
        for words in [
            "10.1.0.5/24 dev a label a:one metric 77 noprefixroute",
            "10.1.0.6/24 dev a valid_lft 3000 preferred_lft 2000",
            "10.2.0.5 peer 10.2.0.9/32 dev a scope link",
            "10.3.0.5/24 dev a broadcast 10.3.0.9",
            "10.4.0.5/24 dev a",
            "fd00:1::5/64 dev a nodad metric 88",
            "fd00:2::5/64 dev a nodad noprefixroute mngtmpaddr valid_lft 3000 preferred_lft 2000",
            "fd00:3::5 peer fd00:3::9/128 dev a nodad",
        ] {
            let mut command = std::process::Command::new("ip");
            assert!(
                command.args(["addr", "add"]).args(words.split(' ')).status().unwrap().success(),
                "{words}"
            );
        }
        let link_local = |one: &octavia_bridge_netlink::Address| one.address.to_string().starts_with("fe80");
        let before: Vec<_> = {
            let all = netlink.addresses(near.index).await.unwrap();
            all.into_iter().filter(|one| !link_local(one)).collect()
        };
        assert_eq!(before.len(), 8, "{before:?}");
        let mut flush = std::process::Command::new("ip");
        assert!(flush.args(["addr", "flush", "dev", "a"]).status().unwrap().success());
        for address in &before {
            netlink.restore_address(near.index, address).await.unwrap();
        }
        let mut now = netlink.addresses(near.index).await.unwrap();
        now.retain(|one| !link_local(one));
        for one in &before {
            let again = now.iter().find(|other| other.address == one.address).unwrap();
            // A second may have passed.
            let near =
                |one: Option<u32>, other: Option<u32>| one.zip(other).is_none_or(|(a, b)| a.abs_diff(b) < 60);
            assert!(near(one.valid_seconds, again.valid_seconds), "{one:?} {again:?}");
            let timeless = octavia_bridge_netlink::Address {
                valid_seconds: one.valid_seconds,
                preferred_seconds: one.preferred_seconds,
                ..again.clone()
            };
            assert_eq!(&timeless, one);
        }
        assert_eq!(now.len(), before.len(), "{now:?}");
    });
}
