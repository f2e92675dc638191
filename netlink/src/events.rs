//! Events of the kernel about changes in a namespace.

use std::collections::VecDeque;
use std::fmt;

use nix::errno::Errno;
use nix::libc;
use rtnetlink::packet_core::{DecodeError, NLMSG_OVERRUN};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::LinkHeader;
use tokio::runtime::Handle;

use crate::channel::Channel;
use crate::netlink::{connection, worded};
use crate::wire::{Fault, packets};
use crate::{Address, Link, Netlink, Result, Route};

/// The events to subscribe to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventGroups {
    /// Links and bridge ports.
    pub links: bool,
    /// Addresses of both families.
    pub addresses: bool,
    /// Routes of both families.
    pub routes: bool,
    /// Size of the socket's receive buffer in bytes; the system's default (usually 208 KiB) if
    /// `None`. The kernel doubles it for bookkeeping and caps it at `net.core.rmem_max`.
    pub receive_buffer: Option<u32>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A link is new or has changed.
    Link(Link),
    /// A link is gone.
    LinkGone {
        /// Index it had.
        index: u32,
        /// Name it had last.
        name: String,
    },
    /// A bridge changed a port, or the link is no longer a port. These messages contain only a part of a
    /// link: read it again.
    Port {
        /// Index of the link that is or was a port.
        index: u32,
    },
    /// An address is new or has changed.
    Address(Address),
    /// An address is gone.
    AddressGone(Address),
    /// A route is new or changed.
    Route(Route),
    /// A route is gone. The kernel does not report IPv4 routes that it removes with their link or address:
    /// read the routes again after such an event.
    RouteGone(Route),
    /// Events were lost: read everything again.
    Overrun,
}

/// A subscription to changes. It buffers at most the socket's receive buffer and one datagram. If a slow
/// reader loses events, it gets [`Event::Overrun`].
pub struct Events {
    channel: Channel,
    pending: VecDeque<Event>,
    /// An event was lost, and the socket's queue has not been empty since.
    congested: bool,
}

/// Most datagrams to discard after a loss before the caller gets the overrun: more than any usual receive
/// buffer holds.
const DRAIN_LIMIT: usize = 10_000;

impl Netlink {
    /// Subscribes to changes in this socket's namespace. The subscription reports every change after the
    /// return.
    ///
    /// # Errors
    /// [`crate::Error::Connection`], or [`crate::Error::Namespace`] if the namespace can no longer be
    /// entered.
    pub async fn events(&self, groups: EventGroups) -> Result<Events> {
        let mask = groups.mask();
        let size = groups.receive_buffer.map(|size| i32::try_from(size).unwrap_or(i32::MAX));
        let runtime = Handle::current();
        let channel = self
            .namespace()
            .run(|| Channel::for_events(&runtime, mask, size))?
            .map_err(|source| connection(self.namespace(), source))?;
        Ok(Events { channel, pending: VecDeque::new(), congested: false })
    }
}

impl EventGroups {
    /// Links, addresses and routes.
    pub const ALL: Self = Self { links: true, addresses: true, routes: true, receive_buffer: None };

    fn mask(self) -> u32 {
        let groups = [
            (self.links, libc::RTMGRP_LINK),
            (self.addresses, libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR),
            (self.routes, libc::RTMGRP_IPV4_ROUTE | libc::RTMGRP_IPV6_ROUTE),
        ];
        groups.iter().filter(|(wanted, _)| *wanted).fold(0, |mask, (_, group)| mask | group.cast_unsigned())
    }
}

