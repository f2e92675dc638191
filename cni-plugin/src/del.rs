//! DEL: removes what the record says is this attachment's, and succeeds when there is nothing left to remove.
//!
//! It needs the container id and the interface name, and of the configuration no more than `name` and `dataDir`: the
//! namespace may be gone, its path may belong to a newer pod, and the configuration may be stripped.

use octavia_bridge_netlink::{Namespace, Netlink};

use crate::config::{Document, Essentials, IpamKind};
use crate::protocol::reply::Reply;
use crate::protocol::{Code, Environment, Error};
use crate::record::Records;
use crate::store;
use crate::takeover::try_to_take_over;
use crate::teardown::Teardown;

pub(crate) async fn del(environment: &Environment, document: &Document) -> Result<Reply, Error> {
    let essentials = Essentials::read_to_release(document)?;
    essentials.warn_of_refusal();
    let (id, ifname) = (environment.container_id.as_str(), environment.ifname.as_str());
    let host = Netlink::open().await.map_err(|cause| Error::kernel("open netlink on the node", &cause))?;
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
        warn_of_namesake(environment, &records);
    }
    let ended = teardown.end_unrecorded(id, ifname, &essentials, Some(&document.raw)).await;
    slot.remove()?;
    ended.map(|()| Reply::Nothing)
}

/// Says what stays where another container id has this interface in this very namespace. A controller that plugs interfaces into
/// running pods may know another id than the runtime; but a DEL may as well follow an ADD that failed because the interface was
/// there, and that one must not end what it found.
fn warn_of_namesake(environment: &Environment, records: &Records) {
    let (id, ifname) = (environment.container_id.as_str(), environment.ifname.as_str());
    let netns = environment.netns.as_deref().and_then(|path| Namespace::open(path).ok());
    let (Some(netns), Ok(all)) = (netns, records.list()) else { return };
    for (other, _) in all.iter().filter(|(other, name)| name == ifname && other != id) {
        if records.peek(other, ifname).is_some_and(|record| record.intent.is_in(&netns)) {
            tracing::warn!(
                "{ifname} in {} stays: it is container {other}'s, and nothing of container {id} is here; DEL it with \
                 CNI_CONTAINERID={other}",
                netns.path().display()
            );
        }
    }
}
