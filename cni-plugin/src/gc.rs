//! GC: ends the attachments of this network that the runtime does not know any more.

use octavia_bridge_netlink::Netlink;

use crate::config::{Document, Essentials, IpamKind};
use crate::delegate::Delegate;
use crate::protocol::reply::Reply;
use crate::protocol::{Code, Environment, Error, Verb};
use crate::record::Records;
use crate::takeover::try_to_take_over;
use crate::teardown::{Teardown, all};

/// Goes on after a failure and reports all of them, as the specification demands.
pub(crate) async fn gc(environment: &Environment, document: &Document) -> Result<Reply, Error> {
    let essentials = Essentials::read(document)?;
    let valid = document.valid_attachments()?;
    try_to_take_over(&essentials.data_dir);
    let records = Records::new(&essentials.data_dir);
    let host = Netlink::open().await.map_err(|cause| Error::kernel("open netlink on the node", &cause))?;
    let teardown = Teardown::new(&host, &essentials.data_dir, &environment.path);
    let mut failures = Vec::new();
    for attachment in records.list()? {
        let (id, ifname) = (attachment.0.as_str(), attachment.1.as_str());
        // Other networks of this node have their own lists; looked at before anybody waits for their locks.
        let foreign = records.peek(id, ifname).is_some_and(|record| record.intent.network != essentials.name);
        if foreign || valid.contains(&attachment) {
            continue;
        }
        let ended = end(&teardown, &records, id, ifname, &essentials).await;
        failures.extend(ended.err());
    }
    if let IpamKind::Delegated(program) = &essentials.ipam {
        let forwarded = match Delegate::find(program, &environment.path, &document.raw) {
            Ok(delegate) => delegate.call(Verb::Gc),
            Err(error) => Err(error),
        };
        failures.extend(forwarded.err());
    }
    all(failures).map(|()| Reply::Nothing)
}

async fn end(
    teardown: &Teardown<'_>,
    records: &Records,
    id: &str,
    ifname: &str,
    essentials: &Essentials,
) -> Result<(), Error> {
    let Some(slot) = records.lock_existing(id, ifname)? else { return Ok(()) };
    match &slot.record {
        Some(record) if record.intent.network == essentials.name => teardown.end(slot).await,
        Some(_) => Ok(()),
        // Whose network it was is not known, and whether it lives neither; somebody has to look.
        None if slot.is_strange || teardown.has_link(id, ifname).await? => Err(Error::new(
            Code::Io,
            format!("the record {} cannot be read; its attachment was left alone", slot.path().display()),
        )),
        // Torn or empty: its writer was killed before it did anything, or the power went, and all links with it.
        None => {
            teardown.end_unrecorded(id, ifname, essentials, None, false).await?;
            slot.remove()
        }
    }
}
