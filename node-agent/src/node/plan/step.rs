//! One act on the kernel, with what is needed to take it back.

use std::fmt;

use ipnet::IpNet;
use octavia_bridge_netlink::{LinkOption, LinkOptions, VlanRange};
use serde::{Deserialize, Serialize};

use super::losses::SMALLEST_IPV6_MTU;
use super::model::bond::after_mode;
use crate::node::desired::follows_its_port;
use crate::node::desired::options::in_words;
use crate::node::observed::{Address, Detail, Ipv6, Kind, Observed, Route, Setting};

/// A step and its inverse.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Planned {
    pub(crate) apply: Step,
    pub(crate) undo: Step,
    /// What the undoing takes besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) then: Vec<Step>,
    /// The link it acted on: a later one of the same name is another's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) index: Option<u32>,
}

impl Planned {
    /// What takes the step back, in order.
    pub(crate) fn undoing(&self) -> impl Iterator<Item = &Step> {
        std::iter::once(&self.undo).chain(&self.then)
    }
}

/// One act. Links are named, since an index is not known before a link is made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "step")]
pub(crate) enum Step {
    Create(NewLink),
    /// With what it takes to make it again.
    Delete(NewLink),
    SetUp {
        link: String,
        up: bool,
    },
    SetMtu {
        link: String,
        mtu: u32,
    },
    SetMac {
        link: String,
        mac: String,
    },
    SetMaster {
        link: String,
        master: Option<String>,
    },
    SetAlias {
        link: String,
        alias: String,
    },
    SetStp {
        link: String,
        on: bool,
    },
    SetOption {
        link: String,
        option: LinkOption,
        /// In the kernel's unit.
        value: u64,
    },
    /// All VLANs of a bridge port.
    SetPortVlans {
        link: String,
        vlans: Vec<VlanRange>,
    },
    /// One option of a bond; `primary` is a name.
    SetBond {
        link: String,
        option: String,
        value: String,
    },
    SetIpv6 {
        link: String,
        setting: Setting,
        on: bool,
    },
    AddAddress {
        link: String,
        address: IpNet,
        /// What else there is to say of it; none of one that a policy lists.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<Box<Detail>>,
    },
    RemoveAddress {
        link: String,
        address: IpNet,
    },
    AddRoute(Route),
    RemoveRoute(Route),
}

/// A link to be made, down and without a master. Its IPv6 settings are written before it is set up, or
/// it would tell the network of an address it is not to have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct NewLink {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) mac: Option<String>,
    /// Bytes; what the kernel gives if `None`.
    pub(crate) mtu: Option<u32>,
    pub(crate) alias: Option<String>,
    /// `None` where the kernel has no IPv6.
    pub(crate) ipv6: Option<Ipv6>,
    /// As a VLAN or bridge; what the kernel gives for those that are not here.
    #[serde(default, skip_serializing_if = "LinkOptions::is_empty")]
    pub(crate) options: LinkOptions,
    /// The group it is in until it is complete: a number by chance, by which a half-made link is known as ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<u32>,
}

