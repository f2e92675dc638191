//! Options of VLANs, of bridges and of their ports as plain numbers: one attribute each, and all of them read, compared and
//! written in the same way.

use std::collections::BTreeMap;

use rtnetlink::packet_core::{DecodeError, DefaultNla, NlasIterator};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVlan, LinkAttribute,
    LinkInfo, LinkMessage, VlanFlags,
};
use serde::{Deserialize, Serialize};

use crate::name::validate_index;
use crate::{Netlink, Result};

/// Values by option, in the kernel's units.
pub type LinkOptions = BTreeMap<LinkOption, u64>;

/// An option. A flag is 0 or 1. Times are in hundredths of a second, which is the kernel's unit for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names are those of linux/if_link.h and linux/if_vlan.h")]
pub enum LinkOption {
    ReorderHeaders,
    Gvrp,
    LooseBinding,
    Mvrp,
    ForwardDelay,
    HelloTime,
    MaxAge,
    MacAgeingTime,
    Priority,
    VlanFiltering,
    GroupForwardMask,
    MulticastRouter,
    MulticastSnooping,
    MulticastQueryUseIfaddr,
    MulticastQuerier,
    HashMax,
    MulticastLastMemberCount,
    MulticastStartupQueryCount,
    MulticastLastMemberInterval,
    MulticastMembershipInterval,
    MulticastQuerierInterval,
    MulticastQueryInterval,
    MulticastQueryResponseInterval,
    MulticastStartupQueryInterval,
    PortPriority,
    PortPathCost,
    PortHairpin,
}

/// Where the kernel keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A bit of `IFLA_VLAN_FLAGS`.
    Vlan(u32),
    /// An attribute of a bridge, and its length in bytes.
    Bridge(u16, usize),
    /// An attribute of a bridge port, and its length in bytes.
    Port(u16, usize),
}

const IFLA_VLAN_FLAGS: u16 = 2;
const IFLA_BR_ROOT_ID: u16 = 10;
const IFLA_BR_BRIDGE_ID: u16 = 11;
const IFLA_BR_TOPOLOGY_CHANGE: u16 = 14;

impl LinkOption {
    /// Every option.
    pub const ALL: [Self; 27] = [
        Self::ReorderHeaders,
        Self::Gvrp,
        Self::LooseBinding,
        Self::Mvrp,
        Self::ForwardDelay,
        Self::HelloTime,
        Self::MaxAge,
        Self::MacAgeingTime,
        Self::Priority,
        Self::VlanFiltering,
        Self::GroupForwardMask,
        Self::MulticastRouter,
        Self::MulticastSnooping,
        Self::MulticastQueryUseIfaddr,
        Self::MulticastQuerier,
        Self::HashMax,
        Self::MulticastLastMemberCount,
        Self::MulticastStartupQueryCount,
        Self::MulticastLastMemberInterval,
        Self::MulticastMembershipInterval,
        Self::MulticastQuerierInterval,
        Self::MulticastQueryInterval,
        Self::MulticastQueryResponseInterval,
        Self::MulticastStartupQueryInterval,
        Self::PortPriority,
        Self::PortPathCost,
        Self::PortHairpin,
    ];

    fn place(self) -> Place {
        match self {
            Self::ReorderHeaders => Place::Vlan(1),
            Self::Gvrp => Place::Vlan(2),
            Self::LooseBinding => Place::Vlan(4),
            Self::Mvrp => Place::Vlan(8),
            Self::ForwardDelay => Place::Bridge(1, 4),
            Self::HelloTime => Place::Bridge(2, 4),
            Self::MaxAge => Place::Bridge(3, 4),
            Self::MacAgeingTime => Place::Bridge(4, 4),
            Self::Priority => Place::Bridge(6, 2),
            Self::VlanFiltering => Place::Bridge(7, 1),
            Self::GroupForwardMask => Place::Bridge(9, 2),
            Self::MulticastRouter => Place::Bridge(22, 1),
            Self::MulticastSnooping => Place::Bridge(23, 1),
            Self::MulticastQueryUseIfaddr => Place::Bridge(24, 1),
            Self::MulticastQuerier => Place::Bridge(25, 1),
            Self::HashMax => Place::Bridge(27, 4),
            Self::MulticastLastMemberCount => Place::Bridge(28, 4),
            Self::MulticastStartupQueryCount => Place::Bridge(29, 4),
            Self::MulticastLastMemberInterval => Place::Bridge(30, 8),
            Self::MulticastMembershipInterval => Place::Bridge(31, 8),
            Self::MulticastQuerierInterval => Place::Bridge(32, 8),
            Self::MulticastQueryInterval => Place::Bridge(33, 8),
            Self::MulticastQueryResponseInterval => Place::Bridge(34, 8),
            Self::MulticastStartupQueryInterval => Place::Bridge(35, 8),
            Self::PortPriority => Place::Port(2, 2),
            Self::PortPathCost => Place::Port(3, 4),
            Self::PortHairpin => Place::Port(4, 1),
        }
    }

