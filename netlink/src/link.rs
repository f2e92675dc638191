//! Links as the kernel reports them.

use std::fmt;

use nix::libc;
use rtnetlink::packet_core::{
    DecodeError, ErrorContext, NlaBuffer, NlasIterator, Parseable, parse_i32, parse_string, parse_u8,
    parse_u32,
};
use rtnetlink::packet_route::link::{InfoVlan, InfoVrf, LinkHeader};

use crate::bond;
use crate::{BondOptions, BridgeOptions, LinkIpv6, LinkOptions, MacAddress, Port, PortState, link_option};

/// Length of `struct ifinfomsg`.
pub(crate) const LINK_HEADER: usize = 16;

/// A link as one kernel message described it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are the kernel's independent flags")]
pub struct Link {
    /// Index, unique in its namespace and never 0.
    pub index: u32,
    /// Name, 1 to 15 bytes.
    pub name: String,
    /// Hardware address; `None` if the link has none or one of another length than six octets.
    pub mac: Option<MacAddress>,
    /// Address burnt into the hardware. Virtual links have none.
    pub permanent_mac: Option<MacAddress>,
    /// Largest payload in bytes.
    pub mtu: u32,
    /// Smallest MTU the driver takes; 0 if it states none.
    pub min_mtu: u32,
    /// Largest MTU the driver takes; 0 if it states none.
    pub max_mtu: u32,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
    /// The loopback link (`IFF_LOOPBACK`).
    pub loopback: bool,
    /// It asks neighbours for their hardware addresses (not `IFF_NOARP`); tunnels do not.
    pub asks_neighbours: bool,
    /// Carrier present. Without meaning while the link is down.
    pub carrier: bool,
    /// Operational state by RFC 2863.
    pub operational: OperationalState,
    /// An administrator switched promiscuous mode on (`IFF_PROMISC`).
    pub promiscuous: bool,
    /// How many users keep the link promiscuous: bridges and packet sockets, too.
    pub promiscuity: u32,
    /// Index of the bridge, bond or other link it is a port of.
    pub master: Option<u32>,
    /// Free text an administrator attached, up to 255 bytes.
    pub alias: Option<String>,
    /// Other names by which the kernel finds it, each unique in its namespace.
    pub alternative_names: Vec<String>,
    /// Group, by which an administrator acts on several links at once; 0 unless stated.
    pub group: u32,
    /// Index of the link beneath (a VLAN's parent) or, for a veth, of the other end.
    pub parent: Option<u32>,
    /// If `parent` is an index of another namespace: the kernel's id of that namespace, as seen from here.
    pub parent_namespace: Option<i32>,
    /// IPv6 settings; `None` if it cannot have IPv6 addresses at all.
    pub ipv6: Option<LinkIpv6>,
    /// The type of link, with the options of the types that this crate can create.
    pub kind: LinkKind,
    /// State and flags as a bridge port; `None` unless the master is a bridge.
    pub port: Option<Port>,
    /// Options of a VLAN or bridge, and of a bridge port, as far as this kernel has and reports them. Events do not have them, nor
    /// do sockets [without](crate::Netlink::without_link_options).
    pub options: LinkOptions,
}

/// The type of a link (`IFLA_INFO_KIND`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LinkKind {
    /// A bridge, with every option this kernel reports.
    Bridge(BridgeOptions),
    /// A VLAN on the link `parent`.
    Vlan {
        /// VLAN id, 1 to 4094 (0 and 4095 exist only on links of other programs).
        id: u16,
        /// Ethernet type of its tag: 0x8100 for IEEE 802.1Q, 0x88a8 for 802.1ad.
        protocol: u16,
    },
    /// A VRF: its ports use a separate routing table.
    Vrf {
        /// The table.
        table: u32,
    },
    /// A bond, with every option this kernel reports, where [`Link::options`] are read.
    Bond(BondOptions),
    /// One end of a veth pair.
    Veth,
    /// Another type, by the kernel's name.
    Other(String),
    /// The kernel reports no type: hardware, loopback.
    #[default]
    None,
}

/// Operational state by RFC 2863 (`IFLA_OPERSTATE`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OperationalState {
    /// The driver does not report it; usual for loopback.
    #[default]
    Unknown,
    /// A part is missing.
    NotPresent,
    /// Cannot pass packets.
    Down,
    /// The link beneath cannot pass packets.
    LowerLayerDown,
    /// In a test mode.
    Testing,
    /// Waits for an event outside, such as 802.1X.
    Dormant,
    /// Passes packets.
    Up,
}

