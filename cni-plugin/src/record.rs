//! The record of an attachment: what DEL needs to know when nobody tells it.
//!
//! For the configurations in the field (`cniVersion` 0.3.1) DEL gets no `prevResult`, its configuration may be
//! stripped, and the namespace may be gone; so ADD writes down what it is about to do before it does it.
//!
//! This module is what a record says; [`slot`] is where it is kept.

mod slot;

use std::path::{Path, PathBuf};

use octavia_bridge_netlink::{Identity, Namespace, VlanRange, validate_link_name};
use serde::{Deserialize, Serialize};

use crate::config::IpamKind;
use crate::protocol::environment::is_identifier;
use crate::protocol::result::Route;

pub(crate) use slot::{Kept, LOCK_WAIT, Records, Slot};

/// Format of records. One of another format is not understood, and so proves nothing.
pub(crate) const FORMAT: u32 = 1;

/// First line: everything that may exist from now on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Intent {
    /// [`FORMAT`].
    pub(crate) version: u32,
    pub(crate) network: String,
    pub(crate) container_id: String,
    pub(crate) ifname: String,
    /// The pod's namespace; the IPAM-only face may be called without one.
    pub(crate) netns: Option<Netns>,
    /// `K8S_POD_UID`, if the runtime said it. Records of earlier releases do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pod_uid: Option<String>,
    /// The IPAM-only face makes no links.
    pub(crate) link: Option<LinkIntent>,
    pub(crate) addressing: AddressingIntent,
}

impl Intent {
    /// Whether `netns` is the namespace that was meant.
    pub(crate) fn is_in(&self, netns: &Namespace) -> bool {
        self.netns.as_ref().is_some_and(|meant| meant.is(netns))
    }
}

impl Intent {
    /// Whether a configuration could have led to it. A record is believed no further than a network definition: it chooses no
    /// program by its path, and names no link that could not be one.
    fn is_possible(&self) -> bool {
        let link_fits = self.link.as_ref().is_none_or(|link| validate_link_name(&link.bridge).is_ok());
        let netns_fits = self.netns.as_ref().is_none_or(|netns| netns.path.starts_with('/'));
        let addressing_fits = match &self.addressing {
            AddressingIntent::None | AddressingIntent::Pool => true,
            AddressingIntent::Cluster { socket } => socket.is_absolute(),
            AddressingIntent::Delegated { program, .. } => {
                matches!(IpamKind::of(program), Ok(IpamKind::Delegated(_)))
            }
        };
        is_identifier(&self.network) && link_fits && netns_fits && addressing_fits
    }
}

/// A namespace as the runtime gave it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Netns {
    pub(crate) path: String,
    /// Device and inode of the namespace behind the path: paths are used again.
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl Netns {
    pub(crate) fn of(path: &str, netns: &Namespace) -> Self {
        let identity = netns.identity();
        Self { path: path.to_owned(), device: identity.device, inode: identity.inode }
    }

    fn identity(&self) -> Identity {
        Identity { device: self.device, inode: self.inode }
    }

    /// Whether `netns` is this one, not only one at the same path.
    pub(crate) fn is(&self, netns: &Namespace) -> bool {
        self.identity() == netns.identity()
    }

    /// Whether it may still exist, where nothing but its path tells.
    pub(crate) fn may_exist(&self) -> bool {
        self.identity().may_exist_at(Path::new(&self.path))
    }

    /// The same where not even a link of ours tells.
    pub(crate) fn may_exist_unseen(&self) -> bool {
        self.identity().may_exist_unseen_at(Path::new(&self.path))
    }

    /// The namespace, if it still exists where it was.
    pub(crate) fn open(&self) -> Option<Namespace> {
        Namespace::open(&self.path).ok().filter(|netns| self.is(netns))
    }
}

/// The links about to be made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LinkIntent {
    pub(crate) bridge: String,
    pub(crate) bridge_before: BridgeBefore,
    /// The MAC a bridge will have that this ADD makes, so that no other bridge is taken for it.
    pub(crate) bridge_mac: String,
    /// IPv6 was switched off on the pod's loopback, and this ADD switches it on.
    pub(crate) loopback_ipv6_off: bool,
}

/// The bridge as this ADD found it, so that a failed one can leave it so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum BridgeBefore {
    Absent,
    /// With the indexes of the ports it had.
    Down(Vec<u32>),
    Up,
}

/// Who gave the addresses, and so who takes them back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum AddressingIntent {
    None,
    /// The pools of the `file` store under the same data directory.
    Pool,
    /// The cluster's pools, through the agent that listens here.
    Cluster {
        socket: PathBuf,
    },
    /// A program in `CNI_PATH`; it gets its configuration again, since DEL's own may be stripped.
    Delegated {
        program: String,
        config: String,
    },
}

/// Second line: the attachment is complete.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Outcome {
    pub(crate) addresses: Vec<ipnet::IpNet>,
    /// The routes as installed, gateways filled in.
    pub(crate) routes: Vec<Route>,
    /// Indexes of the host's and of the pod's end, each in its namespace. They outlast a renaming.
    pub(crate) host_link: u32,
    pub(crate) pod_link: u32,
    /// MTUs of the host's and of the pod's end, in bytes.
    pub(crate) host_mtu: u32,
    pub(crate) mtu: u32,
    /// `disableContainerInterface`: the pod's end was left down on purpose.
    pub(crate) left_down: bool,
    /// The VLANs of the bridge port, if the configuration asked for any. Records of earlier versions have no word of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) port_vlans: Vec<RecordedVlans>,
}

