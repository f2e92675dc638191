//! VLANs of bridge ports: their ids, and whether frames have a tag.
//!
//! They have an effect only while the bridge filters VLANs ([`crate::BridgeOptions::vlan_filtering`]). Otherwise the
//! kernel keeps the table, reports success, and forwards every frame to every port.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use nix::libc;
use rtnetlink::packet_core::{DecodeError, NlasIterator, Parseable};
use rtnetlink::packet_route::link::{
    AfSpecBridge, BridgeVlanInfo, BridgeVlanInfoFlags, LinkAttribute, LinkExtentMask, LinkHeader, LinkMessage,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use serde::{Deserialize, Serialize};

use crate::channel::Request;
use crate::create::VLAN_IDS;
use crate::link::LINK_HEADER;
use crate::name::validate_index;
use crate::{Error, Netlink, Result};

/// Consecutive VLANs of a port with the same settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VlanRange {
    /// First id, 1 to 4094.
    pub first: u16,
    /// Last id, `first` for a single VLAN.
    pub last: u16,
    /// Untagged frames that arrive belong to this VLAN (its id is the port VLAN id). A port has at most one, and it is a
    /// single VLAN.
    pub pvid: bool,
    /// Frames of these VLANs leave the port untagged.
    pub untagged: bool,
}

impl fmt::Display for VlanRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        if self.last != self.first {
            write!(f, "-{}", self.last)?;
        }
        f.write_str(if self.pvid { " pvid" } else { "" })?;
        f.write_str(if self.untagged { " untagged" } else { "" })
    }
}

/// A port of any bridge, with its VLANs.
type Listed = (u32, Vec<VlanRange>);

impl Netlink {
    /// Reads the VLANs of a bridge port in ascending order. Consecutive VLANs with the same settings are one range; the
    /// port VLAN id is a separate one.
    ///
    /// Empty also for a link that is not a port, and on a kernel without VLAN filtering. The kernel can only list all
    /// ports of all bridges (`rtnl_bridge_getlink` in net/core/rtnetlink.c).
    ///
    /// # Errors
    /// Every [`Error`] a request can end in.
    pub async fn port_vlans(&self, port: u32) -> Result<Vec<VlanRange>> {
        validate_index(port, || format!("list VLANs of bridge port {port}"))?;
        Ok(self.all_port_vlans().await?.remove(&port).unwrap_or_default())
    }

    /// Reads the VLANs of all ports of all bridges, and of the bridges themselves, by index. Each as
    /// [`Netlink::port_vlans`] has it.
    ///
    /// # Errors
    /// Every [`Error`] a request can end in.
    pub async fn all_port_vlans(&self) -> Result<BTreeMap<u32, Vec<VlanRange>>> {
        let mut message = about_port(0);
        message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::BrvlanCompressed]));
        let request = Request::dump(RouteNetlinkMessage::GetLink(message));
        let listed = self.request(request, decode, || "list VLANs of bridge ports".into()).await?;
        Ok(listed.into_iter().collect())
    }

    /// Adds VLANs to a bridge port with one message, and changes the settings of those that it already has. Sends none for
    /// an empty list.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an id outside 1 to 4094, a reversed range, or a range as port VLAN id; EOPNOTSUPP for a link
    /// that is not a port, and on a kernel without VLAN filtering; every other [`Error`] of a request. The kernel keeps
    /// the changes before a refused one: read back.
    pub async fn add_port_vlans(&self, port: u32, vlans: &[VlanRange]) -> Result<()> {
        let attempt = || format!("add VLANs {} to bridge port {port}", words(vlans));
        let Some(message) = change(port, vlans, attempt)? else { return Ok(()) };
        self.change(RouteNetlinkMessage::SetLink(message), 0, attempt).await
    }

    /// Removes VLANs from a bridge port with one message. The kernel silently ignores those that the port does not have.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an id outside 1 to 4094 or a reversed range; every other [`Error`] of a request.
    pub async fn remove_port_vlans(&self, port: u32, ids: RangeInclusive<u16>) -> Result<()> {
        let vlans = [VlanRange { first: *ids.start(), last: *ids.end(), pvid: false, untagged: false }];
        let attempt = || format!("remove VLANs {} from bridge port {port}", words(&vlans));
        let Some(message) = change(port, &vlans, attempt)? else { return Ok(()) };
        self.change(RouteNetlinkMessage::DelLink(message), 0, attempt).await
    }

    /// Gives a bridge port these VLANs and no others. Those that stay are never missing meanwhile.
    ///
    /// # Errors
    /// As [`Netlink::add_port_vlans`].
    pub async fn set_port_vlans(&self, port: u32, vlans: &[VlanRange]) -> Result<()> {
        self.add_port_vlans(port, vlans).await?;
        let is_wanted = |id: &u16| vlans.iter().any(|range| (range.first..=range.last).contains(id));
        for range in self.port_vlans(port).await? {
            let mut others = (range.first..=range.last).filter(|id| !is_wanted(id)).peekable();
            while let Some(first) = others.next() {
                let mut last = first;
                while let Some(next) = others.next_if_eq(&(last + 1)) {
                    last = next;
                }
                self.remove_port_vlans(port, first..=last).await?;
            }
        }
        Ok(())
    }
}