impl Events {
    /// The next change; waits until there is one. To be used with a deadline or in a `select!`:
    /// dropping the future loses no event.
    ///
    /// # Errors
    /// [`crate::Error::Connection`] if the socket fails. An overrun is an event, not an error.
    pub async fn next(&mut self) -> Result<Event> {
        let broken = |source| worded(Fault::Io(source), "listen for changes".into());
        loop {
            if self.congested {
                // After a loss the kernel silently drops events until the queue is empty
                // (NETLINK_S_CONGESTED in net/netlink/af_netlink.c). So the queue must be empty before
                // the caller reads everything again, or a change right after that would be lost. The
                // events discarded here are older than the caller's reading.
                self.congested = !self.channel.drain(DRAIN_LIMIT).map_err(broken)?;
                return Ok(Event::Overrun);
            }
            if let Some(event) = self.pending.pop_front() {
                return Ok(event);
            }
            match self.channel.receive().await {
                Ok(()) => self.read_datagram(),
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    self.congested = true;
                }
                Err(source) => return Err(broken(source)),
            }
        }
    }

    fn read_datagram(&mut self) {
        for packet in packets(self.channel.datagram()) {
            let event = packet.and_then(|packet| Event::decode(packet.message_type(), packet.payload()));
            // An unknown change counts as an overrun. The caller then reads everything, and gets the
            // error of an object that cannot be decoded, if it still exists.
            self.pending.extend(event.unwrap_or(Some(Event::Overrun)));
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("pending", &self.pending).finish_non_exhaustive()
    }
}

impl Event {
    /// Reads one message; `None` for types without a subscription.
    pub(crate) fn decode(kind: u16, payload: &[u8]) -> std::result::Result<Option<Self>, DecodeError> {
        Ok(Some(match kind {
            libc::RTM_NEWLINK | libc::RTM_DELLINK => {
                let header = LinkHeader::parse(payload)?;
                // The bridge reports its ports in messages of the family AF_BRIDGE on the same group.
                // Its RTM_DELLINK means that a port left the bridge, not that the link is gone.
                if header.interface_family == AddressFamily::Bridge {
                    return Ok(Some(Self::Port { index: header.index }));
                }
                let link = Link::decode::<false>(payload)?;
                if kind == libc::RTM_NEWLINK {
                    Self::Link(link)
                } else {
                    Self::LinkGone { index: link.index, name: link.name }
                }
            }
            libc::RTM_NEWADDR => Self::Address(Address::decode(payload)?),
            libc::RTM_DELADDR => Self::AddressGone(Address::decode(payload)?),
            libc::RTM_NEWROUTE => Self::Route(Route::decode(payload)?),
            libc::RTM_DELROUTE => Self::RouteGone(Route::decode(payload)?),
            NLMSG_OVERRUN => Self::Overrun,
            _ => return Ok(None),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct ifinfomsg` without attributes.
    fn link_header(family: u8, index: u32) -> Vec<u8> {
        let mut bytes = vec![0; 16];
        bytes[0] = family;
        bytes[4..8].copy_from_slice(&index.to_ne_bytes());
        bytes
    }

    #[test]
    fn a_port_that_leaves_its_bridge_is_not_a_link_that_is_gone() {
        let bridge = u8::try_from(libc::AF_BRIDGE).unwrap();
        let left = Event::decode(libc::RTM_DELLINK, &link_header(bridge, 7)).unwrap();
        assert_eq!(left, Some(Event::Port { index: 7 }));
        let gone = Event::decode(libc::RTM_DELLINK, &link_header(0, 7)).unwrap();
        assert_eq!(gone, Some(Event::LinkGone { index: 7, name: String::new() }));
    }

    #[test]
    fn a_short_message_is_an_error_and_not_a_panic() {
        for kind in [libc::RTM_NEWLINK, libc::RTM_NEWADDR, libc::RTM_NEWROUTE] {
            for length in 0..8 {
                assert!(Event::decode(kind, &vec![0; length]).is_err(), "{kind} {length}");
            }
        }
    }

    #[test]
    fn groups_are_those_of_rtnetlink() {
        assert_eq!(EventGroups::default().mask(), 0);
        assert_eq!(EventGroups { links: true, ..EventGroups::default() }.mask(), 0x1);
        assert_eq!(EventGroups::ALL.mask(), 0x1 | 0x10 | 0x100 | 0x40 | 0x400);
    }
}