    /// Whether it is an option of a link as a bridge port, which ends with that.
    #[must_use]
    pub fn is_of_port(self) -> bool {
        matches!(self.place(), Place::Port(..))
    }

    /// Whether the spanning tree can put another value in the place of a bridge's own. While it does, the kernel does not
    /// report the bridge's own, and [`crate::Link::options`] does not have this option.
    #[must_use]
    pub fn is_of_tree(self) -> bool {
        self.is_of_root() || self == Self::MacAgeingTime
    }

    /// Whether the root of the spanning tree decides on it.
    fn is_of_root(self) -> bool {
        matches!(self, Self::ForwardDelay | Self::HelloTime | Self::MaxAge)
    }

    /// Whether the two values are the same for the kernel. It keeps a multicast interval in ticks of its own clock, of
    /// which one is up to 1/100 s, and reports what became of it.
    #[must_use]
    pub fn is_same(self, one: u64, other: u64) -> bool {
        let rounded = matches!(self.place(), Place::Bridge(_, 8));
        one.abs_diff(other) <= u64::from(rounded)
    }
}

/// The options among the data of a VLAN, bridge or port; those of an unexpected length are left out.
fn decode(data: &[u8], place: impl Fn(u16, usize) -> Place) -> std::result::Result<LinkOptions, DecodeError> {
    let mut options = LinkOptions::new();
    for nla in NlasIterator::new(data) {
        let nla = nla?;
        let here = place(nla.kind(), nla.value().len());
        if let Some(option) = LinkOption::ALL.into_iter().find(|option| option.place() == here) {
            options.insert(option, number(nla.value()));
        }
    }
    Ok(options)
}

/// A bridge that is not the root of its tree reports the root's timers (`br_fill_info` in `net/bridge/br_netlink.c`), and during
/// a change of the topology any bridge forgets addresses faster (`__br_set_topology_change`). A request changes the bridge's
/// own values, which are not reported then.
pub(crate) fn of_bridge(data: &[u8]) -> std::result::Result<LinkOptions, DecodeError> {
    let mut options = decode(data, Place::Bridge)?;
    let (mut root, mut own, mut changing) = (None, None, false);
    for nla in NlasIterator::new(data) {
        let nla = nla?;
        match nla.kind() {
            IFLA_BR_ROOT_ID => root = Some(number(nla.value())),
            IFLA_BR_BRIDGE_ID => own = Some(number(nla.value())),
            IFLA_BR_TOPOLOGY_CHANGE => changing = number(nla.value()) != 0,
            _ => {}
        }
    }
    if root != own {
        options.retain(|option, _| !option.is_of_root());
    }
    if changing {
        options.remove(&LinkOption::MacAgeingTime);
    }
    Ok(options)
}

pub(crate) fn of_port(data: &[u8]) -> std::result::Result<LinkOptions, DecodeError> {
    decode(data, Place::Port)
}

/// Of `struct ifla_vlan_flags`, the flags.
pub(crate) fn of_vlan(flags: u32) -> LinkOptions {
    let mut options = LinkOptions::new();
    for option in LinkOption::ALL {
        if let Place::Vlan(bit) = option.place() {
            options.insert(option, u64::from(flags & bit != 0));
        }
    }
    options
}

/// A number of up to eight bytes in the machine's order.
fn number(bytes: &[u8]) -> u64 {
    let mut whole = [0; 8];
    let start = if cfg!(target_endian = "big") { 8 - bytes.len().min(8) } else { 0 };
    for (to, from) in whole[start..].iter_mut().zip(bytes) {
        *to = *from;
    }
    u64::from_ne_bytes(whole)
}

/// The other way; bytes that do not fit are cut off.
fn bytes(number: u64, length: usize) -> Vec<u8> {
    let whole = number.to_ne_bytes();
    if cfg!(target_endian = "big") { whole[8 - length..].to_vec() } else { whole[..length].to_vec() }
}

