//! DEL: removes what the record says is this attachment's, and succeeds when there is nothing left to remove.
//!
//! It needs the container id and the interface name, nothing else: the namespace may be gone, its path may belong
//! to a newer pod, and the configuration may be stripped.

use octavia_bridge_netlink::Netlink;

use crate::addressing;
use crate::config::{Document, Essentials};
use crate::protocol::reply::Reply;
use crate::protocol::{Environment, Error};
use crate::record::Records;
use crate::teardown::{Teardown, all};

pub(crate) async fn del(environment: &Environment, document: &Document) -> Result<Reply, Error> {
    let essentials = Essentials::read(document)?;
    let (id, ifname) = (environment.container_id.as_str(), environment.ifname.as_str());
    let host = Netlink::open().await.map_err(|cause| Error::kernel("open netlink on the node", &cause))?;
    let teardown = Teardown { host: &host, data_dir: &essentials.data_dir, path: &environment.path };
    let records = Records::new(&essentials.data_dir);
    if !records.exist() && !teardown.has_link(id, ifname).await? {
        // Nothing was ever attached here: not even a lock is left behind. Addresses may be another matter.
        let intent = addressing::intent_without_record(&essentials.ipam, &document.raw);
        return teardown.release(&intent, id, ifname).await.map(|()| Reply::Nothing);
    }
    // Locked even without a record, so that an ADD that is just beginning is not undone half-way.
    let slot = records.lock(id, ifname)?;
    if slot.record.is_some() {
        teardown.end(slot).await?;
        return Ok(Reply::Nothing);
    }
    // No record, or one torn before anything was done. What can be proved to be ours goes all the same, for the node
    // whose data directory was wiped.
    let intent = addressing::intent_without_record(&essentials.ipam, &document.raw);
    let mut failures = Vec::new();
    failures.extend(teardown.remove_link(id, ifname).await.err());
    failures.extend(teardown.release(&intent, id, ifname).await.err());
    slot.remove()?;
    if let Some(error) = all(failures) {
        return Err(error);
    }
    Ok(Reply::Nothing)
}
