//! What is wanted: nmstate's YAML, read into values that the plan can use without further checks.
//!
//! Everything here is pure. A document is accepted or refused as a whole, and a refusal lists every
//! problem with its path, because a policy of ten interfaces that is refused one key at a time takes
//! ten tries to put right.

mod alternative;
mod bond;
mod bounds;
mod bridges;
mod common;
mod document;
mod field;
mod interface;
mod ip;
mod merge;
pub(crate) mod options;
pub(crate) mod port_vlan;
mod problem;
mod route;
mod section;
mod selector;
mod stack;
#[cfg(test)]
mod tests;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use octavia_bridge_netlink::{BondOptions, LinkOptions, MacAddress, VlanRange};

use crate::node::observed::MAIN_TABLE;

pub(crate) use alternative::with_alternatives;
pub(crate) use bond::{effective, follows_its_port};
pub(crate) use bridges::bridges;
pub(crate) use document::{ORIGIN_IN_CLUSTER, Text, read, read_any};
pub(crate) use field::name;
pub(crate) use problem::Problems;
pub(crate) use selector::{Choice, Label};
pub(crate) use yaml::documents;

/// Everything that is wanted of this node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Desired {
    /// Each name once.
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) routes: Vec<Route>,
    /// Parts that are not acted on, with the reason: for people, never silently.
    pub(crate) left_alone: Vec<String>,
    /// Ports that the agent attached for a policy, by name: deleting their bridge may release them. No document says so.
    pub(crate) own_ports: BTreeSet<String>,
}

/// One interface. `None` means that the document does not say: a link that exists keeps what it has.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    /// `None` for an entry without `type`, which can only speak of a link that exists.
    pub(crate) kind: Option<Kind>,
    pub(crate) state: State,
    pub(crate) description: Option<String>,
    /// Bytes.
    pub(crate) mtu: Option<u32>,
    pub(crate) mac: Option<MacAddress>,
    pub(crate) ipv4: Option<Ip>,
    pub(crate) ipv6: Option<Ip>,
    /// Of a VLAN or bridge.
    pub(crate) options: LinkOptions,
    /// Of a bridge's ports, by name.
    pub(crate) port_options: BTreeMap<String, LinkOptions>,
    /// The whole table of each of these ports; the bridge filters VLANs if there is one.
    pub(crate) port_vlans: BTreeMap<String, Vec<VlanRange>>,
}

/// What sort of link, with what only this sort has.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Ethernet,
    Loopback,
    /// The base interface and the id can be left out for a VLAN that exists.
    Vlan {
        base: Option<String>,
        id: Option<u16>,
    },
    /// `None` leaves the present ports.
    Bridge {
        ports: Option<Vec<String>>,
        stp: Option<bool>,
    },
    Vrf {
        ports: Option<Vec<String>>,
        table: Option<u32>,
    },
    /// With what the policy says of its options, the mode among them; `primary` is a name.
    Bond {
        options: BondOptions,
        ports: Option<Vec<String>>,
    },
}

impl Kind {
    /// Whether this program makes such links.
    pub(crate) fn is_made(&self) -> bool {
        !matches!(self, Self::Ethernet | Self::Loopback)
    }

    /// What it is called if it takes all frames that arrive at its ports, so that these can have no addresses.
    pub(crate) fn takes_frames(&self) -> Option<&'static str> {
        match self {
            Self::Bridge { .. } => Some("bridge"),
            Self::Bond { .. } => Some("bond"),
            _ => None,
        }
    }
}

/// What is to become of the interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    #[default]
    Up,
    /// Set down and kept. (nmstate removes virtual links that are to be down; deleting is left to
    /// `absent` here.)
    Down,
    Absent,
    Ignore,
}

/// Addresses of one family.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ip {
    pub(crate) enabled: Option<bool>,
    /// `None` keeps what the link has.
    pub(crate) addresses: Option<Vec<IpNet>>,
    /// IPv6 only: take addresses and routes from router advertisements.
    pub(crate) autoconf: Option<bool>,
}

/// One entry of `routes.config`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Route {
    /// Must not be there. What is `None` then stands for any value.
    pub(crate) absent: bool,
    pub(crate) destination: Option<IpNet>,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) interface: Option<String>,
    pub(crate) metric: Option<u32>,
    /// `None` for the main table (254), or for every table if it must not be there.
    pub(crate) table: Option<u32>,
    /// Share among next hops to the same destination, 1 to 256.
    pub(crate) weight: Option<u16>,
}

/// Metric the kernel gives to an IPv6 route that states none (`IP6_RT_PRIO_USER`).
const IPV6_METRIC: u32 = 1024;

impl Route {
    /// Destination, table and metric: what tells one route of the kernel's from another. `None` without a destination.
    pub(crate) fn place(&self) -> Option<(IpNet, u32, u32)> {
        let destination = self.destination?;
        let default_metric = if destination.addr().is_ipv4() { 0 } else { IPV6_METRIC };
        // 0 is how "none stated" is said on the wire, which IPv6 takes for its default.
        let metric = self.metric.filter(|metric| *metric != 0).unwrap_or(default_metric);
        Some((destination, self.table.unwrap_or(MAIN_TABLE), metric))
    }
}

impl Desired {
    /// Whether nothing is wanted.
    pub(crate) fn is_empty(&self) -> bool {
        self.interfaces.is_empty() && self.routes.is_empty()
    }
}

impl Interface {
    /// The ports this interface wants, if it is one that has ports and says so.
    pub(crate) fn ports(&self) -> &[String] {
        match &self.kind {
            Some(
                Kind::Bridge { ports: Some(ports), .. }
                | Kind::Vrf { ports: Some(ports), .. }
                | Kind::Bond { ports: Some(ports), .. },
            ) => ports,
            _ => &[],
        }
    }

    /// As [`Kind::takes_frames`].
    pub(crate) fn takes_frames(&self) -> Option<&'static str> {
        self.kind.as_ref().and_then(Kind::takes_frames)
    }
}
