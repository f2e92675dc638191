//! The announcements that a namespace receives: gratuitous ARP and unsolicited neighbour advertisements.
//!
//! Uses a packet socket, not tcpdump: as root, tcpdump drops its privileges, which fails if only one user is mapped, as in the
//! sandbox of an ordinary user.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt::ReceiveTimeout,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::Namespace;

/// Every frame that reaches a namespace, on any of its links, from the moment this value exists.
#[derive(Debug)]
pub struct Wire {
    socket: File,
    heard: Vec<Announcement>,
}

/// A frame to all neighbours that says which MAC an address has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// The address it is about.
    pub address: IpAddr,
    /// The announced MAC, lower-case with colons. A frame with another source is not an announcement.
    pub mac: String,
    /// How it was said.
    pub form: Form,
}

/// The ways to announce an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An ARP request of the address for itself, the form that neighbours and OVN's `MAC_Binding` take up.
    ArpRequest,
    /// An unsolicited ARP reply.
    ArpReply,
    /// A neighbour advertisement to all nodes.
    Advertisement {
        /// The override flag: replaces what the neighbour knows.
        overriding: bool,
    },
}

impl Wire {
    /// Starts to listen.
    pub fn listen(namespace: &Namespace) -> Self {
        let open =
            || socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll);
        let socket = namespace.run(open).expect("open a packet socket");
        setsockopt(&socket, ReceiveTimeout, &TimeVal::milliseconds(20)).expect("set a timeout");
        Self { socket: socket.into(), heard: Vec::new() }
    }

    /// The first announcement of an address, already received or within `patience`.
    pub fn announcement_of(&mut self, address: IpAddr, patience: Duration) -> Option<Announcement> {
        let deadline = Instant::now() + patience;
        let mut frame = [0; 2048];
        loop {
            if let Some(found) = self.heard.iter().find(|heard| heard.address == address) {
                return Some(found.clone());
            }
            if Instant::now() >= deadline {
                return None;
            }
            match self.socket.read(&mut frame) {
                Ok(length) => self.heard.extend(Announcement::read(&frame[..length])),
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(e) => panic!("read from a packet socket: {e}"),
            }
        }
    }

    /// As [`announcement_of`](Self::announcement_of); fails the test when there is none.
    #[track_caller]
    pub fn expect_announcement_of(&mut self, address: IpAddr, patience: Duration) -> Announcement {
        let found = self.announcement_of(address, patience);
        found.unwrap_or_else(|| {
            panic!("{address} was not announced within {patience:?}, only {:#?}", self.heard)
        })
    }
}

impl Announcement {
    /// Reads an Ethernet frame; `None` for every other frame, and for one whose source is not the MAC it claims.
    fn read(frame: &[u8]) -> Option<Self> {
        let source = frame.get(6..12)?;
        let (address, mac, form) = match frame.get(12..14)? {
            [0x08, 0x06] => Self::read_arp(frame.get(14..42)?)?,
            [0x86, 0xdd] => Self::read_advertisement(frame.get(14..)?)?,
            _ => return None,
        };
        (mac == source).then(|| Self { address, mac: text(mac), form })
    }

    /// RFC 826: operation, sender's hardware and protocol address, target's hardware and protocol address.
    fn read_arp(packet: &[u8]) -> Option<(IpAddr, &[u8], Form)> {
        let form = match packet[6..8] {
            [0, 1] => Form::ArpRequest,
            [0, 2] => Form::ArpReply,
            _ => return None,
        };
        let (sender, target) = (&packet[14..18], &packet[24..28]);
        let address: [u8; 4] = sender.try_into().ok()?;
        (sender == target).then(|| (Ipv4Addr::from(address).into(), &packet[8..14], form))
    }

    /// RFC 4861, section 4.4: an advertisement to all nodes (`ff02::1`) without the solicited flag, with the target's
    /// link-layer address as its first option.
    fn read_advertisement(packet: &[u8]) -> Option<(IpAddr, &[u8], Form)> {
        const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let to: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
        let message = packet.get(40..72)?;
        let target: [u8; 16] = message[8..24].try_into().ok()?;
        let flags = message[4];
        let unsolicited = packet[6] == 58 && message[0] == 136 && flags & 0x40 == 0;
        let named = message[24..26] == [2, 1];
        (unsolicited && named && Ipv6Addr::from(to) == ALL_NODES).then(|| {
            let form = Form::Advertisement { overriding: flags & 0x20 != 0 };
            (Ipv6Addr::from(target).into(), &message[26..32], form)
        })
    }
}

fn text(mac: &[u8]) -> String {
    let bytes: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}
