//! DEL: removes what the record says is this attachment's, and succeeds when there is nothing left to remove.
//!
//! It needs the container id and the interface name, and of the configuration no more than `name` and `dataDir`: the
//! namespace may be gone, its path may belong to a newer pod, and the configuration may be stripped.

use std::fmt::{self, Display};

use octavia_bridge_netlink::{Namespace, Netlink};

use crate::config::{Document, Essentials, IpamKind};
use crate::identity;
use crate::protocol::args::Args;
use crate::protocol::reply::Reply;
use crate::protocol::result::Interface;
use crate::protocol::{CniResult, Code, Environment, Error};
use crate::record::Records;
use crate::store;
use crate::takeover::try_to_take_over;
use crate::teardown::Teardown;

pub(crate) async fn del(environment: &Environment, document: &Document) -> Result<Reply, Error> {
    let essentials = Essentials::read_to_release(document)?;
    essentials.warn_of_refusal();
    let (id, ifname) = (environment.container_id.as_str(), environment.ifname.as_str());
    let host = Netlink::open().await.map_err(|cause| Error::kernel("open netlink on the node", &cause))?;
    let host = host.without_link_options();
    try_to_take_over(&essentials.data_dir);
    let teardown = Teardown::new(&host, &essentials.data_dir, &environment.path);
    let records = Records::new(&essentials.data_dir);
    let has_link = teardown.has_link(id, ifname).await?;
    let delegated = matches!(essentials.ipam, IpamKind::Delegated(_));
    if !records.are_kept() && !store::is_used(&essentials) && !has_link && !delegated {
        // Nothing was ever attached here: not even a lock is left behind.
        return Ok(Reply::Nothing);
    }
    // Locked even without a record, so that an ADD that is just beginning is not undone half-way.
    let slot = match records.lock(id, ifname) {
        Ok(slot) => slot,
        Err(error) => {
            if error.code == Code::Io {
                // A disk that cannot be written holds no lock; the link can go all the same.
                teardown.end_unrecorded(id, ifname, &essentials, Some(&document.raw)).await?;
            }
            return Err(error);
        }
    };
    if slot.record.is_some() {
        teardown.end(slot).await?;
        return Ok(Reply::Nothing);
    }
    if slot.is_strange {
        tracing::warn!(
            "the record {} is not one that this plugin could have written; DEL goes by the name of the link",
            slot.path().display()
        );
    } else if has_link {
        tracing::warn!(
            "{} has no record of {id} {ifname}; was it attached with another dataDir?",
            essentials.data_dir.display()
        );
    }
    if !has_link {
        for namesake in namesakes(environment, &records) {
            if namesake.is_meant(environment, document) {
                tracing::warn!(
                    "{namesake} is ended, which the runtime attached as container {}",
                    namesake.container_id
                );
                teardown.end(records.lock(&namesake.container_id, ifname)?).await?;
            } else {
                tracing::warn!(
                    "{namesake} stays: it is container {0}'s, and nothing of container {id} is here; DEL it with \
                     CNI_CONTAINERID={0}",
                    namesake.container_id
                );
            }
        }
    }
    let ended = teardown.end_unrecorded(id, ifname, &essentials, Some(&document.raw)).await;
    slot.remove()?;
    ended.map(|()| Reply::Nothing)
}

/// An attachment of another container id that has this interface in this very namespace. A controller that plugs interfaces into
/// running pods may know another id than the runtime.
struct Namesake {
    container_id: String,
    ifname: String,
    netns: String,
    pod_uid: Option<String>,
}

impl Namesake {
    /// Whether this DEL is of that attachment: it is of the same pod, and its previous result names that very link. Without such a
    /// result it may follow an ADD that failed because the interface was there, and that one must not end what it found.
    fn is_meant(&self, environment: &Environment, document: &Document) -> bool {
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

fn namesakes(environment: &Environment, records: &Records) -> Vec<Namesake> {
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