impl Netlink {
    /// Sets options of a VLAN or bridge, and of a link as a bridge port: one message for each of the two, none for no
    /// option.
    ///
    /// # Errors
    /// [`crate::Error::is_not_found`] if there is no such link; every other [`crate::Error`] of a request. The kernel keeps the values
    /// before the refused one: read back.
    pub async fn set_link_options(&self, index: u32, options: &LinkOptions) -> Result<()> {
        let words: Vec<String> =
            options.iter().map(|(option, value)| format!("{option:?} {value}")).collect();
        let attempt = || format!("set options of link {index} ({})", words.join(", "));
        validate_index(index, attempt)?;
        for info in messages(options) {
            let mut message = LinkMessage::default();
            message.header.index = index;
            message.attributes.push(LinkAttribute::LinkInfo(info));
            self.change(RouteNetlinkMessage::NewLink(message), 0, attempt).await?;
        }
        Ok(())
    }
}

/// What describes the options, for each message.
fn messages(options: &LinkOptions) -> Vec<Vec<LinkInfo>> {
    let (mut flags, mut mask) = (VlanFlags::empty(), VlanFlags::empty());
    let (mut bridge, mut port) = (Vec::new(), Vec::new());
    for (option, value) in options {
        match option.place() {
            Place::Vlan(bit) => {
                let flag = VlanFlags::from_bits_retain(bit);
                flags.set(flag, *value != 0);
                mask |= flag;
            }
            Place::Bridge(kind, length) => {
                bridge.push(InfoBridge::Other(DefaultNla::new(kind, bytes(*value, length))));
            }
            Place::Port(kind, length) => {
                port.push(InfoBridgePort::Other(DefaultNla::new(kind, bytes(*value, length))));
            }
        }
    }
    let mut messages = Vec::new();
    if !mask.is_empty() {
        let data = InfoData::Vlan(vec![InfoVlan::Flags((flags, mask))]);
        messages.push(vec![LinkInfo::Kind(InfoKind::Vlan), LinkInfo::Data(data)]);
    }
    if !bridge.is_empty() {
        messages.push(vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(InfoData::Bridge(bridge))]);
    }
    if !port.is_empty() {
        let data = InfoPortData::BridgePort(port);
        messages.push(vec![LinkInfo::PortKind(InfoPortKind::Bridge), LinkInfo::PortData(data)]);
    }
    messages
}

/// `struct ifla_vlan_flags`: the flags, and a mask that only requests use.
pub(crate) fn vlan_flags(kind: u16, value: &[u8]) -> Option<LinkOptions> {
    let flags = (kind == IFLA_VLAN_FLAGS).then(|| value.first_chunk::<4>()).flatten()?;
    Some(of_vlan(u32::from_ne_bytes(*flags)))
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_core::Emitable;

    use super::*;

    #[test]
    fn every_option_survives_the_way_to_the_kernel_and_back() {
        let mut bridge = LinkOptions::new();
        let mut attributes = Vec::new();
        for option in LinkOption::ALL {
            if let Place::Bridge(kind, length) = option.place() {
                bridge.insert(option, 100 + u64::from(kind));
                attributes.push(DefaultNla::new(kind, bytes(100 + u64::from(kind), length)));
            }
        }
        let mut wire = vec![0; attributes.as_slice().buffer_len()];
        attributes.as_slice().emit(&mut wire);
        assert_eq!(of_bridge(&wire).unwrap(), bridge);
        assert_eq!(bridge.len(), 20);
        assert_eq!(messages(&bridge).len(), 1);
    }

    #[test]
    fn the_options_of_a_link_and_of_its_port_go_in_messages_of_their_own() {
        let options = LinkOptions::from([(LinkOption::Gvrp, 1), (LinkOption::PortHairpin, 1)]);
        assert_eq!(messages(&options).len(), 2);
        assert!(messages(&LinkOptions::new()).is_empty());
        let flags = of_vlan(1 | 8);
        assert_eq!(
            (flags[&LinkOption::ReorderHeaders], flags[&LinkOption::Gvrp], flags[&LinkOption::Mvrp]),
            (1, 0, 1)
        );
    }

    #[test]
    fn only_intervals_are_rounded() {
        assert!(LinkOption::MulticastStartupQueryInterval.is_same(3125, 3124));
        assert!(!LinkOption::MulticastStartupQueryInterval.is_same(3125, 3123));
        assert!(!LinkOption::MacAgeingTime.is_same(1, 2));
    }
}
