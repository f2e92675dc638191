//! Options of bridges and of their ports.

use std::fmt;
use std::time::Duration;

use rtnetlink::packet_core::{DecodeError, NlasIterator, Parseable};
use rtnetlink::packet_route::link::{BridgePortState, BridgeStpState, InfoBridge, InfoBridgePort};

/// Options of a bridge, for requests (`None`: not sent, unchanged) and for reports (`None`: this kernel
/// has no such option).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BridgeOptions {
    /// Spanning tree protocol.
    pub stp: Option<bool>,
    /// Time a port spends listening, and again learning. The kernel keeps all times in hundredths of
    /// a second; 2 to 30 s while STP is on.
    pub forward_delay: Option<Duration>,
    /// Interval of configuration messages, 1 to 10 s.
    pub hello_time: Option<Duration>,
    /// Age at which a neighbour's message is dropped, 6 to 40 s.
    pub max_age: Option<Duration>,
    /// Time after which a learnt address is forgotten.
    pub ageing_time: Option<Duration>,
    /// Bridge priority in STP, lower wins.
    pub priority: Option<u16>,
    /// VLAN filtering. Kernels without it report `false`, and refuse even `false` with EOPNOTSUPP.
    pub vlan_filtering: Option<bool>,
    /// VLAN that new ports get untagged; 0 for none. Only kernels with VLAN filtering report one.
    pub vlan_default_pvid: Option<u16>,
    /// Bits of the 802.1D reserved group addresses that the bridge forwards nevertheless.
    pub group_forward_mask: Option<u16>,
    /// Multicast snooping.
    pub multicast_snooping: Option<bool>,
    /// Multicast querier.
    pub multicast_querier: Option<bool>,
    /// Pass bridged IPv4 through iptables. The kernel ORs this with a setting of the whole
    /// namespace, so `false` alone switches nothing off.
    pub nf_call_iptables: Option<bool>,
    /// The same for IPv6.
    pub nf_call_ip6tables: Option<bool>,
    /// The same for ARP.
    pub nf_call_arptables: Option<bool>,
    /// Maximum number of addresses that its ports learn; 0 for no limit. The bridge floods frames to other addresses. Kernels
    /// before 6.7 have no limit, ignore this option (`rtnl_newlink` in net/core/rtnetlink.c parses liberally), and report none.
    pub most_learned: Option<u32>,
}

impl BridgeOptions {
    /// The limit of learned addresses for bridges with pods and an uplink. A pod can send a frame from a new address every
    /// few microseconds, and each learned address takes 144 bytes of the kernel's memory for five minutes. A top-of-rack
    /// switch learns about as many. One network has far fewer stations; flooding still reaches those beyond the limit.
    pub const MOST_LEARNED: u32 = 16384;

