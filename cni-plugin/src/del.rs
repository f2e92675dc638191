//! DEL: removes what the record says is this attachment's, and succeeds when there is nothing left to remove.
//!
//! It needs the container id and the interface name, and of the configuration no more than `dataDir`: the namespace may be
//! gone, its path may belong to a newer pod, and the configuration may be stripped.

use octavia_bridge_netlink::Netlink;

use crate::config::{Document, Essentials, IpamKind};
use crate::namesake;
use crate::protocol::reply::Reply;
use crate::protocol::{Code, Environment, Error};
use crate::record::Records;
use crate::store;
use crate::takeover::try_to_take_over;
use crate::teardown::{Teardown, all};

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
                teardown.end_unrecorded(id, ifname, &essentials, Some(&document.raw), false).await?;
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
    let mut failures = Vec::new();
    if !has_link {
        for namesake in namesake::find(environment, &records) {
            if !slot.was_written && namesake.is_meant(environment, document) {
                tracing::warn!(
                    "{namesake} is ended, which the runtime attached as container {}",
                    namesake.container_id
                );
                let ended = match records.lock(&namesake.container_id, ifname) {
                    Ok(slot) => teardown.end(slot).await,
                    Err(error) => Err(error),
                };
                failures.extend(ended.err());
            } else {
                tracing::warn!(
                    "{namesake} stays: it is container {0}'s, and nothing of container {id} is here; DEL it with \
                     CNI_CONTAINERID={0}",
                    namesake.container_id
                );
            }
        }
    }
    let config = Some(document.raw.as_slice());
    let ended = teardown.end_unrecorded(id, ifname, &essentials, config, slot.is_strange).await;
    failures.extend(ended.err());
    // The trace of a failed ADD is for the repeated DEL as well.
    if failures.is_empty() || !slot.was_written {
        failures.extend(slot.remove().err());
    }
    all(failures).map(|()| Reply::Nothing)
}
