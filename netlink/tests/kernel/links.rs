//! Links: creating, reading, changing, deleting, and what the kernel says when it refuses.

use std::fs;
use std::path::Path;
use std::time::Duration;

use octavia_bridge_netlink::{
    BridgeOptions, Error, Link, LinkChange, LinkIpv6, LinkKind, MacAddress, Netlink, NewAddress, NewBridge,
    NewVeth, NewVlan, NewVrf, PortFlags,
};

use crate::scene::{bridge, in_new_namespace, new_namespace, up, veth};

const MAC: MacAddress = MacAddress([2, 0, 0xac, 0x17, 0, 5]);

#[test]
fn a_bridge_is_made_as_described_by_one_message() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let options = BridgeOptions {
            stp: Some(false),
            forward_delay: Some(Duration::from_secs(4)),
            ageing_time: Some(Duration::from_secs(30)),
            group_forward_mask: Some(8),
            multicast_snooping: Some(false),
            ..BridgeOptions::default()
        };
        let new = NewBridge {
            group: Some(77),
            name: "octbr".into(),
            mac: Some(MAC),
            mtu: Some(1450),
            alias: Some("Octavia management".into()),
            up: true,
            link_local: true,
            options,
        };
        netlink.create_bridge(&new).await.unwrap();

        let link = netlink.link("octbr").await.unwrap().unwrap();
        assert_eq!(link.mac, Some(MAC));
        assert_eq!((link.mtu, link.group), (1450, 77));
        assert_eq!(link.alias.as_deref(), Some("Octavia management"));
        assert!(link.up);
        let LinkKind::Bridge(seen) = &link.kind else { panic!("{link:?}") };
        assert_eq!(seen.stp, Some(false));
        assert_eq!(seen.forward_delay, Some(Duration::from_secs(4)));
        assert_eq!(seen.ageing_time, Some(Duration::from_secs(30)));
        assert_eq!(seen.group_forward_mask, Some(8));
        assert_eq!(seen.multicast_snooping, Some(false));
        // The same link by index, and in the table.
        assert_eq!(netlink.link(link.index).await.unwrap().as_ref(), Some(&link));
        assert_eq!(netlink.links().await.unwrap()[1..], [link]);
    });
}

#[test]
fn a_link_tells_the_ipv6_settings_that_its_files_have() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        bridge(&netlink, "octbr").await;
        let told = async || netlink.link("octbr").await.unwrap().unwrap().ipv6;
        for (disabled, accept_ra, forwarding) in
            [("1", "0", "0"), ("0", "2", "1"), ("0", "0", "1"), ("1", "1", "0"), ("0", "1", "1")]
        {
            let folder = Path::new("/proc/sys/net/ipv6/conf/octbr");
            fs::write(folder.join("disable_ipv6"), disabled).unwrap();
            fs::write(folder.join("accept_ra"), accept_ra).unwrap();
            fs::write(folder.join("forwarding"), forwarding).unwrap();
            let written = LinkIpv6 {
                disabled: disabled != "0",
                accept_ra: accept_ra != "0",
                accept_ra_always: accept_ra == "2",
                forwarding: forwarding != "0",
            };
            assert_eq!(told().await, Some(written));
        }
        // Too small for IPv6.
        let small = LinkChange { mtu: Some(1200), ..LinkChange::default() };
        let index = netlink.link("octbr").await.unwrap().unwrap().index;
        netlink.change_link(index, &small).await.unwrap();
        assert_eq!(told().await, None);
    });
}

#[test]
fn several_values_of_a_link_change_in_one_message() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let pod = new_namespace();
        let octbr = bridge(&netlink, "octbr").await;
        netlink.create_veth(&veth("a", &pod)).await.unwrap();
        let before = netlink.link("a").await.unwrap().unwrap();

        let change = LinkChange {
            mtu: Some(1400),
            mac: Some(MAC),
            master: Some(Some(octbr.index)),
            alias: Some("x".repeat(255)),
            promiscuous: Some(true),
            ..LinkChange::default()
        };
        netlink.change_link(before.index, &change).await.unwrap();
        let after = netlink.link(before.index).await.unwrap().unwrap();
        assert_eq!((after.mtu, after.mac, after.master), (1400, Some(MAC), Some(octbr.index)));
        assert_eq!(after.alias, change.alias, "the longest alias there is");
        assert!(after.promiscuous && after.up, "what was not stated stays: {after:?}");

        // And back, then a new name: older kernels rename only what is down already.
        let change = LinkChange {
            up: Some(false),
            master: Some(None),
            alias: Some(String::new()),
            promiscuous: Some(false),
            ..LinkChange::default()
        };
        netlink.change_link(before.index, &change).await.unwrap();
        let rename = LinkChange { name: Some("renamed".into()), ..LinkChange::default() };
        netlink.change_link(before.index, &rename).await.unwrap();
        let after = netlink.link("renamed").await.unwrap().unwrap();
        assert_eq!((after.index, after.master, after.alias.clone()), (before.index, None, None));
        assert!(!after.up && !after.promiscuous);
        assert_eq!(netlink.link("a").await.unwrap(), None);
    });
}

