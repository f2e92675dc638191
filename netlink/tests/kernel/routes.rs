//! Routes of both families.

use std::slice;
use std::time::Duration;

use ipnet::IpNet;
use octavia_bridge_netlink::{
    Error, Family, Link, LinkChange, Netlink, NewAddress, NextHop, Route, RouteFilter, RouteKind,
};

use crate::scene::{cable, in_new_namespace, new_namespace, up};

/// A link with one address of each family, so that gateways can be reached.
async fn connected(netlink: &Netlink, pod: &octavia_bridge_netlink::Namespace) -> Link {
    let (near, ..) = cable(netlink, pod).await;
    for address in ["172.23.0.5/24", "fd00:23::5/64"] {
        let address = NewAddress { address: address.parse().unwrap(), nodad: true, noprefixroute: false };
        netlink.add_address(near.index, &address).await.unwrap();
    }
    near
}

fn via(link: &Link, gateway: &str) -> NextHop {
    NextHop { gateway: Some(gateway.parse().unwrap()), link: link.index, weight: 1, onlink: false }
}

fn route(destination: &str, next_hops: Vec<NextHop>) -> Route {
    Route { destination: destination.parse().unwrap(), next_hops, ..Route::default() }
}

async fn to(netlink: &Netlink, destination: &str) -> Vec<Route> {
    let destination: IpNet = destination.parse().unwrap();
    let routes = netlink.routes(&RouteFilter::default()).await.unwrap();
    routes.into_iter().filter(|route| route.destination == destination).collect()
}

#[test]
fn a_route_carries_every_stated_value() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let pod = new_namespace();
        let near = connected(&netlink, &pod).await;
        for (destination, gateway) in [("172.24.0.0/16", "172.23.0.150"), ("fd00:24::/48", "fd00:23::150")] {
            let wanted = Route {
                table: Some(1000),
                priority: Some(77),
                scope: Some(0),
                mtu: Some(1400),
                advmss: Some(1360),
                protocol: Some(3),
                ..route(destination, vec![via(&near, gateway)])
            };
            netlink.add_route(&wanted).await.unwrap();
            assert_eq!(to(&netlink, destination).await, slice::from_ref(&wanted));

            let error = netlink.add_route(&wanted).await.unwrap_err();
            assert!(error.is_exists(), "{error}");
            let subject =
                format!("add route {destination} via {gateway} on link {} in table 1000", near.index);
            assert!(error.to_string().starts_with(&subject), "{error}");
            assert!(netlink.delete_route(&wanted).await.unwrap());
            assert!(!netlink.delete_route(&wanted).await.unwrap());
            assert_eq!(to(&netlink, destination).await, []);
        }
    });
}

#[test]
fn several_next_hops_share_the_load() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let pod = new_namespace();
        let near = connected(&netlink, &pod).await;
        for (destination, first, second) in [
            ("172.24.0.0/16", "172.23.0.150", "172.23.0.151"),
            ("fd00:24::/48", "fd00:23::150", "fd00:23::151"),
        ] {
            let hops = vec![via(&near, first), NextHop { weight: 3, ..via(&near, second) }];
            let wanted = route(destination, hops.clone());
            netlink.add_route(&wanted).await.unwrap();
            let seen = to(&netlink, destination).await;
            assert_eq!(seen.len(), 1, "{seen:?}");
            assert_eq!(seen[0].next_hops, hops);
            assert!(netlink.delete_route(&wanted).await.unwrap());
            assert_eq!(to(&netlink, destination).await, []);
        }
    });
}

#[test]
fn another_route_to_the_same_destination_is_no_conflict() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let pod = new_namespace();
        let near = connected(&netlink, &pod).await;
        for (destination, gateways) in [
            ("172.24.0.0/16", ["172.23.0.150", "172.23.0.151"]),
            ("fd00:24::/48", ["fd00:23::150", "fd00:23::151"]),
        ] {
            for gateway in gateways {
                netlink.add_route(&route(destination, vec![via(&near, gateway)])).await.unwrap();
            }
            let seen = to(&netlink, destination).await;
            let hops: Vec<_> = seen.iter().flat_map(|route| &route.next_hops).collect();
            assert_eq!(hops.len(), 2, "{seen:?}");
        }
        // IPv4 keeps two routes, the newer in front; IPv6 makes one of two next hops.
        let v4 = to(&netlink, "172.24.0.0/16").await;
        assert_eq!(v4[0].next_hops, [via(&near, "172.23.0.151")]);
    });
}

#[test]
fn defaults_are_those_of_ip_route() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let pod = new_namespace();
        let near = connected(&netlink, &pod).await;

        netlink.add_route(&route("0.0.0.0/0", vec![via(&near, "172.23.0.150")])).await.unwrap();
        let seen = &to(&netlink, "0.0.0.0/0").await[0];
        assert_eq!((seen.table, seen.scope, seen.protocol), (Some(254), Some(0), Some(4)));

        let direct = NextHop { gateway: None, ..via(&near, "172.23.0.150") };
        // Host bits are cleared: 10.1.2.3/8 is 10.0.0.0/8.
        netlink.add_route(&route("10.1.2.3/8", vec![direct])).await.unwrap();
        let seen = &to(&netlink, "10.0.0.0/8").await[0];
        assert_eq!((seen.scope, seen.next_hops.as_slice()), (Some(253), [direct].as_slice()));

        netlink.add_route(&route("::/0", vec![via(&near, "fd00:23::150")])).await.unwrap();
        let seen = &to(&netlink, "::/0").await[0];
        assert_eq!((seen.priority, seen.table), (Some(1024), Some(254)));
        assert!(netlink.delete_route(&route("::/0", vec![])).await.unwrap());
    });
}

