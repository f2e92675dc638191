//! Events: what the kernel tells, and that losses are told as well.

use std::time::Duration;

use octavia_bridge_netlink::{
    Event, EventGroups, Events, LinkChange, Netlink, NewAddress, NextHop, PortFlags, Route,
};
use tokio::time::timeout;

use crate::scene::{bridge, cable, in_new_namespace, new_namespace, veth};

/// The next event that `wanted` makes something of.
async fn expect<T>(events: &mut Events, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
    let search = async {
        loop {
            if let Some(found) = wanted(events.next().await.unwrap()) {
                return found;
            }
        }
    };
    timeout(Duration::from_secs(10), search).await.expect("the kernel tells of the change")
}

#[test]
fn links_addresses_and_routes_are_told_as_they_come_and_go() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let pod = new_namespace();
        let mut events = netlink.events(EventGroups::ALL).await.unwrap();
        let (near, ..) = cable(&netlink, &pod).await;
        let link = expect(&mut events, |event| match event {
            Event::Link(link) if link.name == "a" => Some(link),
            _ => None,
        });
        assert_eq!(link.await.index, near.index);

        for (address, gateway, destination) in [
            ("172.23.0.5/24", "172.23.0.150", "172.24.0.0/16"),
            ("fd00:23::5/64", "fd00:23::150", "fd00:24::/48"),
        ] {
            let new = NewAddress { address: address.parse().unwrap(), nodad: true, noprefixroute: false };
            netlink.add_address(near.index, &new).await.unwrap();
            let is_new =
                |event| matches!(event, Event::Address(seen) if seen.address == new.address).then_some(());
            expect(&mut events, is_new).await;

            let hop = NextHop {
                gateway: Some(gateway.parse().unwrap()),
                link: near.index,
                weight: 1,
                onlink: false,
            };
            let route =
                Route { destination: destination.parse().unwrap(), next_hops: vec![hop], ..Route::default() };
            netlink.add_route(&route).await.unwrap();
            let same = |seen: &Route| seen.destination == route.destination && seen.next_hops == [hop];
            expect(&mut events, |event| matches!(event, Event::Route(seen) if same(&seen)).then_some(()))
                .await;
            assert!(netlink.delete_route(&route).await.unwrap());
            expect(&mut events, |event| matches!(event, Event::RouteGone(seen) if same(&seen)).then_some(()))
                .await;

            assert!(netlink.delete_address(near.index, new.address).await.unwrap());
            let is_gone = |event| {
                matches!(event, Event::AddressGone(seen) if seen.address == new.address).then_some(())
            };
            expect(&mut events, is_gone).await;
        }

        assert!(netlink.delete_link(near.index).await.unwrap());
        let gone = expect(&mut events, |event| match event {
            Event::LinkGone { index, name } => Some((index, name)),
            _ => None,
        });
        assert_eq!(gone.await, (near.index, "a".to_owned()));
    });
}

#[test]
fn leaving_a_bridge_is_told_of_the_port_and_not_as_the_end_of_the_link() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let pod = new_namespace();
        let octbr = bridge(&netlink, "octbr").await;
        let mut new = veth("a", &pod);
        new.master = Some(octbr.index);
        netlink.create_veth(&new).await.unwrap();
        let port = netlink.link("a").await.unwrap().unwrap();

        let groups = EventGroups { links: true, ..EventGroups::default() };
        let mut events = netlink.events(groups).await.unwrap();
        let isolate = PortFlags { isolated: Some(true), ..PortFlags::default() };
        netlink.change_port(port.index, &isolate).await.unwrap();
        let of_port = |event| matches!(event, Event::Port { index } if index == port.index).then_some(());
        expect(&mut events, of_port).await;

        let leave = LinkChange { master: Some(None), ..LinkChange::default() };
        netlink.change_link(port.index, &leave).await.unwrap();
        // A mark after which every event of the leaving has been told.
        bridge(&netlink, "mark").await;
        let mut told = false;
        expect(&mut events, |event| match event {
            Event::Port { index } => {
                told |= index == port.index;
                None
            }
            Event::LinkGone { name, .. } => panic!("{name} is not gone"),
            Event::Link(link) => (link.name == "mark").then_some(()),
            _ => None,
        })
        .await;
        assert!(told);
    });
}

#[test]
fn a_listener_that_is_too_slow_learns_that_it_missed_something() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let octbr = bridge(&netlink, "octbr").await;
        let small = EventGroups { links: true, receive_buffer: Some(4096), ..EventGroups::default() };
        let mut events = netlink.events(small).await.unwrap();
        for round in 0..200 {
            let change = LinkChange { mtu: Some(1400 + round % 2), ..LinkChange::default() };
            netlink.change_link(octbr.index, &change).await.unwrap();
        }
        let mut links = 0;
        expect(&mut events, |event| match event {
            Event::Overrun => Some(()),
            _ => {
                links += 1;
                None
            }
        })
        .await;
        assert!(links < 200, "{links}");

        // The subscription goes on: what happens after the loss is told.
        bridge(&netlink, "later").await;
        expect(&mut events, |event| matches!(event, Event::Link(link) if link.name == "later").then_some(()))
            .await;
    });
}