/// VLANs of a port, for people.
pub(crate) fn vlans_in_words(vlans: &[VlanRange]) -> String {
    let words: Vec<String> = vlans.iter().map(ToString::to_string).collect();
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

impl Step {
    /// An address to be added, as it was or is to be.
    pub(crate) fn add(link: &str, address: Address) -> Self {
        Self::AddAddress { link: link.to_owned(), address: address.net, detail: address.detail }
    }

    /// This step with what takes it back, given the kernel before it.
    pub(crate) fn planned(self, before: &Observed) -> Planned {
        let mut then = Vec::new();
        // Below this MTU the kernel forgets what it knew of IPv6 on the link.
        if let Self::SetMtu { link, mtu } = &self
            && *mtu < SMALLEST_IPV6_MTU
            && let Some(ipv6) = before.links.get(link).and_then(|link| link.ipv6)
        {
            for (setting, on) in [ipv6.accepting(), (Setting::Disabled, ipv6.disabled)] {
                then.push(Self::SetIpv6 { link: link.clone(), setting, on });
            }
        }
        // They end with the port, and a new one has the kernel's.
        if let Self::SetMaster { link, .. } = &self
            && let Some(port) = before.links.get(link)
        {
            for (option, value) in port.options_of(true) {
                then.push(Self::SetOption { link: link.clone(), option, value });
            }
            // VLAN 1 would be among the kernel's.
            if before.filters_port(link) || !port.vlans.is_empty() {
                then.push(Self::SetPortVlans { link: link.clone(), vlans: port.vlans.clone() });
            }
        }
        // A bond that loses its last port gets an address by chance.
        if let Self::SetMaster { link, .. } = &self
            && let Some(bond) = before.links.get(link).and_then(|link| link.master.as_deref())
            && before.bond_options(bond).is_some_and(|options| !follows_its_port(options))
            && let Some(mac) = before.links.get(bond).and_then(|bond| bond.mac.clone())
        {
            then.push(Self::SetMac { link: bond.to_owned(), mac });
        }
        if let Self::SetBond { link, option, value } = &self
            && option == "mode"
            && let Some(options) = before.bond_options(link)
        {
            then.extend(after_mode(link, options, value));
        }
        // What comes up brings the VLANs on it up, also what only goes down and up again.
        let raises = match &self {
            Self::SetUp { link, up: false } => Some(link),
            Self::SetMaster { link, master } => {
                Some(link).filter(|link| before.cycles(link, master.as_deref()) || before.closes(link))
            }
            _ => None,
        };
        if let Some(link) = raises {
            then.extend(before.down_above(link).map(|vlan| Self::SetUp { link: vlan.to_owned(), up: false }));
        }
        Planned { undo: self.inverse(before), apply: self, then, index: None }
    }

    /// What takes this step back, given the kernel before it.
    fn inverse(&self, before: &Observed) -> Self {
        let link = |name: &String| before.links.get(name);
        match self.clone() {
            Self::Create(new) => Self::Delete(new),
            Self::Delete(new) => Self::Create(new),
            Self::SetUp { link: name, up } => {
                Self::SetUp { up: link(&name).map_or(!up, |link| link.up), link: name }
            }
            Self::SetMtu { link: name, mtu } => {
                Self::SetMtu { mtu: link(&name).map_or(mtu, |link| link.mtu), link: name }
            }
            Self::SetMac { link: name, mac } => {
                Self::SetMac { mac: link(&name).and_then(|link| link.mac.clone()).unwrap_or(mac), link: name }
            }
            Self::SetMaster { link: name, .. } => {
                Self::SetMaster { master: link(&name).and_then(|link| link.master.clone()), link: name }
            }
            Self::SetAlias { link: name, .. } => {
                let alias = link(&name).and_then(|link| link.alias.clone()).unwrap_or_default();
                Self::SetAlias { link: name, alias }
            }
            Self::SetBond { link: name, option, value } => {
                let old = before.bond_options(&name).and_then(|options| options.get(&option)).cloned();
                Self::SetBond { value: old.unwrap_or(value), link: name, option }
            }
            Self::SetStp { link: name, on } => Self::SetStp { link: name, on: !on },
            Self::SetOption { link: name, option, value } => {
                let old = link(&name).and_then(|link| link.options.get(&option)).copied();
                Self::SetOption { link: name, option, value: old.unwrap_or(value) }
            }
            Self::SetPortVlans { link: name, .. } => {
                let vlans = link(&name).map(|link| link.vlans.clone()).unwrap_or_default();
                Self::SetPortVlans { link: name, vlans }
            }
            Self::SetIpv6 { link: name, setting: Setting::Disabled, on } => {
                Self::SetIpv6 { link: name, setting: Setting::Disabled, on: !on }
            }
            Self::SetIpv6 { link: name, setting, on } => {
                let now = link(&name).and_then(|link| link.ipv6);
                let (setting, on) = now.map_or((setting, !on), Ipv6::accepting);
                Self::SetIpv6 { link: name, setting, on }
            }
            Self::AddAddress { link, address, .. } => Self::RemoveAddress { link, address },
            Self::RemoveAddress { link: name, address } => {
                let seen = link(&name).and_then(|link| link.address(address));
                Self::AddAddress { detail: seen.and_then(|one| one.detail.clone()), link: name, address }
            }
            Self::AddRoute(route) => Self::RemoveRoute(route),
            Self::RemoveRoute(route) => Self::AddRoute(route),
        }
    }

    /// The link the step acts on; routes have none.
    pub(crate) fn link(&self) -> Option<&str> {
        match self {
            Self::Create(new) | Self::Delete(new) => Some(&new.name),
            Self::SetUp { link, .. }
            | Self::SetMtu { link, .. }
            | Self::SetMac { link, .. }
            | Self::SetMaster { link, .. }
            | Self::SetAlias { link, .. }
            | Self::SetStp { link, .. }
            | Self::SetOption { link, .. }
            | Self::SetPortVlans { link, .. }
            | Self::SetBond { link, .. }
            | Self::SetIpv6 { link, .. }
            | Self::AddAddress { link, .. }
            | Self::RemoveAddress { link, .. } => Some(link),
            Self::AddRoute(_) | Self::RemoveRoute(_) => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on_off = |on: &bool| if *on { "on" } else { "off" };
        match self {
            Self::Create(new) => write!(f, "create {} {}", new.name, Sort(&new.kind)),
            Self::Delete(new) => write!(f, "delete {} {}", new.name, Sort(&new.kind)),
            Self::SetUp { link, up } => write!(f, "set {link} {}", if *up { "up" } else { "down" }),
            Self::SetMtu { link, mtu } => write!(f, "set the MTU of {link} to {mtu}"),
            Self::SetMac { link, mac } => write!(f, "set the MAC address of {link} to {mac}"),
            Self::SetMaster { link, master: Some(master) } => write!(f, "make {link} a port of {master}"),
            Self::SetMaster { link, master: None } => write!(f, "detach {link} from its master"),
            Self::SetAlias { link, alias } => write!(f, "set the alias of {link} to {alias:?}"),
            Self::SetBond { link, option, value } if value.is_empty() => {
                write!(f, "clear the bond option {option} of {link}")
            }
            Self::SetBond { link, option, value } => {
                write!(f, "set the bond option {option} of {link} to {value}")
            }
            Self::SetStp { link, on } => write!(f, "switch STP of {link} {}", on_off(on)),
            Self::SetOption { link, option, value } => {
                let (key, value) = in_words(*option, *value);
                write!(f, "set {key} of {link} to {value}")
            }
            Self::SetPortVlans { link, vlans } => {
                write!(f, "set the VLANs of port {link} to {}", vlans_in_words(vlans))
            }
            Self::SetIpv6 { link, setting, on } => {
                write!(f, "set {} of {link} to {}", setting.key(), setting.value(*on))
            }
            Self::AddAddress { link, address, .. } => write!(f, "add {address} to {link}"),
            Self::RemoveAddress { link, address } => write!(f, "remove {address} from {link}"),
            Self::AddRoute(route) => write!(f, "add the route {}", Way(route)),
            Self::RemoveRoute(route) => write!(f, "remove the route {}", Way(route)),
        }
    }
}

struct Sort<'a>(&'a Kind);

impl fmt::Display for Sort<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Kind::Vlan { base, id } => write!(f, "(VLAN {id} on {base})"),
            Kind::Bridge { .. } => f.write_str("(bridge)"),
            Kind::Vrf { table } => write!(f, "(VRF with table {table})"),
            Kind::Bond { options } => {
                write!(f, "(bond, {})", options.get("mode").map_or("unknown mode", String::as_str))
            }
            other => write!(f, "({})", other.word()),
        }
    }
}

struct Way<'a>(&'a Route);

impl fmt::Display for Way<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.destination)?;
        for hop in &self.0.hops {
            if let Some(gateway) = hop.gateway {
                write!(f, " via {gateway}")?;
            }
            write!(f, " dev {}", hop.link)?;
        }
        write!(f, " metric {} table {}", self.0.metric, self.0.table)
    }
}
