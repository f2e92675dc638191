//! STATUS: would an ADD with this configuration succeed now?
//!
//! Runtimes ask every few seconds, so nothing is touched and nothing is waited for.

use std::path::Path;

use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};
use octavia_bridge_ipam::allocate::Exhausted;
use octavia_bridge_ipam::request::Owner;
use octavia_bridge_netlink::{LinkKind, Netlink};

use crate::addressing;
use crate::attachment::{Attachment, BridgeMode, PoolAddressing};
use crate::config::{Document, Essentials, IpamKind, NetConf};
use crate::delegate::Delegate;
use crate::protocol::reply::Reply;
use crate::protocol::{Code, Environment, Error, Verb};

pub(crate) async fn status(environment: &Environment, document: &Document) -> Result<Reply, Error> {
    let attachment = Attachment::new(environment, document)?;
    let name = attachment.bridge.as_str();
    let host = Netlink::open().await.map_err(|cause| Error::kernel("open netlink on the node", &cause))?;
    let bridge = host.link(name).await.map_err(|cause| Error::kernel(name, &cause))?;
    match bridge {
        Some(link) if !matches!(link.kind, LinkKind::Bridge(_)) => {
            return Err(unavailable(format!("{name} exists and is no bridge")));
        }
        Some(link) if attachment.mode == BridgeMode::Unmanaged && !link.up => {
            return Err(unavailable(format!("the bridge {name} is down, and bridgeMode is \"unmanaged\"")));
        }
        None if attachment.mode == BridgeMode::Unmanaged => {
            return Err(unavailable(format!(
                "the bridge {name} does not exist, and bridgeMode is \"unmanaged\""
            )));
        }
        _ => {}
    }
    if let IpamKind::Delegated(program) = Essentials::read(document)?.ipam {
        Delegate::find(&program, &environment.path, &document.raw)?.call(Verb::Status).await?;
    }
    pools(document)?;
    Ok(Reply::Nothing)
}

/// The built-in pools' part: readable, writable, and not full.
pub(crate) fn pools(document: &Document) -> Result<(), Error> {
    let essentials = Essentials::read(document)?;
    let conf = NetConf::read(document)?;
    let (IpamKind::BuiltIn, Some(ipam)) = (essentials.ipam, conf.ipam) else { return Ok(()) };
    // Nobody's claim: only the ranges matter.
    let nobody = Owner { container_id: "status".into(), ifname: "status".into(), pod: None };
    let pool = PoolAddressing::new(ipam, conf.strict, nobody, &[])?;
    writable(&essentials.data_dir)?;
    let usage = addressing::store(&essentials.data_dir)
        .usage(&pool.ipam)
        .map_err(|cause| unavailable(Error::from(cause).msg))?;
    match usage.into_iter().find(|usage| usage.free == 0) {
        None => Ok(()),
        Some(full) => Err(unavailable(Exhausted(full).to_string())),
    }
}

/// Whether files can be made under `directory`, or it can be made itself: permission, a mount that allows writing, and
/// room. Asked, not tried: a runtime polls this verb.
fn writable(directory: &Path) -> Result<(), Error> {
    let existing = directory.ancestors().find(|path| path.exists()).unwrap_or(directory);
    let cannot = |why: &str| {
        unavailable(format!("dataDir {}: cannot write in {}: {why}", directory.display(), existing.display()))
    };
    if !existing.is_dir() {
        return Err(cannot("it is no directory"));
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
