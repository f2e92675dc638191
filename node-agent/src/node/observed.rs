//! What is there: links, addresses and routes by name, as far as the plan looks at them.
//!
//! Names and not indices, so that the same values describe a link before and after it is made anew, and
//! can be written down for a later process.

mod address;
mod ipv6;
mod read;
mod route;
mod scope;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use octavia_bridge_netlink::{BondOptions, LinkOption, LinkOptions, VlanRange};
use serde::{Deserialize, Serialize};

pub(crate) use address::{Address, Detail};
pub(crate) use ipv6::{Ipv6, Setting, find_below as find_settings_below, write as write_ipv6};
pub(crate) use read::{MAIN_TABLE, read};
pub(crate) use route::{Hop, Route, RouteDetail};
pub(crate) use scope::{Scope, read_scope};

use crate::node::marker;

/// A namespace's links and routes at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Observed {
    pub(crate) links: BTreeMap<String, Link>,
    pub(crate) routes: Vec<Route>,
    /// Default routes of the main table, whoever made them.
    pub(crate) defaults: Vec<DefaultRoute>,
    /// Names of links by their alternative names.
    pub(crate) alternatives: BTreeMap<String, String>,
}

/// One link.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Link {
    pub(crate) kind: Kind,
    pub(crate) up: bool,
    /// Bytes.
    pub(crate) mtu: u32,
    /// Bytes; 0 where the driver states none.
    pub(crate) max_mtu: u32,
    /// Canonical text, lower case with colons.
    pub(crate) mac: Option<String>,
    pub(crate) alias: Option<String>,
    pub(crate) master: Option<String>,
    /// It is one end of a veth pair whose other end is in another namespace.
    pub(crate) leads_away: bool,
    /// In the kernel's order, but not those that it makes and unmakes by itself.
    pub(crate) addresses: Vec<Address>,
    /// Link-local ones of IPv6 that others gave it. No policy's list of addresses is about them.
    pub(crate) link_locals: Vec<Address>,
    /// `None` where the kernel has no IPv6.
    pub(crate) ipv6: Option<Ipv6>,
    /// Of a VLAN or bridge, and of a port of a bridge.
    pub(crate) options: LinkOptions,
    /// Of a port of a bridge. Empty also where no bridge filters VLANs and no policy wants one to: then they are not read.
    pub(crate) vlans: Vec<VlanRange>,
}

/// What sort of link, with what only this sort has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Hardware, or one end of a veth pair.
    #[default]
    Ethernet,
    Loopback,
    Vlan {
        /// Name of the link beneath; empty if that is in another namespace.
        base: String,
        id: u16,
    },
    Bridge {
        stp: bool,
    },
    Vrf {
        table: u32,
    },
    Bond {
        /// `primary` is a name.
        options: BondOptions,
    },
    /// By the kernel's name for it.
    Other(String),
}

/// One way by which a default route leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct DefaultRoute {
    pub(crate) is_v4: bool,
    pub(crate) metric: u32,
    pub(crate) link: String,
    /// `None` if every host is taken to be on the link.
    pub(crate) gateway: Option<IpAddr>,
}

impl Observed {
    /// Names of the ports of a bridge or VRF.
    pub(crate) fn ports<'a>(&'a self, master: &'a str) -> impl Iterator<Item = &'a str> {
        let is_port = move |(name, link): (&'a String, &'a Link)| {
            (link.master.as_deref() == Some(master)).then_some(name.as_str())
        };
        self.links.iter().filter_map(is_port)
    }

    /// Names of the VLANs on a link.
    pub(crate) fn vlans_on<'a>(&'a self, base: &'a str) -> impl Iterator<Item = &'a str> {
        let stands_on = move |(name, link): (&'a String, &'a Link)| match &link.kind {
            Kind::Vlan { base: beneath, .. } if beneath == base => Some(name.as_str()),
            _ => None,
        };
        self.links.iter().filter_map(stands_on)
    }

    /// Whether it is a port of a bridge that filters VLANs.
    pub(crate) fn filters_port(&self, name: &str) -> bool {
        let master = self.links.get(name).and_then(|link| link.master.as_ref());
        master.and_then(|master| self.links.get(master)).is_some_and(Link::filters)
    }

    /// Links that a default route of the main table leaves by.
    pub(crate) fn default_links(&self) -> BTreeSet<String> {
        self.defaults.iter().map(|default| default.link.clone()).collect()
    }

    /// The routing table that a link's routes are looked up in: its VRF's, else the main one.
    pub(crate) fn table_of(&self, link: &str) -> u32 {
        let master = self.links.get(link).and_then(|link| link.master.as_ref());
        match master.and_then(|master| self.links.get(master)).map(|master| &master.kind) {
            Some(Kind::Vrf { table }) => *table,
            _ => MAIN_TABLE,
        }
    }
}

impl Link {
    /// Made by this program.
    pub(crate) fn is_ours(&self) -> bool {
        marker::is_ours(self.alias.as_deref())
    }

    /// The address of this subnet and value, if it has it and it is not the kernel's own.
    pub(crate) fn address(&self, net: IpNet) -> Option<&Address> {
        self.addresses.iter().chain(&self.link_locals).find(|one| one.net == net)
    }

    pub(crate) fn is_bridge(&self) -> bool {
        matches!(self.kind, Kind::Bridge { .. })
    }

    /// Whether it is a bridge that filters VLANs.
    pub(crate) fn filters(&self) -> bool {
        self.is_bridge() && self.options.get(&LinkOption::VlanFiltering) == Some(&1)
    }

    /// Its options as a VLAN or bridge, or as a port.
    pub(crate) fn options_of(&self, port: bool) -> LinkOptions {
        let of =
            |(option, value): (&LinkOption, &u64)| (option.is_of_port() == port).then_some((*option, *value));
        self.options.iter().filter_map(of).collect()
    }
}

impl Kind {
    /// nmstate's word for it.
    pub(crate) fn word(&self) -> &str {
        match self {
            Self::Ethernet => "ethernet",
            Self::Loopback => "loopback",
            Self::Vlan { .. } => "vlan",
            Self::Bridge { .. } => "linux-bridge",
            Self::Vrf { .. } => "vrf",
            Self::Bond { .. } => "bond",
            Self::Other(kind) => kind,
        }
    }

    /// Whether it takes all frames that arrive at its ports.
    pub(crate) fn takes_frames(&self) -> bool {
        matches!(self, Self::Bridge { .. } | Self::Bond { .. })
    }
}