fn words(vlans: &[VlanRange]) -> String {
    vlans.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A message of the family `AF_BRIDGE`, which distinguishes `RTM_DELLINK` of a port's VLANs from that of the link.
fn about_port(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Bridge;
    message.header.index = index;
    message
}

/// The message for a change of these VLANs, or `None` if there are none.
fn change(port: u32, vlans: &[VlanRange], attempt: impl Fn() -> String) -> Result<Option<LinkMessage>> {
    validate_index(port, &attempt)?;
    for range in vlans {
        let reason = if !VLAN_IDS.contains(&range.first) || !VLAN_IDS.contains(&range.last) {
            format!("VLAN ids are {} to {}", VLAN_IDS.start(), VLAN_IDS.end())
        } else if range.first > range.last {
            format!("the range {range} is reversed")
        } else if range.pvid && range.first != range.last {
            "a port VLAN id is one VLAN, not a range".to_owned()
        } else {
            continue;
        };
        return Err(Error::Invalid { attempt: attempt(), reason });
    }
    if vlans.is_empty() {
        return Ok(None);
    }
    let mut message = about_port(port);
    let entries = vlans.iter().flat_map(entries).map(AfSpecBridge::VlanInfo).collect();
    message.attributes.push(LinkAttribute::AfSpecBridge(entries));
    Ok(Some(message))
}

/// A single VLAN is one entry, a range is two: its begin and its end.
fn entries(range: &VlanRange) -> Vec<BridgeVlanInfo> {
    let mut flags = BridgeVlanInfoFlags::empty();
    flags.set(BridgeVlanInfoFlags::Pvid, range.pvid);
    flags.set(BridgeVlanInfoFlags::Untagged, range.untagged);
    if range.first == range.last {
        return vec![BridgeVlanInfo { flags, vid: range.first }];
    }
    vec![
        BridgeVlanInfo { flags: flags | BridgeVlanInfoFlags::RangeBegin, vid: range.first },
        BridgeVlanInfo { flags: flags | BridgeVlanInfoFlags::RangeEnd, vid: range.last },
    ]
}

pub(crate) fn decode(kind: u16, payload: &[u8]) -> std::result::Result<Option<Listed>, DecodeError> {
    if kind != libc::RTM_NEWLINK {
        return Ok(None);
    }
    let header = LinkHeader::parse(payload)?;
    let mut vlans = Vec::new();
    for nla in NlasIterator::new(&payload[LINK_HEADER..]) {
        let nla = nla?;
        if nla.kind() == libc::IFLA_AF_SPEC {
            vlans.extend(decode_vlans(nla.value())?);
        }
    }
    Ok(Some((header.index, vlans)))
}

fn decode_vlans(spec: &[u8]) -> std::result::Result<Vec<VlanRange>, DecodeError> {
    let mut vlans = Vec::new();
    let mut begun = None;
    for nla in NlasIterator::new(spec) {
        let AfSpecBridge::VlanInfo(BridgeVlanInfo { flags, vid }) = AfSpecBridge::parse(&nla?)? else {
            continue;
        };
        let has = |flag| flags.contains(flag);
        if has(BridgeVlanInfoFlags::RangeBegin) {
            begun = Some(vid);
            continue;
        }
        let first = match begun.take() {
            Some(first) if has(BridgeVlanInfoFlags::RangeEnd) => first,
            None if !has(BridgeVlanInfoFlags::RangeEnd) => vid,
            _ => return Err(format!("VLAN {vid}: a range without its begin or its end").into()),
        };
        let (pvid, untagged) = (has(BridgeVlanInfoFlags::Pvid), has(BridgeVlanInfoFlags::Untagged));
        vlans.push(VlanRange { first, last: vid, pvid, untagged });
    }
    match begun {
        None => Ok(vlans),
        Some(vid) => Err(format!("VLAN {vid}: a range without its end").into()),
    }
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_core::Emitable;

    use super::*;

    const NATIVE: VlanRange = VlanRange { first: 100, last: 100, pvid: true, untagged: true };
    const TRUNK: VlanRange = VlanRange { first: 200, last: 203, pvid: false, untagged: false };

    fn bytes(message: &LinkMessage) -> Vec<u8> {
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        bytes
    }

    #[test]
    fn a_change_is_laid_out_as_if_bridge_h_says() {
        let message = change(7, &[NATIVE, TRUNK], String::new).unwrap().unwrap();
        let bytes = bytes(&message);
        assert_eq!(bytes[0], u8::try_from(libc::AF_BRIDGE).unwrap());
        assert_eq!(bytes[4..8], 7_u32.to_ne_bytes());
        // IFLA_AF_SPEC, and in it IFLA_BRIDGE_VLAN_INFO (2) with `struct bridge_vlan_info`: flags, id.
        let mut wanted = vec![28_u16, libc::IFLA_AF_SPEC];
        for (flags, id) in [(2 | 4, 100), (8, 200), (16, 203)] {
            wanted.extend([8, 2, flags, id]);
        }
        let wanted: Vec<u8> = wanted.into_iter().flat_map(u16::to_ne_bytes).collect();
        assert_eq!(bytes[LINK_HEADER..], wanted);
        // The kernel's list has the same layout.
        assert_eq!(decode(libc::RTM_NEWLINK, &bytes).unwrap(), Some((7, vec![NATIVE, TRUNK])));
    }

    #[test]
    fn what_the_kernel_could_only_misread_is_not_sent() {
        let tagged = |first, last| VlanRange { first, last, pvid: false, untagged: false };
        for (range, word) in [
            (tagged(0, 0), "1 to 4094"),
            (tagged(4000, 4095), "1 to 4094"),
            (tagged(300, 200), "reversed"),
            (VlanRange { pvid: true, ..TRUNK }, "port VLAN id"),
        ] {
            let error = change(7, &[NATIVE, range], || "add".into()).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
        assert!(change(7, &[], String::new).unwrap().is_none());
    }

    #[test]
    fn half_a_range_is_an_error_and_not_a_guess() {
        for half in [&[(8, 200)][..], &[(16, 203)], &[(8, 200), (0, 203)]] {
            let spec: Vec<u8> = half
                .iter()
                .flat_map(|&(flags, id)| [8_u16, 2, flags, id])
                .flat_map(u16::to_ne_bytes)
                .collect();
            assert!(decode_vlans(&spec).is_err(), "{half:?}");
        }
    }

    #[test]
    fn a_range_reads_as_iproute2_writes_it() {
        assert_eq!(words(&[NATIVE, TRUNK]), "100 pvid untagged, 200-203");
    }
}
