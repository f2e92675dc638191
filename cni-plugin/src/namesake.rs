//! Attachments of another container id in the same namespace and under the same interface name.
//!
//! A controller that plugs interfaces into running pods may know another id than the runtime, and unplug by it
//! (multus-dynamic-networks-controller#209). But a DEL by another id may also follow an ADD that failed, and that one must not end what
//! it did not make. So an ADD that fails, or is killed, leaves a trace, and DEL looks for it.

use std::fmt::{self, Display};

use octavia_bridge_netlink::Namespace;

use crate::config::{Document, Essentials};
use crate::identity;
use crate::protocol::args::Args;
use crate::protocol::result::Interface;
use crate::protocol::{CniResult, Environment};
use crate::record::Records;

/// An attachment of another container id that has this interface in this very namespace.
pub(crate) struct Namesake {
    pub(crate) container_id: String,
    ifname: String,
    netns: String,
    pod_uid: Option<String>,
}

impl Namesake {
    /// Whether this DEL is of that attachment: it is of the same pod, and its previous result names that very link.
    pub(crate) fn is_meant(&self, environment: &Environment, document: &Document) -> bool {
        let args = environment.args().ok().and_then(|args| Args::parse(args, &["GATEWAY"]).ok());
        let uid = args.and_then(|args| args.pod_uid);
        if uid.is_none() || uid != self.pod_uid {
            return false;
        }
        let previous = document.root().ok().and_then(|mut root| root.value("prevResult").cloned());
        let (Some(previous), Ok(version)) = (previous, document.version()) else { return false };
        let Ok(previous) = CniResult::parse(&previous, version) else { return false };
        let host_link = identity::host_link(&self.container_id, &self.ifname);
        let is_ours = |interface: &Interface| {
            interface.name == host_link && interface.sandbox.as_deref().is_none_or(str::is_empty)
        };
        previous.interfaces.iter().any(is_ours)
    }
}

impl Display for Namesake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.ifname, self.netns)
    }
}

/// Leaves a trace of an ADD that failed, or may be killed, if there are namesakes, which its DEL must not end. An ADD that goes on
/// replaces it by its record.
pub(crate) fn leave_trace(environment: &Environment, document: &Document) {
    let Ok(essentials) = Essentials::read_to_release(document) else { return };
    let records = Records::new(&essentials.data_dir);
    if find(environment, &records).is_empty() {
        return;
    }
    // It proves nothing but this, and goes with the DEL, or with a GC.
    let slot = records.lock(&environment.container_id, &environment.ifname);
    if let Err(error) = slot.and_then(|slot| slot.leave_trace()) {
        tracing::warn!("{error}");
    }
}

pub(crate) fn find(environment: &Environment, records: &Records) -> Vec<Namesake> {
    let (id, ifname) = (environment.container_id.as_str(), environment.ifname.as_str());
    let netns = environment.netns.as_deref().and_then(|path| Namespace::open(path).ok());
    let (Some(netns), Ok(all)) = (netns, records.list()) else { return Vec::new() };
    let mut found = Vec::new();
    for (other, _) in all.iter().filter(|(other, name)| name == ifname && other != id) {
        let Some(record) = records.peek(other, ifname).filter(|record| record.intent.is_in(&netns)) else {
            continue;
        };
        found.push(Namesake {
            container_id: other.clone(),
            ifname: ifname.to_owned(),
            netns: netns.path().display().to_string(),
            pod_uid: record.intent.pod_uid,
        });
    }
    found
}
