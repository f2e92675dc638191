//! The pod's end of the pair: settings, addresses, routes, and the word to the neighbours.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use octavia_bridge_ipam::conf;
use octavia_bridge_netlink::{Inside, Link, LinkChange, MacAddress, Netlink, NewAddress, NextHop};

use crate::attachment::Attachment;
use crate::protocol::result::Route;
use crate::protocol::{Code, Error};
use crate::record::{Intent, Netns};
use crate::sysctl::Sysctl;

const LOOPBACK_DISABLE_IPV6: &str = "/proc/sys/net/ipv6/conf/lo/disable_ipv6";

/// Settings of the pod's link that must stand before it comes up; to be written inside the pod's namespace.
pub(crate) fn settings(attachment: &Attachment, addresses: &[IpNet]) -> Vec<Sysctl> {
    let pod_link = attachment.owner.ifname.as_str();
    let hardening = |key, value| Sysctl { link: pod_link.into(), key, value, needed: false };
    // Routers of this network are not the pod's: its addresses and routes are what the result says
    // (containernetworking/plugins#160).
    let mut settings = vec![hardening("accept_ra", "0")];
    if addresses.iter().any(|address| matches!(address, IpNet::V6(_))) {
        for link in ["lo", pod_link] {
            // Some runtimes switch IPv6 off for the whole pod; a network that gives an IPv6 address means it.
            settings.push(Sysctl { link: link.into(), key: "disable_ipv6", value: "0", needed: true });
        }
        if attachment.announce {
            settings.push(hardening("ndisc_notify", "1"));
        }
        settings.push(multicast_listener(pod_link, "1"));
        // For the link-local address: the pool's have no duplicate address detection to begin with.
        settings.push(hardening("accept_dad", "0"));
        settings.push(hardening("keep_addr_on_down", "1"));
    }
    settings
}

/// The version in which the pod's link says which groups it listens to: "1", or "0" for the newest that the network speaks.
///
/// It speaks version 1 while it is given its addresses. A bridge that is a querier asks a new port, in version 1, as soon as it
/// forwards. Taking that in, the kernel drops the reports of version 2 that wait to be sent, such as of an address from a moment
/// ago, and answers at some time in the next ten seconds (net/ipv6/mcast.c, `mld_process_v1`); until then the bridge lets no
/// neighbour's question through to the pod. A report of version 1 leaves at once, together with the address.
pub(crate) fn multicast_listener(pod_link: &str, version: &'static str) -> Sysctl {
    Sysctl { link: pod_link.into(), key: "force_mld_version", value: version, needed: false }
}

/// Whether the pod's loopback has IPv6 switched off, as some runtimes leave it.
pub(crate) fn loopback_ipv6_is_off(inside: &Inside) -> Result<bool, Error> {
    let off = || std::fs::read_to_string(LOOPBACK_DISABLE_IPV6).is_ok_and(|value| value.trim() == "1");
    inside.run(off).map_err(|cause| Error::kernel("look at the pod's loopback", &cause))
}

/// Switches IPv6 off again on the loopback of the namespace an unfinished ADD began with, if it is still there.
pub(crate) fn switch_loopback_ipv6_off(intent: &Intent) -> Result<(), Error> {
    let Some(netns) = intent.netns.as_ref().and_then(Netns::open) else { return Ok(()) };
    netns
        .run(|| std::fs::write(LOOPBACK_DISABLE_IPV6, "1"))
        .map_err(|cause| Error::kernel("restore the pod's loopback", &cause))?
        .map_err(|cause| Error::io(format!("write 1 to {LOOPBACK_DISABLE_IPV6}"), &cause))
}

/// Brings the pod's end up, unless somebody else shall, who then announces what addresses it has.
pub(crate) async fn bring_up(pod: &Netlink, link: u32, attachment: &Attachment) -> Result<(), Error> {
    let change = LinkChange {
        up: (!attachment.leave_down).then_some(true),
        arp_notify: attachment.announce.then_some(true),
        ..LinkChange::default()
    };
    let changed = pod.change_link(link, &change).await;
    changed.map_err(|cause| Error::kernel("bring up the pod's interface", &cause))
}

/// Waits until the bridge forwards for the pod's port. Returns the port.
pub(crate) async fn await_forwarding(host: &Netlink, port: &str, wait: Duration) -> Result<Link, Error> {
    let forwarding = host.wait_for_link(port, wait, Link::is_forwarding).await;
    forwarding.map_err(|cause| Error::kernel("wait for the bridge port to forward", &cause))
}

pub(crate) async fn add_addresses(pod: &Netlink, link: u32, addresses: &[IpNet]) -> Result<(), Error> {
    for address in addresses {
        // The pool has seen to it that nobody else has this address; duplicate address detection would only keep
        // it unusable for one to two seconds.
        pod.add_address(link, &NewAddress { address: *address, nodad: true, noprefixroute: false })
            .await
            .map_err(|cause| Error::kernel(format!("give the pod the address {address}"), &cause))?;
    }
    Ok(())
}