    /// The attributes for what is stated.
    pub(crate) fn attributes(&self) -> Vec<InfoBridge> {
        let stp = |on| if on { BridgeStpState::KernelStp } else { BridgeStpState::Disabled };
        [
            self.stp.map(|on| InfoBridge::StpState(stp(on))),
            self.forward_delay.map(|time| InfoBridge::ForwardDelay(to_hundredths(time))),
            self.hello_time.map(|time| InfoBridge::HelloTime(to_hundredths(time))),
            self.max_age.map(|time| InfoBridge::MaxAge(to_hundredths(time))),
            self.ageing_time.map(|time| InfoBridge::AgeingTime(to_hundredths(time))),
            self.priority.map(InfoBridge::Priority),
            self.vlan_filtering.map(InfoBridge::VlanFiltering),
            self.vlan_default_pvid.map(InfoBridge::VlanDefaultPvid),
            self.group_forward_mask.map(InfoBridge::GroupFwdMask),
            self.multicast_snooping.map(InfoBridge::MulticastSnooping),
            self.multicast_querier.map(InfoBridge::MulticastQuerier),
            self.nf_call_iptables.map(InfoBridge::NfCallIpTables),
            self.nf_call_ip6tables.map(InfoBridge::NfCallIp6Tables),
            self.nf_call_arptables.map(InfoBridge::NfCallArpTables),
            self.most_learned.map(InfoBridge::FdbMaxLearned),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    pub(crate) fn decode(data: &[u8]) -> Result<Self, DecodeError> {
        let mut options = Self::default();
        for nla in NlasIterator::new(data) {
            match InfoBridge::parse(&nla?)? {
                // A user-space daemon's STP (state 2) is STP as well.
                InfoBridge::StpState(state) => options.stp = Some(state != BridgeStpState::Disabled),
                InfoBridge::ForwardDelay(time) => options.forward_delay = Some(from_hundredths(time)),
                InfoBridge::HelloTime(time) => options.hello_time = Some(from_hundredths(time)),
                InfoBridge::MaxAge(time) => options.max_age = Some(from_hundredths(time)),
                InfoBridge::AgeingTime(time) => options.ageing_time = Some(from_hundredths(time)),
                InfoBridge::Priority(value) => options.priority = Some(value),
                InfoBridge::VlanFiltering(on) => options.vlan_filtering = Some(on),
                InfoBridge::VlanDefaultPvid(id) => options.vlan_default_pvid = Some(id),
                InfoBridge::GroupFwdMask(mask) => options.group_forward_mask = Some(mask),
                InfoBridge::MulticastSnooping(on) => options.multicast_snooping = Some(on),
                InfoBridge::MulticastQuerier(on) => options.multicast_querier = Some(on),
                InfoBridge::NfCallIpTables(on) => options.nf_call_iptables = Some(on),
                InfoBridge::NfCallIp6Tables(on) => options.nf_call_ip6tables = Some(on),
                InfoBridge::NfCallArpTables(on) => options.nf_call_arptables = Some(on),
                InfoBridge::FdbMaxLearned(most) => options.most_learned = Some(most),
                _ => {}
            }
        }
        Ok(options)
    }
}

/// Flags of a bridge port to set. `None` leaves a flag alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortFlags {
    /// Send frames back out of the port they came from.
    pub hairpin: Option<bool>,
    /// No traffic to and from other isolated ports.
    pub isolated: Option<bool>,
    /// Learn source addresses.
    pub learning: Option<bool>,
    /// Flood unicast frames of unknown destination.
    pub unicast_flood: Option<bool>,
    /// Flood multicast frames.
    pub multicast_flood: Option<bool>,
    /// Flood broadcast frames.
    pub broadcast_flood: Option<bool>,
    /// Shut the port on a spanning tree message.
    pub bpdu_guard: Option<bool>,
    /// Never become the way to the root bridge.
    pub root_block: Option<bool>,
    /// Forget a multicast group at its first leave message.
    pub fast_leave: Option<bool>,
    /// Answer neighbour requests on behalf of hosts behind other ports.
    pub neighbour_suppression: Option<bool>,
    /// Cost of the port in STP, 1 to 65535.
    pub path_cost: Option<u32>,
    /// Priority of the port in STP, 0 to 63.
    pub priority: Option<u16>,
}

impl PortFlags {
    /// The attributes for what is stated.
    pub(crate) fn attributes(&self) -> Vec<InfoBridgePort> {
        [
            self.hairpin.map(InfoBridgePort::HairpinMode),
            self.isolated.map(InfoBridgePort::Isolated),
            self.learning.map(InfoBridgePort::Learning),
            self.unicast_flood.map(InfoBridgePort::UnicastFlood),
            self.multicast_flood.map(InfoBridgePort::MulticastFlood),
            self.broadcast_flood.map(InfoBridgePort::BroadcastFlood),
            self.bpdu_guard.map(InfoBridgePort::Guard),
            self.root_block.map(InfoBridgePort::Protect),
            self.fast_leave.map(InfoBridgePort::FastLeave),
            self.neighbour_suppression.map(InfoBridgePort::NeighSupress),
            self.path_cost.map(InfoBridgePort::Cost),
            self.priority.map(InfoBridgePort::Priority),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// A bridge port as the kernel reports it. The fields mean what those of [`PortFlags`] mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "PortFlags documents the fields of the same names")]
#[expect(clippy::struct_excessive_bools, reason = "they are the kernel's independent flags")]
pub struct Port {
    /// Whether the port passes frames. A port that is up but listening drops all of them.
    pub state: PortState,
    pub hairpin: bool,
    pub isolated: bool,
    pub learning: bool,
    pub unicast_flood: bool,
    pub multicast_flood: bool,
    pub broadcast_flood: bool,
    pub bpdu_guard: bool,
    pub root_block: bool,
    pub fast_leave: bool,
    pub neighbour_suppression: bool,
    pub path_cost: u32,
    pub priority: u16,
}

impl Port {
    pub(crate) fn decode(data: &[u8]) -> Result<Self, DecodeError> {
        let mut port = Self::default();
        for nla in NlasIterator::new(data) {
            match InfoBridgePort::parse(&nla?)? {
                InfoBridgePort::State(state) => port.state = state.into(),
                InfoBridgePort::HairpinMode(on) => port.hairpin = on,
                InfoBridgePort::Isolated(on) => port.isolated = on,
                InfoBridgePort::Learning(on) => port.learning = on,
                InfoBridgePort::UnicastFlood(on) => port.unicast_flood = on,
                InfoBridgePort::MulticastFlood(on) => port.multicast_flood = on,
                InfoBridgePort::BroadcastFlood(on) => port.broadcast_flood = on,
                InfoBridgePort::Guard(on) => port.bpdu_guard = on,
                InfoBridgePort::Protect(on) => port.root_block = on,
                InfoBridgePort::FastLeave(on) => port.fast_leave = on,
                InfoBridgePort::NeighSupress(on) => port.neighbour_suppression = on,
                InfoBridgePort::Cost(cost) => port.path_cost = cost,
                InfoBridgePort::Priority(priority) => port.priority = priority,
                _ => {}
            }
        }
        Ok(port)
    }
}

/// State of a bridge port (`IFLA_BRPORT_STATE`). Without STP a port goes from disabled straight to
/// forwarding once it is up and has a carrier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PortState {
    /// Down, without carrier, or shut by a guard.
    #[default]
    Disabled,
    /// STP: waits, drops everything.
    Listening,
    /// STP: learns addresses, drops everything.
    Learning,
    /// Passes frames.
    Forwarding,
    /// STP: kept out of a loop.
    Blocking,
}

impl From<BridgePortState> for PortState {
    fn from(state: BridgePortState) -> Self {
        match state {
            BridgePortState::Listening => Self::Listening,
            BridgePortState::Learning => Self::Learning,
            BridgePortState::Forwarding => Self::Forwarding,
            BridgePortState::Blocking => Self::Blocking,
            // The kernel has no sixth state. A later one would not be known to forward.
            _ => Self::Disabled,
        }
    }
}

impl fmt::Display for PortState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disabled => "disabled",
            Self::Listening => "listening",
            Self::Learning => "learning",
            Self::Forwarding => "forwarding",
            Self::Blocking => "blocking",
        })
    }
}