#[test]
fn gateways_out_of_reach_need_onlink() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let pod = new_namespace();
        let near = connected(&netlink, &pod).await;
        let far = via(&near, "192.0.2.1");
        let error = netlink.add_route(&route("172.24.0.0/16", vec![far])).await.unwrap_err();
        assert!(error.to_string().ends_with("Nexthop has invalid gateway (ENETUNREACH)"), "{error}");

        let onlink = NextHop { onlink: true, ..far };
        netlink.add_route(&route("172.24.0.0/16", vec![onlink])).await.unwrap();
        assert_eq!(to(&netlink, "172.24.0.0/16").await[0].next_hops, [onlink]);
    });
}

#[test]
fn a_gateway_may_be_of_the_other_family_only_for_ipv4() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let pod = new_namespace();
        let near = connected(&netlink, &pod).await;
        let over_v6 = via(&near, "fd00:23::150");
        netlink.add_route(&route("172.24.0.0/16", vec![over_v6])).await.unwrap();
        assert_eq!(to(&netlink, "172.24.0.0/16").await[0].next_hops, [over_v6]);

        let over_v4 = route("fd00:24::/48", vec![via(&near, "172.23.0.150")]);
        let error = netlink.add_route(&over_v4).await.unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
    });
}

/// 4200 next hops do not fit into the 16 bits by which an attribute says its length; the library panicked there.
#[test]
fn what_netlink_cannot_express_is_refused_before_it_is_sent() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let pod = new_namespace();
        let near = connected(&netlink, &pod).await;
        let hops = |number: usize| vec![via(&near, "172.23.0.150"); number];
        netlink.add_route(&route("172.24.0.0/16", hops(Route::MAX_NEXT_HOPS))).await.unwrap();
        for number in [Route::MAX_NEXT_HOPS + 1, 4200] {
            let error = netlink.add_route(&route("172.25.0.0/16", hops(number))).await.unwrap_err();
            assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
            assert!(error.to_string().contains(&format!("{number} next hops")), "{error}");
        }
        // Deleting is not limited but by what can be said.
        let error = netlink.delete_route(&route("172.25.0.0/16", hops(4200))).await.unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error:?}");
        assert!(error.to_string().contains("netlink can express 65535 at most"), "{error}");
        let description = "x".repeat(70_000);
        let change = LinkChange { alias: Some(description), ..LinkChange::default() };
        assert!(netlink.change_link(near.index, &change).await.is_err());
        // The socket is as good as before.
        assert_eq!(to(&netlink, "172.24.0.0/16").await.len(), 1);
    });
}

#[test]
fn routes_that_drop_have_no_next_hop() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let lo = netlink.link("lo").await.unwrap().unwrap();
        netlink.change_link(lo.index, &up()).await.unwrap();
        let wanted = Route { kind: RouteKind::Unreachable, ..route("172.24.0.0/16", vec![]) };
        netlink.add_route(&wanted).await.unwrap();
        let seen = &to(&netlink, "172.24.0.0/16").await[0];
        assert_eq!((seen.kind, seen.next_hops.len()), (RouteKind::Unreachable, 0));
        assert!(netlink.delete_route(&wanted).await.unwrap());
    });
}

#[test]
fn filters_choose_by_family_table_and_link() {
    in_new_namespace(async || {
        let netlink = Netlink::open().await.unwrap();
        let pod = new_namespace();
        let near = connected(&netlink, &pod).await;
        let lo = netlink.link("lo").await.unwrap().unwrap();
        netlink.change_link(lo.index, &up()).await.unwrap();
        let read = async |filter: RouteFilter| netlink.routes(&filter).await.unwrap();

        // Kernel 6.1 adds an IPv6 address's local route some time after it has acknowledged the address.
        let local_v6 = RouteFilter { family: Some(Family::V6), table: Some(255), ..RouteFilter::default() };
        for _ in 0..100 {
            if read(local_v6).await.iter().any(|route| route.destination == "fd00:23::5/128".parse().unwrap())
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let v4 = read(RouteFilter { family: Some(Family::V4), ..RouteFilter::default() }).await;
        let v6 = read(RouteFilter { family: Some(Family::V6), ..RouteFilter::default() }).await;
        assert!(!v4.is_empty() && v4.iter().all(|route| route.family() == Family::V4));
        assert!(!v6.is_empty() && v6.iter().all(|route| route.family() == Family::V6));
        assert_eq!(read(RouteFilter::default()).await.len(), v4.len() + v6.len());

        let local = read(RouteFilter { table: Some(255), ..RouteFilter::default() }).await;
        assert!(local.iter().all(|route| route.table == Some(255)));
        assert!(local.iter().any(|route| route.kind == RouteKind::Local));
        let on_lo = read(RouteFilter { link: Some(lo.index), ..RouteFilter::default() }).await;
        assert!(!on_lo.is_empty() && on_lo.iter().all(|route| route.next_hops[0].link == lo.index));
        let main = RouteFilter { table: Some(254), link: Some(near.index), ..RouteFilter::default() };
        assert!(read(main).await.iter().any(|route| route.destination == "172.23.0.0/24".parse().unwrap()));

        for nothing in [
            RouteFilter { table: Some(4242), ..RouteFilter::default() },
            RouteFilter { link: Some(4242), ..RouteFilter::default() },
        ] {
            assert_eq!(read(nothing).await, []);
        }
    });
}