/// Whether no route of the configuration has more next hops than one can have, before anything is claimed for the pod.
///
/// # Errors
/// Code 7 with the place of the one too many.
pub(crate) fn check_next_hops(routes: &[conf::Route]) -> Result<(), Error> {
    const MOST: usize = octavia_bridge_netlink::Route::MAX_NEXT_HOPS;
    let mut counts: BTreeMap<_, usize> = BTreeMap::new();
    for (number, route) in routes.iter().enumerate() {
        let conf::Route { dst, gw: _, mtu, advmss, priority, table, scope } = route;
        let count = counts.entry((dst, mtu, advmss, priority, table, scope)).or_default();
        *count += 1;
        if *count > MOST {
            let text =
                format!("ipam.routes[{number}]: one next hop to {dst} too many; a route has at most {MOST}");
            return Err(Error::new(Code::InvalidConfig, text));
        }
    }
    Ok(())
}

/// Installs the routes in their order. Routes alike but for the gateway become one route with several next hops.
pub(crate) async fn add_routes(pod: &Netlink, link: &Link, routes: &[Route]) -> Result<(), Error> {
    for (route, gateways) in grouped(routes) {
        let next_hops = gateways.iter().map(|gateway| NextHop {
            gateway: *gateway,
            link: link.index,
            ..NextHop::default()
        });
        let wanted = octavia_bridge_netlink::Route {
            table: route.table,
            priority: route.priority,
            scope: route.scope,
            mtu: route.mtu,
            advmss: route.advmss,
            next_hops: next_hops.collect(),
            destination: route.dst,
            ..octavia_bridge_netlink::Route::default()
        };
        pod.add_route(&wanted).await.map_err(|cause| Error::kernel(&link.name, &cause))?;
    }
    Ok(())
}

/// Routes to the same destination with the same attributes, with all their gateways, in order of first mention.
fn grouped(routes: &[Route]) -> Vec<(&Route, Vec<Option<std::net::IpAddr>>)> {
    let mut groups: Vec<(&Route, Vec<_>)> = Vec::new();
    for route in routes {
        let same = |other: &Route| Route { gw: route.gw, ..other.clone() } == *route;
        match groups.iter_mut().find(|(first, _)| same(first)) {
            Some((_, gateways)) => gateways.push(route.gw),
            None => groups.push((route, vec![route.gw])),
        }
    }
    groups
}

/// Tells the neighbours which MAC the pod's addresses now have: a gratuitous ARP for every IPv4 address, an
/// unsolicited neighbour advertisement with the override flag for every IPv6 one.
///
/// The kernel sends them when an address change of the link is notified, even to the same MAC, with `arp_notify`
/// and `ndisc_notify` set (net/ipv4/devinet.c, `inetdev_event`; net/ipv6/ndisc.c, `ndisc_netdev_event`). Called after
/// the port forwards; the reference plugin leaves it to the link coming up, a moment too early, and the bridge
/// drops every one of them (containernetworking/plugins#756, #858; moby/moby#49364).
pub(crate) async fn announce(pod: &Netlink, link: u32, mac: MacAddress) -> Result<(), Error> {
    pod.change_link(link, &LinkChange { mac: Some(mac), ..LinkChange::default() })
        .await
        .map_err(|cause| Error::kernel("announce the pod's addresses", &cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(dst: &str, gw: &str, priority: Option<u32>) -> Route {
        Route {
            dst: dst.parse().unwrap(),
            gw: Some(gw.parse().unwrap()),
            mtu: None,
            advmss: None,
            priority,
            table: None,
            scope: None,
        }
    }

    #[test]
    fn only_routes_alike_but_for_the_gateway_share_next_hops() {
        let routes = [
            route("10.0.0.0/8", "192.0.2.1", None),
            route("10.0.0.0/8", "192.0.2.2", Some(7)),
            route("10.0.0.0/8", "192.0.2.3", None),
        ];
        let groups = grouped(&routes);
        assert_eq!(groups.len(), 2);
        assert_eq!(groups[0].1.len(), 2);
        assert_eq!(groups[1].1, [Some("192.0.2.2".parse().unwrap())]);
    }

    #[test]
    fn one_next_hop_too_many_is_named_by_its_place() {
        let conf = |dst: &str, last: u8, priority| conf::Route {
            dst: dst.parse().unwrap(),
            gw: Some(std::net::Ipv4Addr::new(192, 0, 2, last).into()),
            mtu: None,
            advmss: None,
            priority,
            table: None,
            scope: None,
        };
        let mut routes: Vec<_> = (1..=128).map(|last| conf("10.0.0.0/8", last, None)).collect();
        routes.extend([conf("10.0.0.0/8", 129, Some(7)), conf("11.0.0.0/8", 129, None)]);
        check_next_hops(&routes).unwrap();
        routes.push(conf("10.0.0.0/8", 129, None));
        let error = check_next_hops(&routes).unwrap_err();
        assert_eq!(error.code, Code::InvalidConfig);
        assert_eq!(
            error.msg,
            "ipam.routes[130]: one next hop to 10.0.0.0/8 too many; a route has at most 128"
        );
    }
}
