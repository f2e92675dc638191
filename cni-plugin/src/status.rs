//! STATUS: would an ADD with this configuration succeed now?
//!
//! Runtimes ask every few seconds, so nothing is touched, and nothing waited for but a delegated plugin and the agent.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};
use octavia_bridge_ipam::allocate::{Exhausted, Usage};
use octavia_bridge_ipam::conf::places::run_dir;
use octavia_bridge_ipam::range::Range;
use octavia_bridge_ipam::request::Holder;
use octavia_bridge_netlink::Netlink;

use crate::attachment::{Addressing, Attachment, PoolAddressing};
use crate::bridge;
use crate::config::Document;
use crate::delegate::Delegate;
use crate::policy;
use crate::protocol::reply::Reply;
use crate::protocol::{Code, Environment, Error, Verb};
use crate::record::Records;
use crate::store::Store;
use crate::sysctl;

/// How long STATUS looks for an attachment that is gone, in a full range.
const SEARCH: Duration = Duration::from_secs(1);

pub(crate) async fn status(environment: &Environment, document: &Document) -> Result<Reply, Error> {
    let attachment = Attachment::new(environment, document)?;
    let host = Netlink::open().await.map_err(|cause| Error::kernel("open netlink on the node", &cause))?;
    let unavailable = |error| Error { code: Code::NotAvailable, ..error };
    sysctl::require_kernel_for(&attachment.addressing.known_addresses()).map_err(unavailable)?;
    policy::check(&host, &attachment).await.map_err(unavailable)?;
    if let Some(bridge) = bridge::observe(&host, &attachment).await.map_err(unavailable)? {
        bridge::require_room(&host, &bridge).await.map_err(unavailable)?;
    }
    let pool = match &attachment.addressing {
        Addressing::Pool(pool) => Some(&pool.store),
        Addressing::None | Addressing::Delegated(_) => None,
    };
    writable(&attachment.data_dir, pool)?;
    match &attachment.addressing {
        Addressing::None => Ok(()),
        Addressing::Pool(pool) => pools(pool, &attachment.data_dir),
        Addressing::Delegated(program) => {
            Delegate::find(program, &environment.path, &document.raw)?.call(Verb::Status)
        }
    }?;
    Ok(Reply::Nothing)
}

/// The built-in pools' part: readable, and not full of attachments that live.
pub(crate) fn pools(pool: &PoolAddressing, data_dir: &Path) -> Result<(), Error> {
    let usage = pool.store.usage(&pool.ipam).map_err(|error| Error { code: Code::NotAvailable, ..error })?;
    for (full, range) in usage.into_iter().zip(&pool.ipam.ranges).filter(|(usage, _)| usage.free == 0) {
        if !(pool.store.is_file() && has_gone(&full, range, &pool.ipam.reserved(), data_dir)) {
            return Err(unavailable(Exhausted(full).to_string()));
        }
    }
    Ok(())
}

/// Whether ADD would take back an address of the range: all who hold it, in overlapping pools as well, are gone. Looked for no
/// longer than [`SEARCH`].
fn has_gone(full: &Usage, range: &Range, reserved: &[IpAddr], data_dir: &Path) -> bool {
    let records = Records::new(data_dir);
    let deadline = Instant::now() + SEARCH;
    let is_gone = |holder: &Holder| !holder.ifname.is_empty() && records.is_gone(&holder.id, &holder.ifname);
    for holders in full.holders.chunk_by(|one, next| one.address == next.address) {
        if Instant::now() >= deadline {
            return false;
        }
        let address = holders[0].address;
        if range.offers(address) && !reserved.contains(&address) && holders.iter().all(is_gone) {
            return true;
        }
    }
    false
}

/// Whether the plugin can write where it has to: its files in the run directory, and what it owes to the cluster in `dataDir`.
pub(crate) fn writable(data_dir: &Path, store: Option<&Store>) -> Result<(), Error> {
    can_write("run directory", &run_dir(data_dir))?;
    match store {
        Some(store) if !store.is_file() => can_write("dataDir", data_dir),
        _ => Ok(()),
    }
}

/// Whether files can be made under `directory`, or it can be made itself: permission, a mount that allows writing, and
/// room. Asked, not tried: a runtime polls this verb.
fn can_write(what: &str, directory: &Path) -> Result<(), Error> {
    let existing = directory.ancestors().find(|path| path.exists()).unwrap_or(directory);
    let cannot = |why: &str| {
        unavailable(format!("{what} {}: cannot write in {}: {why}", directory.display(), existing.display()))
    };
    if !existing.is_dir() {
        return Err(cannot("it is not a directory"));
    }
    access(existing, AccessFlags::W_OK | AccessFlags::X_OK).map_err(|errno| cannot(errno.desc()))?;
    let disk = statvfs(existing).map_err(|errno| cannot(errno.desc()))?;
    // Some file systems have no inode count: then there is no bound to reach.
    if disk.blocks_available() == 0 || (disk.files() > 0 && disk.files_available() == 0) {
        return Err(cannot("the disk is full"));
    }
    Ok(())
}

fn unavailable(why: String) -> Error {
    Error::new(Code::NotAvailable, why)
}
