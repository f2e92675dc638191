//! Routes by gateways that no address and no other route reaches any more. The kernel keeps them, and takes no such route anew.

use octavia_bridge_netlink::{Netlink, RouteFilter};

use super::model::same;
use super::{in_a_namespace, ip};
use crate::node::apply::kernel::{take, take_back};
use crate::node::marker::WAY_PROTOCOL;
use crate::node::observed::{self, Route, Setting};
use crate::node::plan::Step;

/// As administrators leave them who change an address.
fn leave_stale_routes() {
    ip("link add a0 type veth peer name p0");
    ip("link add a1 type veth peer name p1");
    for link in ["p0", "p1", "a0", "a1"] {
        ip(&format!("link set {link} up"));
    }
    for address in ["10.0.0.1/24", "10.1.0.1/24", "fd00::3/64 nodad"] {
        ip(&format!("addr add {address} dev a0"));
    }
    ip("addr add 10.2.0.1/24 dev a1");
    ip("route add 10.100.0.0/16 via 10.0.0.9 dev a0");
    ip("route add 10.101.0.0/16 via 10.0.0.9 dev a0 table 10");
    ip("route add 10.102.0.0/16 nexthop via 10.0.0.9 dev a0 nexthop via 10.0.0.8 dev a0 weight 3");
    ip("-6 route add fd01::/48 via fd00::9 dev a0 metric 50");
    // The gateway is in the destination.
    ip("-6 route add fd00::/64 via fd00::9 dev a0 metric 50 table 10");
    ip("addr del 10.0.0.1/24 dev a0");
    ip("addr del fd00::3/64 dev a0");
}

#[test]
fn they_are_given_back() {
    in_a_namespace(async || {
        leave_stale_routes();
        let netlink = Netlink::open().await.unwrap();
        let before = observed::read(&netlink).await.unwrap();
        assert_eq!(before.routes.len(), 5, "{:#?}", before.routes);
        let link = "a0".to_owned();
        for step in [
            Step::SetUp { link: link.clone(), up: false },
            Step::SetIpv6 { link, setting: Setting::Disabled, on: true },
        ] {
            let mut planned = Vec::new();
            let mut model = before.clone();
            for step in before.taken_along(&step).into_iter().chain([step]) {
                planned.push(step.clone().planned(&model));
                model.advance(&step);
                take(&netlink, &step).await.unwrap();
            }
            assert!(planned.len() > 2, "{planned:#?}");
            for planned in planned.iter().rev() {
                take_back(&netlink, planned).await.unwrap();
            }
            let now = observed::read(&netlink).await.unwrap();
            same(&before, &now, &format!("undone {planned:#?}"));
        }
    });
}

/// A recovery was killed while the direct routes to the gateways were there.
#[test]
fn a_direct_route_for_the_moment_does_not_stay() {
    in_a_namespace(async || {
        leave_stale_routes();
        // A policy's own.
        ip("route add 10.0.0.9 dev a0 proto 79 table 10");
        let netlink = Netlink::open().await.unwrap();
        let before = observed::read(&netlink).await.unwrap();
        let stale = |route: &&Route| route.hops.len() == 1 && route.hops[0].gateway.is_some();
        assert_eq!(before.routes.iter().filter(stale).count(), 4, "{:#?}", before.routes);
        for route in before.routes.iter().filter(stale) {
            let planned = Step::RemoveRoute(route.clone()).planned(&before);
            take(&netlink, &planned.apply).await.unwrap();
            let family = if route.destination.addr().is_ipv4() { "" } else { "-6 " };
            let (gateway, table) = (route.hops[0].gateway.unwrap(), route.table);
            ip(&format!("{family}route prepend {gateway} dev a0 table {table} proto {WAY_PROTOCOL}"));
            take_back(&netlink, &planned).await.unwrap();
        }
        same(&before, &observed::read(&netlink).await.unwrap(), "given back");
        let left = netlink.routes(&RouteFilter::default()).await.unwrap();
        assert!(left.iter().all(|route| route.protocol != Some(WAY_PROTOCOL)), "{left:#?}");
    });
}
