//! A route, with what it takes to give it back as it was.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use octavia_bridge_netlink as nl;
use serde::{Deserialize, Serialize};

use crate::node::marker;

/// Scopes that the kernel gives to a route unless one is stated (`RT_SCOPE_*`).
const UNIVERSE: u8 = 0;
const LINK: u8 = 253;

/// Origins of routes that stay until they are removed: people, programs on their behalf, DHCP clients (`RTPROT_BOOT`, `_STATIC`,
/// `_DHCP`) and this agent.
const CONFIGURED: [u8; 4] = [3, 4, 16, marker::ROUTE_PROTOCOL];

/// A unicast route that somebody configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Route {
    pub(crate) destination: IpNet,
    pub(crate) table: u32,
    pub(crate) metric: u32,
    pub(crate) protocol: u8,
    pub(crate) source: Option<IpAddr>,
    /// Path MTU in bytes.
    pub(crate) mtu: Option<u32>,
    /// In order, so that two routes can be compared.
    pub(crate) hops: Vec<Hop>,
    /// What else there is to say of it; `None` if it is as this program adds one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) detail: Option<Box<RouteDetail>>,
}

/// One way to go on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Hop {
    pub(crate) link: String,
    pub(crate) gateway: Option<IpAddr>,
    /// 1 to 256.
    pub(crate) weight: u16,
    pub(crate) onlink: bool,
}

/// What few routes have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct RouteDetail {
    tos: u8,
    from: Option<IpNet>,
    /// `None` if it is what the kernel would give.
    scope: Option<u8>,
    advmss: Option<u32>,
    metrics: Vec<Attribute>,
    others: Vec<Attribute>,
    /// The nexthop object that has the next hops.
    object: Option<u32>,
    /// What it has and cannot be given back, in words.
    unkept: Vec<String>,
}

/// A value as the kernel states it, by its number.
type Attribute = (u16, Vec<u8>);

impl Route {
    pub(crate) fn is_ours(&self) -> bool {
        self.protocol == marker::ROUTE_PROTOCOL
    }

    /// Whether it is not a routing daemon's, which comes and goes as that thinks fit.
    pub(crate) fn is_configured(&self) -> bool {
        CONFIGURED.contains(&self.protocol)
    }

    /// It is taken by some packets to its destination only, so that it is none that a policy could mean.
    pub(crate) fn is_selective(&self) -> bool {
        self.detail.as_ref().is_some_and(|detail| detail.tos != 0 || detail.from.is_some())
    }

    /// What it has and cannot be given back once it is removed, in words.
    pub(crate) fn unkept(&self) -> Vec<String> {
        let Some(detail) = &self.detail else { return Vec::new() };
        let mut unkept = detail.unkept.clone();
        // It goes when the link is set down.
        unkept.extend(
            detail.object.map(|object| format!("its nexthop object {object}, should that be gone by then")),
        );
        unkept
    }

    /// Whether packets leave by no other links than these.
    pub(crate) fn uses_only(&self, links: &BTreeSet<&str>) -> bool {
        !self.hops.is_empty() && self.hops.iter().all(|hop| links.contains(hop.link.as_str()))
    }

    /// Whether a packet could leave by this link.
    pub(crate) fn uses(&self, link: &str) -> bool {
        self.hops.iter().any(|hop| hop.link == link)
    }
}

impl RouteDetail {
    /// `None` if the route has nothing of it.
    pub(super) fn of(seen: &nl::Route) -> Option<Box<Self>> {
        let detail = Self {
            tos: seen.tos,
            from: seen.from,
            scope: seen.scope.filter(|scope| *scope != usual_scope(seen)),
            advmss: seen.advmss,
            metrics: read(&seen.metrics),
            others: read(&seen.others),
            object: seen.object,
            unkept: seen.unkept.clone(),
        };
        (detail != Self::default()).then(|| Box::new(detail))
    }

    /// Adds it to a request to the kernel.
    pub(crate) fn put(&self, route: &mut nl::Route) {
        (route.tos, route.from, route.scope, route.advmss) = (self.tos, self.from, self.scope, self.advmss);
        (route.metrics, route.others) = (written(&self.metrics), written(&self.others));
        route.object = self.object;
    }
}

fn usual_scope(route: &nl::Route) -> u8 {
    let direct = route.next_hops.iter().all(|hop| hop.gateway.is_none());
    if route.family() == nl::Family::V4 && direct { LINK } else { UNIVERSE }
}

fn read(attributes: &[nl::RouteAttribute]) -> Vec<Attribute> {
    attributes.iter().map(|one| (one.kind, one.value.clone())).collect()
}

fn written(attributes: &[Attribute]) -> Vec<nl::RouteAttribute> {
    attributes.iter().map(|(kind, value)| nl::RouteAttribute { kind: *kind, value: value.clone() }).collect()
}