#[test]
fn options_of_a_bridge_and_flags_of_a_port_change() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let pod = new_namespace();
        let octbr = bridge(&netlink, "octbr").await;
        let mut new = veth("a", &pod);
        new.master = Some(octbr.index);
        netlink.create_veth(&new).await.unwrap();
        let port = netlink.link("a").await.unwrap().unwrap();

        let on = BridgeOptions { stp: Some(true), priority: Some(0x4000), ..BridgeOptions::default() };
        netlink.change_bridge(octbr.index, &on).await.unwrap();
        let flags = PortFlags {
            hairpin: Some(true),
            isolated: Some(true),
            learning: Some(false),
            unicast_flood: Some(false),
            path_cost: Some(77),
            priority: Some(5),
            ..PortFlags::default()
        };
        netlink.change_port(port.index, &flags).await.unwrap();

        let LinkKind::Bridge(seen) = netlink.link("octbr").await.unwrap().unwrap().kind else { panic!() };
        assert_eq!((seen.stp, seen.priority), (Some(true), Some(0x4000)));
        let seen = netlink.link("a").await.unwrap().unwrap().port.unwrap();
        assert!(seen.hairpin && seen.isolated && !seen.learning && !seen.unicast_flood, "{seen:?}");
        assert_eq!((seen.path_cost, seen.priority), (77, 5));
        assert!(seen.multicast_flood && seen.broadcast_flood, "what was not stated stays: {seen:?}");
    });
}

#[test]
fn a_link_is_changed_by_its_name_but_not_renamed() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let octbr = bridge(&netlink, "octbr").await;
        let down = LinkChange { up: Some(false), mtu: Some(1400), ..LinkChange::default() };
        netlink.change_link("octbr", &down).await.unwrap();
        let after = netlink.link(octbr.index).await.unwrap().unwrap();
        assert_eq!((after.up, after.mtu), (false, 1400));

        let missing = netlink.change_link("other", &down).await.unwrap_err();
        assert!(missing.is_not_found(), "{missing}");
        assert!(missing.to_string().starts_with("change link other (MTU 1400, down): "), "{missing}");
        // The message has room for one name, and the kernel would look for a link of the new one.
        let rename = LinkChange { name: Some("renamed".into()), ..LinkChange::default() };
        let refused = netlink.change_link("octbr", &rename).await.unwrap_err();
        assert!(matches!(refused, Error::Invalid { .. }), "{refused}");
    });
}

#[test]
fn ports_are_those_of_the_one_bridge() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let (first, second) = (bridge(&netlink, "br1").await, bridge(&netlink, "br2").await);
        let pods: Vec<_> = (0..3).map(|_| new_namespace()).collect();
        for (number, pod) in pods.iter().enumerate() {
            let mut new = veth(&format!("v{number}"), pod);
            new.master = (number < 2).then_some(first.index);
            netlink.create_veth(&new).await.unwrap();
        }
        let names = |links: Vec<Link>| -> Vec<_> { links.into_iter().map(|link| link.name).collect() };
        assert_eq!(names(netlink.ports(first.index).await.unwrap()), ["v0", "v1"]);
        assert!(netlink.ports(second.index).await.unwrap().is_empty());
        assert!(netlink.ports(4242).await.unwrap().is_empty());
    });
}

#[test]
fn absence_is_a_value_and_not_an_error() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        assert_eq!(netlink.link("octbr").await.unwrap(), None);
        assert_eq!(netlink.link(4242).await.unwrap(), None);
        assert!(!netlink.delete_link(4242).await.unwrap());

        let octbr = bridge(&netlink, "octbr").await;
        assert!(netlink.delete_link(octbr.index).await.unwrap());
        assert!(!netlink.delete_link(octbr.index).await.unwrap());
        assert!(netlink.change_link(octbr.index, &up()).await.unwrap_err().is_not_found());
    });
}

