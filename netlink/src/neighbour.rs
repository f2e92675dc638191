//! Neighbours: hosts on a link, as ARP and neighbour discovery know them.

use std::net::IpAddr;

use nix::errno::Errno;
use nix::libc;
use rtnetlink::packet_core::{DecodeError, NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::neighbour::{
    NeighbourAttribute, NeighbourFlags, NeighbourHeader, NeighbourMessage, NeighbourState as WireState,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::channel::Request;
use crate::name::validate_index;
use crate::{Error, Netlink, Result};

/// What the kernel knows of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourState {
    /// It has answered lately.
    Reachable,
    /// Its hardware address is known, and has not been confirmed lately.
    Stale,
    /// It is being asked.
    Asked,
    /// It did not answer.
    Silent,
    /// An administrator stated its hardware address, or the link needs none: it is never asked.
    Stated,
}

impl From<WireState> for NeighbourState {
    fn from(state: WireState) -> Self {
        match state {
            WireState::Reachable => Self::Reachable,
            WireState::Stale | WireState::Delay => Self::Stale,
            WireState::Incomplete | WireState::Probe => Self::Asked,
            WireState::Noarp | WireState::Permanent => Self::Stated,
            _ => Self::Silent,
        }
    }
}

impl Netlink {
    /// What the kernel knows of a neighbour; `None` if nothing, or if there is no such link.
    ///
    /// # Errors
    /// Every [`Error`] a request can end in.
    pub async fn neighbour(&self, link: u32, address: IpAddr) -> Result<Option<NeighbourState>> {
        let attempt = || format!("read neighbour {address} of link {link}");
        validate_index(link, attempt)?;
        let request = Request::get(RouteNetlinkMessage::GetNeighbour(message(link, address)));
        match self.request(request, state, attempt).await {
            Ok(states) => Ok(states.into_iter().next()),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Has the kernel ask a neighbour now, also if it was heard of a moment ago: by unicast if its hardware address is
    /// known, else by broadcast or multicast. [`Netlink::neighbour`] tells the outcome, after about three seconds at most
    /// (three questions, a second apart, unless the administrator states otherwise). An entry that an administrator stated
    /// stays as it is.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if there is no such link; every other [`Error`] of a request.
    pub async fn probe_neighbour(&self, link: u32, address: IpAddr) -> Result<()> {
        let attempt = || format!("probe neighbour {address} of link {link}");
        let known = self.neighbour(link, address).await?;
        let mut wire = message(link, address);
        let flags = match known {
            Some(NeighbourState::Stated | NeighbourState::Asked) => return Ok(()),
            // The kernel asks again at once, and forgets nothing meanwhile (`__neigh_update` in net/core/neighbour.c).
            Some(NeighbourState::Reachable | NeighbourState::Stale) => {
                wire.header.state = WireState::Probe;
                NLM_F_REPLACE
            }
            Some(NeighbourState::Silent) | None => {
                wire.header.flags = NeighbourFlags::Use;
                NLM_F_CREATE
            }
        };
        match self.change(RouteNetlinkMessage::NewNeighbour(wire), flags, attempt).await {
            // It was forgotten, or has ceased to be valid, since it was looked at. The next call asks anew.
            Err(Error::Refused { errno, .. })
                if flags == NLM_F_REPLACE
                    && (errno == Errno::ENOENT as i32 || errno == Errno::EINVAL as i32) =>
            {
                Ok(())
            }
            other => other,
        }
    }
}

fn message(link: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.ifindex = link;
    message.attributes.push(NeighbourAttribute::Destination(address.into()));
    message
}

fn state(kind: u16, payload: &[u8]) -> std::result::Result<Option<NeighbourState>, DecodeError> {
    if kind != libc::RTM_NEWNEIGH {
        return Ok(None);
    }
    Ok(Some(NeighbourHeader::parse(payload)?.state.into()))
}