impl From<u8> for OperationalState {
    fn from(value: u8) -> Self {
        match value {
            1 => Self::NotPresent,
            2 => Self::Down,
            3 => Self::LowerLayerDown,
            4 => Self::Testing,
            5 => Self::Dormant,
            6 => Self::Up,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for OperationalState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::NotPresent => "not present",
            Self::Down => "down",
            Self::LowerLayerDown => "lower layer down",
            Self::Testing => "testing",
            Self::Dormant => "dormant",
            Self::Up => "up",
        })
    }
}

impl Link {
    /// Whether this is one of its names.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.alternative_names.iter().any(|other| other == name)
    }

    /// Frames pass between this veth and its bridge, in both directions: the kernel has noticed its carrier, and the bridge
    /// port forwards.
    ///
    /// The port's state alone is not enough. Kernels up to at least 6.1 enable a port whose veth peer is still down,
    /// because the operational state of a new link is unknown until a worker of the kernel has looked at its carrier, and
    /// disable it a moment later. Nor is the carrier, which is there as soon as the peer is up: until that worker has run,
    /// the link's queue discipline is `noop`, which drops what the bridge sends, such as a neighbour's first ARP request,
    /// and the neighbour repeats it only a second later (`linkwatch_do_dev`).
    #[must_use]
    pub fn is_forwarding(&self) -> bool {
        let noticed = self.carrier && self.operational == OperationalState::Up;
        noticed && self.port.as_ref().is_some_and(|port| port.state == PortState::Forwarding)
    }

    /// Reads a link out of an answer; `None` for other types of message.
    pub(crate) fn from_message(kind: u16, payload: &[u8]) -> Result<Option<Self>, DecodeError> {
        if kind == libc::RTM_NEWLINK { Self::decode::<true>(payload).map(Some) } else { Ok(None) }
    }

    /// The same without [`Link::options`], of which a bridge has dozens.
    pub(crate) fn without_options(kind: u16, payload: &[u8]) -> Result<Option<Self>, DecodeError> {
        if kind == libc::RTM_NEWLINK { Self::decode::<false>(payload).map(Some) } else { Ok(None) }
    }

    /// Reads only the attributes that this crate uses. The message types of rust-netlink would read all of
    /// them. One statistic or driver detail of an unexpected length, on any link of the node, would then
    /// make the whole table unreadable.
    pub(crate) fn decode<const OPTIONS: bool>(payload: &[u8]) -> Result<Self, DecodeError> {
        let header = LinkHeader::parse(payload)?;
        let flags = header.flags.bits();
        let has = |flag: libc::c_int| flags & flag.cast_unsigned() != 0;
        let mut link = Self {
            index: header.index,
            up: has(libc::IFF_UP),
            loopback: has(libc::IFF_LOOPBACK),
            asks_neighbours: !has(libc::IFF_NOARP),
            carrier: has(libc::IFF_LOWER_UP),
            promiscuous: has(libc::IFF_PROMISC),
            ..Self::default()
        };
        for nla in NlasIterator::new(&payload[LINK_HEADER..]) {
            let nla = nla?;
            link.read::<OPTIONS>(&nla)
                .with_context(|| format!("attribute {} of link {} {}", nla.kind(), link.index, link.name))?;
        }
        Ok(link)
    }

    fn read<const OPTIONS: bool>(&mut self, nla: &NlaBuffer<&[u8]>) -> Result<(), DecodeError> {
        let value = nla.value();
        let mac = || <[u8; 6]>::try_from(value).ok().map(MacAddress);
        // 0 means "none" in every attribute that is an index.
        let index = || parse_u32(value).map(|index| Some(index).filter(|&index| index != 0));
        match nla.kind() {
            libc::IFLA_IFNAME => self.name = parse_string(value)?,
            libc::IFLA_ADDRESS => self.mac = mac(),
            libc::IFLA_PERM_ADDRESS => self.permanent_mac = mac(),
            libc::IFLA_MTU => self.mtu = parse_u32(value)?,
            libc::IFLA_MIN_MTU => self.min_mtu = parse_u32(value)?,
            libc::IFLA_MAX_MTU => self.max_mtu = parse_u32(value)?,
            libc::IFLA_OPERSTATE => self.operational = parse_u8(value)?.into(),
            libc::IFLA_CARRIER => self.carrier = parse_u8(value)? != 0,
            libc::IFLA_PROMISCUITY => self.promiscuity = parse_u32(value)?,
            libc::IFLA_MASTER => self.master = index()?,
            libc::IFLA_GROUP => self.group = parse_u32(value)?,
            libc::IFLA_LINK => self.parent = index()?,
            libc::IFLA_LINK_NETNSID => self.parent_namespace = Some(parse_i32(value)?),
            // For the kernel an alias is bytes. An alias that is not UTF-8 must not make the link unreadable.
            libc::IFLA_IFALIAS => {
                let text = value.strip_suffix(b"\0").unwrap_or(value);
                self.alias = Some(String::from_utf8_lossy(text).into_owned()).filter(|text| !text.is_empty());
            }
            libc::IFLA_PROP_LIST => {
                for nla in NlasIterator::new(value) {
                    let nla = nla?;
                    if nla.kind() == libc::IFLA_ALT_IFNAME {
                        self.alternative_names.push(parse_string(nla.value())?);
                    }
                }
            }
            libc::IFLA_LINKINFO => self.read_info::<OPTIONS>(value)?,
            libc::IFLA_AF_SPEC => self.ipv6 = LinkIpv6::decode(value)?,
            _ => {}
        }
        Ok(())
    }

    /// Reads the nested attributes that depend on the sort of link and on the sort of its master.
    /// The kernel writes each sort's name before its data.
    fn read_info<const OPTIONS: bool>(&mut self, info: &[u8]) -> Result<(), DecodeError> {
        let mut bridged = false;
        for nla in NlasIterator::new(info) {
            let nla = nla?;
            match (nla.kind(), &mut self.kind) {
                (libc::IFLA_INFO_KIND, kind) => {
                    *kind = match parse_string(nla.value())?.as_str() {
                        "bridge" => LinkKind::Bridge(BridgeOptions::default()),
                        "vlan" => LinkKind::Vlan { id: 0, protocol: 0 },
                        "vrf" => LinkKind::Vrf { table: 0 },
                        "bond" => LinkKind::Bond(BondOptions::new()),
                        "veth" => LinkKind::Veth,
                        other => LinkKind::Other(other.to_owned()),
                    }
                }
                (libc::IFLA_INFO_DATA, LinkKind::Bridge(options)) => {
                    *options = BridgeOptions::decode(nla.value())?;
                    if OPTIONS {
                        self.options.extend(link_option::of_bridge(nla.value())?);
                    }
                }
                (libc::IFLA_INFO_DATA, LinkKind::Bond(options)) if OPTIONS => {
                    *options = bond::decode(nla.value())?;
                }
                (libc::IFLA_INFO_DATA, LinkKind::Vlan { id, protocol }) => {
                    // The kernel leaves out flags of which none is set (`vlan_fill_info` in net/8021q/vlan_netlink.c).
                    if OPTIONS {
                        self.options.extend(link_option::of_vlan(0));
                    }
                    for nla in NlasIterator::new(nla.value()) {
                        let nla = nla?;
                        if OPTIONS && let Some(flags) = link_option::vlan_flags(nla.kind(), nla.value()) {
                            self.options.extend(flags);
                        }
                        match InfoVlan::parse(&nla)? {
                            InfoVlan::Id(value) => *id = value,
                            InfoVlan::Protocol(value) => *protocol = value.into(),
                            _ => {}
                        }
                    }
                }
                (libc::IFLA_INFO_DATA, LinkKind::Vrf { table }) => {
                    for nla in NlasIterator::new(nla.value()) {
                        if let InfoVrf::TableId(value) = InfoVrf::parse(&nla?)? {
                            *table = value;
                        }
                    }
                }
                (libc::IFLA_INFO_SLAVE_KIND, _) => bridged = parse_string(nla.value())? == "bridge",
                (libc::IFLA_INFO_SLAVE_DATA, _) if bridged => {
                    self.port = Some(Port::decode(nla.value())?);
                    if OPTIONS {
                        self.options.extend(link_option::of_port(nla.value())?);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}