#[test]
fn the_kernels_own_words_reach_the_error() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let (first, second) = (bridge(&netlink, "br1").await, bridge(&netlink, "br2").await);

        let nested = LinkChange { master: Some(Some(first.index)), ..LinkChange::default() };
        let error = netlink.change_link(second.index, &nested).await.unwrap_err();
        let subject = format!("change link {} (master {})", second.index, first.index);
        assert_eq!(error.to_string(), format!("{subject}: Can not enslave a bridge to a bridge (ELOOP)"));

        let huge = LinkChange { mtu: Some(70_000), ..LinkChange::default() };
        let error = netlink.change_link(first.index, &huge).await.unwrap_err();
        assert!(error.to_string().contains("mtu greater than device maximum (EINVAL)"), "{error}");
        assert_eq!(error.errno(), Some(22));

        let again = NewBridge { name: "br1".into(), ..NewBridge::default() };
        let error = netlink.create_bridge(&again).await.unwrap_err();
        assert!(error.is_exists(), "{error}");
        assert!(error.to_string().starts_with("create bridge br1: "), "{error}");
    });
}

#[test]
fn nothing_is_sent_for_values_the_kernel_would_misread() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let octbr = bridge(&netlink, "octbr").await;
        let unnamed = NewBridge { name: "a/b".into(), ..NewBridge::default() };
        let vlan = |id, parent| NewVlan { name: "v".into(), parent, id, ..NewVlan::default() };
        let long = LinkChange { alias: Some("x".repeat(70_000)), ..LinkChange::default() };
        let portless = LinkChange { master: Some(Some(0)), ..LinkChange::default() };
        for error in [
            netlink.create_bridge(&unnamed).await.unwrap_err(),
            netlink.create_vlan(&vlan(0, octbr.index)).await.unwrap_err(),
            netlink.create_vlan(&vlan(4095, octbr.index)).await.unwrap_err(),
            netlink.create_vlan(&vlan(24, 0)).await.unwrap_err(),
            netlink.change_link(octbr.index, &long).await.unwrap_err(),
            netlink.change_link(octbr.index, &portless).await.unwrap_err(),
            netlink.change_link(0, &up()).await.unwrap_err(),
            netlink.delete_link(0).await.unwrap_err(),
            netlink.ports(0).await.unwrap_err(),
            netlink.addresses(0).await.unwrap_err(),
            netlink.link("a name that is too long").await.unwrap_err(),
        ] {
            assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
        }
        assert_eq!(netlink.links().await.unwrap().len(), 2, "lo and octbr");
    });
}

/// Some kernels are built without 8021q. There the error must say so; elsewhere the link must be
/// right. Either way something is checked.
#[test]
fn a_vlan_is_made_or_the_missing_module_is_named() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let pod = new_namespace();
        netlink.create_veth(&veth("trunk", &pod)).await.unwrap();
        let trunk = netlink.link("trunk").await.unwrap().unwrap();
        let octbr = bridge(&netlink, "octbr").await;
        let new = NewVlan {
            group: Some(77),
            name: "trunk.24".into(),
            parent: trunk.index,
            id: 24,
            mtu: Some(1400),
            master: Some(octbr.index),
            alias: Some("Octavia VLAN".into()),
            up: true,
        };
        match netlink.create_vlan(&new).await {
            Ok(()) => {
                let link = netlink.link("trunk.24").await.unwrap().unwrap();
                assert_eq!(link.kind, LinkKind::Vlan { id: 24, protocol: 0x8100 });
                assert_eq!((link.parent, link.master), (Some(trunk.index), Some(octbr.index)));
                assert_eq!((link.mtu, link.up), (1400, true));
                assert_eq!(link.alias.as_deref(), Some("Octavia VLAN"));
                assert_eq!(netlink.vlans().await.unwrap(), [link]);

                let twice = NewVlan { name: "other".into(), ..new };
                let error = netlink.create_vlan(&twice).await.unwrap_err();
                assert!(error.is_exists(), "{error}");
                assert!(error.to_string().contains("VLAN device already exists"), "{error}");
            }
            Err(error) => {
                assert!(matches!(error, Error::Refused { errno: 95, .. }), "{error:?}");
                // Such a kernel answers the question for VLANs with every link.
                assert_eq!(netlink.vlans().await.unwrap(), []);
                let subject = format!("create VLAN trunk.24 on link {}", trunk.index);
                assert_eq!(
                    error.to_string(),
                    format!(
                        "{subject}: Unknown device type: the kernel module 8021q is missing or not \
                         loaded (EOPNOTSUPP)"
                    )
                );
                assert_eq!(netlink.link("trunk.24").await.unwrap(), None);
            }
        }
    });
}