/// The kernel's unit for bridge times is `clock_t`, 1/100 s on every architecture.
fn to_hundredths(time: Duration) -> u32 {
    u32::try_from(time.as_millis() / 10).unwrap_or(u32::MAX)
}

fn from_hundredths(time: u32) -> Duration {
    Duration::from_millis(u64::from(time) * 10)
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_core::Emitable;

    use super::*;

    #[test]
    fn nothing_stated_sends_nothing() {
        assert!(BridgeOptions::default().attributes().is_empty());
        assert!(PortFlags::default().attributes().is_empty());
    }

    #[test]
    fn options_survive_the_way_to_the_kernel_and_back() {
        let options = BridgeOptions {
            stp: Some(true),
            forward_delay: Some(Duration::from_millis(2340)),
            hello_time: Some(Duration::from_secs(2)),
            max_age: Some(Duration::from_secs(20)),
            ageing_time: Some(Duration::from_secs(300)),
            priority: Some(0x8000),
            vlan_filtering: Some(false),
            vlan_default_pvid: Some(1),
            group_forward_mask: Some(8),
            multicast_snooping: Some(false),
            multicast_querier: Some(true),
            nf_call_iptables: Some(true),
            nf_call_ip6tables: Some(false),
            nf_call_arptables: Some(true),
            most_learned: Some(16384),
        };
        let attributes = options.attributes();
        let mut bytes = vec![0; attributes.as_slice().buffer_len()];
        attributes.as_slice().emit(&mut bytes);
        assert_eq!(BridgeOptions::decode(&bytes).unwrap(), options);
    }

    #[test]
    fn times_beyond_the_kernels_range_do_not_wrap() {
        assert_eq!(to_hundredths(Duration::MAX), u32::MAX);
        assert_eq!(to_hundredths(Duration::from_millis(19)), 1);
    }
}
