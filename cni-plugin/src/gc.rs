//! GC: ends the attachments of this network that the runtime does not know any more.

use octavia_bridge_netlink::Netlink;

use crate::config::{Document, Essentials, IpamKind};
use crate::delegate::Delegate;
use crate::protocol::reply::Reply;
use crate::protocol::{Environment, Error, Verb};
use crate::record::Records;
use crate::teardown::{Teardown, all};

/// Goes on after a failure and reports all of them, as the specification demands.
pub(crate) async fn gc(environment: &Environment, document: &Document) -> Result<Reply, Error> {
    let essentials = Essentials::read(document)?;
    let valid = document.valid_attachments()?;
    let records = Records::new(&essentials.data_dir);
    let host = Netlink::open().await.map_err(|cause| Error::kernel("open netlink on the node", &cause))?;
    let teardown = Teardown { host: &host, data_dir: &essentials.data_dir, path: &environment.path };
    let mut failures = Vec::new();
    for attachment in records.list()? {
        if valid.contains(&attachment) {
            continue;
        }
        match records.lock_existing(&attachment.0, &attachment.1) {
            Err(error) => failures.push(error),
            Ok(None) => {}
            Ok(Some(slot)) => {
                // Other networks of this node have their own lists.
                if slot.record.as_ref().is_some_and(|record| record.intent.network == essentials.name) {
                    failures.extend(teardown.end(slot).await.err());
                }
            }
        }
    }
    if let IpamKind::Delegated(program) = &essentials.ipam {
        let forwarded = match Delegate::find(program, &environment.path, &document.raw) {
            Ok(delegate) => delegate.call(Verb::Gc).await,
            Err(error) => Err(error),
        };
        failures.extend(forwarded.err());
    }
    match all(failures) {
        None => Ok(Reply::Nothing),
        Some(error) => Err(error),
    }
}
