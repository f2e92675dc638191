//! Neighbours, asked by force.

use std::net::IpAddr;
use std::time::Duration;

use octavia_bridge_netlink::{LinkChange, NeighbourState, Netlink, NewAddress, RouteKind};
use tokio::time::{Instant, sleep};

use crate::scene::{cable, in_new_namespace, new_namespace};

/// The state that ends the asking.
async fn outcome(netlink: &Netlink, link: u32, address: IpAddr) -> Option<NeighbourState> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let state = netlink.neighbour(link, address).await.unwrap();
        if state != Some(NeighbourState::Asked) || Instant::now() > deadline {
            return state;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn a_neighbour_that_answered_a_moment_ago_is_asked_again() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let pod = new_namespace();
        let (near, inside, far) = cable(&netlink, &pod).await;
        let with = |address: &str| NewAddress {
            address: address.parse().unwrap(),
            nodad: true,
            noprefixroute: false,
        };
        for (own, other) in [("172.23.0.5/24", "172.23.0.1/24"), ("fd00:23::5/64", "fd00:23::1/64")] {
            netlink.add_address(near.index, &with(own)).await.unwrap();
            inside.add_address(far.index, &with(other)).await.unwrap();
        }
        // Duplicate address detection of the link-local address, which neighbour discovery speaks from.
        let deadline = Instant::now() + Duration::from_secs(20);
        while netlink.addresses(near.index).await.unwrap().iter().any(|address| address.tentative)
            || inside.addresses(far.index).await.unwrap().iter().any(|address| address.tentative)
        {
            assert!(Instant::now() < deadline);
            sleep(Duration::from_millis(50)).await;
        }
        let link_local = inside.addresses(far.index).await.unwrap();
        let link_local = link_local
            .iter()
            .map(|one| one.address.addr())
            .find(|ip| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()));
        let gateways = ["172.23.0.1".parse().unwrap(), "fd00:23::1".parse().unwrap(), link_local.unwrap()];
        for gateway in gateways {
            assert_eq!(netlink.neighbour(near.index, gateway).await.unwrap(), None);
            netlink.probe_neighbour(near.index, gateway).await.unwrap();
            assert_eq!(outcome(&netlink, near.index, gateway).await, Some(NeighbourState::Reachable));
            netlink.probe_neighbour(near.index, gateway).await.unwrap();
            assert_eq!(outcome(&netlink, near.index, gateway).await, Some(NeighbourState::Reachable));
        }
        inside
            .change_link(far.index, &LinkChange { up: Some(false), ..LinkChange::default() })
            .await
            .unwrap();
        // What the kernel believes of it is not asked for.
        netlink.probe_neighbour(near.index, gateways[0]).await.unwrap();
        assert_ne!(outcome(&netlink, near.index, gateways[0]).await, Some(NeighbourState::Reachable));
        assert!(netlink.probe_neighbour(99, gateways[0]).await.unwrap_err().is_not_found());
    });
}

#[test]
fn the_way_to_an_address_is_told() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let pod = new_namespace();
        let (near, ..) = cable(&netlink, &pod).await;
        let address =
            NewAddress { address: "172.23.0.5/24".parse().unwrap(), nodad: true, noprefixroute: false };
        netlink.add_address(near.index, &address).await.unwrap();
        let on_link = netlink.route_to("172.23.0.9".parse().unwrap()).await.unwrap().unwrap();
        assert_eq!((on_link.next_hops[0].link, on_link.next_hops[0].gateway), (near.index, None));
        let own = netlink.route_to("172.23.0.5".parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(own.kind, RouteKind::Local);
        assert_eq!(netlink.route_to("10.0.0.1".parse().unwrap()).await.unwrap(), None);
        assert_eq!(netlink.route_to("fd77::1".parse().unwrap()).await.unwrap(), None);
    });
}