/// As with VLANs, not every kernel has it.
#[test]
fn a_vrf_is_made_or_the_missing_module_is_named() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let new = NewVrf {
            group: Some(77),
            name: "red".into(),
            table: 1000,
            mtu: Some(9000),
            alias: Some("tenant".into()),
            up: true,
        };
        match netlink.create_vrf(&new).await {
            Ok(()) => {
                let link = netlink.link("red").await.unwrap().unwrap();
                assert_eq!(link.kind, LinkKind::Vrf { table: 1000 });
                assert_eq!((link.mtu, link.up, link.alias.as_deref()), (9000, true, Some("tenant")));
                assert!(netlink.create_vrf(&new).await.unwrap_err().is_exists());
            }
            Err(error) => {
                let text = error.to_string();
                assert!(text.starts_with("create VRF red with table 1000: "), "{text}");
                assert!(text.contains("the kernel module vrf is missing or not loaded"), "{text}");
                assert_eq!(netlink.link("red").await.unwrap(), None);
            }
        }
    });
}

/// Some kernels are built without VLAN filtering and refuse the option, also when it is `false`. That
/// must not read as if they had no bridges.
#[test]
fn an_option_the_kernel_lacks_is_not_mistaken_for_a_missing_module() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let options = BridgeOptions { vlan_filtering: Some(false), ..BridgeOptions::default() };
        let new = NewBridge { name: "octbr".into(), options, ..NewBridge::default() };
        match netlink.create_bridge(&new).await {
            Ok(()) => {
                let LinkKind::Bridge(seen) = netlink.link("octbr").await.unwrap().unwrap().kind else {
                    panic!()
                };
                assert_eq!(seen.vlan_filtering, Some(false));
            }
            Err(error) => {
                assert_eq!(error.errno(), Some(95));
                assert!(!error.to_string().contains("module"), "{error}");
                assert_eq!(netlink.link("octbr").await.unwrap(), None, "nothing is left behind");
            }
        }
    });
}

/// Kernels since 6.7 have the limit; those before take the message all the same.
#[test]
fn a_bridge_learns_so_many_addresses_and_no_more_where_the_kernel_can() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let options = BridgeOptions { most_learned: Some(3), ..BridgeOptions::default() };
        let new = NewBridge { name: "octbr".into(), options, up: true, ..NewBridge::default() };
        netlink.create_bridge(&new).await.unwrap();
        let octbr = netlink.link("octbr").await.unwrap().unwrap();
        let LinkKind::Bridge(seen) = &octbr.kind else { panic!() };
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap());
        let version: (u32, u32) = (numbers.next().unwrap(), numbers.next().unwrap());
        let limit = (version >= (6, 7)).then_some(3);
        assert_eq!(seen.most_learned, limit, "Linux {release}");

        // A pod that has one MAC after the other, and says so by gratuitous ARP.
        let pod = new_namespace();
        netlink.create_veth(&NewVeth { master: Some(octbr.index), ..veth("a", &pod) }).await.unwrap();
        let inside = Netlink::open_in(&pod).await.unwrap();
        let far = inside.link("net1").await.unwrap().unwrap().index;
        let notify = LinkChange { arp_notify: Some(true), ..up() };
        inside.change_link(far, &notify).await.unwrap();
        netlink.wait_for_link("a", Duration::from_secs(30), Link::is_forwarding).await.unwrap();
        let address =
            NewAddress { address: "192.0.2.1/24".parse().unwrap(), nodad: true, noprefixroute: false };
        inside.add_address(far, &address).await.unwrap();
        for last in 1..=10 {
            let mac = MacAddress([2, 0, 0, 0, 1, last]);
            inside.change_link(far, &LinkChange { mac: Some(mac), ..LinkChange::default() }).await.unwrap();
        }
        let output =
            std::process::Command::new("bridge").args(["fdb", "show", "br", "octbr", "dynamic"]).output();
        let text = String::from_utf8(output.unwrap().stdout).unwrap();
        let learned = u32::try_from(text.lines().count()).unwrap();
        match limit {
            Some(limit) => assert_eq!(learned, limit, "{text}"),
            // The MAC that it was born with may have been seen, too.
            None => assert!(learned >= 10, "{text}"),
        }
    });
}