/// A range of VLANs that a bridge port was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RecordedVlans {
    first: u16,
    last: u16,
    pvid: bool,
    untagged: bool,
}

impl From<VlanRange> for RecordedVlans {
    fn from(VlanRange { first, last, pvid, untagged }: VlanRange) -> Self {
        Self { first, last, pvid, untagged }
    }
}

impl From<RecordedVlans> for VlanRange {
    fn from(RecordedVlans { first, last, pvid, untagged }: RecordedVlans) -> Self {
        Self { first, last, pvid, untagged }
    }
}

/// What a record's file says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    pub(crate) intent: Intent,
    /// `None`: the ADD never came to its end.
    pub(crate) outcome: Option<Outcome>,
}

/// Reads a record's file. `None` for one that is empty, torn or of another format: its writer was killed before its
/// first side effect, or it is not ours to understand.
pub(crate) fn parse(text: &[u8]) -> Option<Record> {
    let mut lines = text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    let intent: Intent = serde_json::from_slice(lines.next()?).ok()?;
    let outcome = match lines.next() {
        None => None,
        Some(line) => Some(serde_json::from_slice(line).ok()?),
    };
    (intent.version == FORMAT && intent.is_possible()).then_some(Record { intent, outcome })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intent() -> Intent {
        Intent {
            version: FORMAT,
            network: "octavia".into(),
            container_id: "cid1".into(),
            ifname: "net1".into(),
            netns: None,
            pod_uid: None,
            link: None,
            addressing: AddressingIntent::Pool,
        }
    }

    #[test]
    fn a_torn_outcome_is_an_unfinished_attachment_and_a_torn_intent_is_none() {
        let mut text = serde_json::to_vec(&intent()).unwrap();
        assert_eq!(parse(&text), None, "a line without its end");
        text.push(b'\n');
        assert_eq!(parse(&text), Some(Record { intent: intent(), outcome: None }));
        text.extend(serde_json::to_vec(&Outcome::default()).unwrap());
        assert_eq!(parse(&text).unwrap().outcome, None);
        text.push(b'\n');
        assert_eq!(parse(&text).unwrap().outcome, Some(Outcome::default()));
    }

    #[test]
    fn vlans_are_remembered_and_may_be_absent() {
        let given = VlanRange { first: 200, last: 203, pvid: false, untagged: true };
        let outcome = Outcome { port_vlans: vec![given.into()], ..Outcome::default() };
        let text = serde_json::to_string(&outcome).unwrap();
        let read: Outcome = serde_json::from_str(&text).unwrap();
        assert_eq!(VlanRange::from(read.port_vlans[0]), given);
        let without = serde_json::to_string(&Outcome::default()).unwrap();
        assert!(!without.contains("portVlans"), "{without}");
    }

    #[test]
    fn a_record_says_who_keeps_the_addresses_and_older_ones_still_do() {
        let line = |addressing: &str| {
            format!(
                "{{\"version\":1,\"network\":\"octavia\",\"containerId\":\"cid1\",\"ifname\":\"net1\",\"netns\":null,\
                 \"link\":null,\"addressing\":{addressing}}}\n"
            )
        };
        let socket = PathBuf::from("/run/octavia-bridge/agent.sock");
        for (text, addressing) in [
            (r#""pool""#, AddressingIntent::Pool),
            (r#""none""#, AddressingIntent::None),
            (
                r#"{"cluster":{"socket":"/run/octavia-bridge/agent.sock"}}"#,
                AddressingIntent::Cluster { socket },
            ),
        ] {
            let written = Intent { addressing, ..intent() };
            let mut again = serde_json::to_vec(&written).unwrap();
            again.push(b'\n');
            assert_eq!(String::from_utf8(again).unwrap(), line(text));
            assert_eq!(parse(line(text).as_bytes()).unwrap().intent, written);
        }
    }

    #[test]
    fn a_record_names_nothing_that_a_configuration_could_not() {
        let delegated = |program: &str| AddressingIntent::delegated(program, b"{}");
        let line = |intent: &Intent| [&serde_json::to_vec(intent).unwrap()[..], b"\n"].concat();
        let good = Intent { addressing: delegated("host-local"), ..intent() };
        assert!(parse(&line(&good)).is_some());
        for program in ["/tmp/evil", "../evil", "a/b", "", ".", "..", "whereabouts"] {
            let forged = Intent { addressing: delegated(program), ..intent() };
            assert_eq!(parse(&line(&forged)), None, "{program:?}");
        }
        let socket = AddressingIntent::Cluster { socket: "agent.sock".into() };
        assert_eq!(parse(&line(&Intent { addressing: socket, ..intent() })), None);
        assert_eq!(parse(&line(&Intent { network: "a/b".into(), ..intent() })), None);
        let netns = Netns { path: "relative".into(), device: 1, inode: 1 };
        assert_eq!(parse(&line(&Intent { netns: Some(netns), ..intent() })), None);
    }

    #[test]
    fn what_another_version_wrote_is_not_guessed_at() {
        let later = Intent { version: FORMAT + 1, ..intent() };
        let mut text = serde_json::to_vec(&later).unwrap();
        text.push(b'\n');
        assert_eq!(parse(&text), None);
        assert_eq!(parse(b"{}\n"), None);
        let strange = [&serde_json::to_vec(&intent()).unwrap()[..], b"\nnonsense\n"].concat();
        assert_eq!(parse(&strange), None);
        assert_eq!(parse(b""), None);
    }
}
