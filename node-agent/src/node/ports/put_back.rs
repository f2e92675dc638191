//! Putting a pod's port back.

use std::io;
use std::path::PathBuf;

use nl::{Link, LinkChange, Netlink, PortFlags};
use octavia_bridge_netlink as nl;

use super::{Fault, Port, fault, is_bridge};
use crate::attachments::record::{self, Found};

/// Why a port is still out of its bridge.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("put {port} back into {bridge}")]
    Kernel { port: String, bridge: String, source: nl::Error },
    #[error("read {}", .0.display())]
    Record(PathBuf, #[source] io::Error),
}

/// Puts the port back as the plugin made it: down, in the bridge, its flags, its VLANs, up. From its first step to its
/// last it is down, so that no frame passes in a wrong VLAN, and so that a port that was left half way, because this
/// process was killed, is seen to be.
///
/// Returns whether there was something to do: by now the port may be gone, in a bridge, or in a plugin's hands.
///
/// # Errors
/// What the kernel refused, and a record that cannot be read.
pub(crate) async fn put_back(netlink: &Netlink, port: &Port) -> Result<bool, Error> {
    let failed = |source| Error::Kernel { port: port.name.clone(), bridge: port.bridge().to_owned(), source };
    let record = record::read_port(&port.record, &port.container_id, &port.ifname);
    let record = record.map_err(|cause| Error::Record(port.record.clone(), cause))?;
    // DEL waits for this lock, for less than a millisecond.
    let Found::Complete(recorded, _lock) = record else { return Ok(false) };
    // Looked at again, since the world has changed since.
    let link = netlink.link(port.index).await.map_err(failed)?.filter(|link| port.is(link));
    let bridge = netlink.link(port.bridge()).await.map_err(failed)?.filter(|link| is_bridge(link, port));
    let (Some(link), Some(bridge)) = (link, bridge) else { return Ok(false) };
    match fault(&link, Some(&bridge), &recorded.vlans, None) {
        Some(fault @ (Fault::Released | Fault::Down)) if recorded == port.recorded => {
            let done = steps(netlink, port, &link, &bridge, fault == Fault::Released).await;
            match done {
                // It went with its pod.
                Err(error) if error.is_not_found() => Ok(false),
                done => done.map(|()| true).map_err(failed),
            }
        }
        _ => Ok(false),
    }
}

async fn steps(netlink: &Netlink, port: &Port, link: &Link, bridge: &Link, released: bool) -> nl::Result<()> {
    let set = |up| LinkChange { up: Some(up), ..LinkChange::default() };
    if link.up {
        netlink.change_link(link.index, &set(false)).await?;
    }
    if released {
        let into = LinkChange { master: Some(Some(bridge.index)), ..LinkChange::default() };
        netlink.change_link(link.index, &into).await?;
    }
    let flags = PortFlags { bpdu_guard: Some(true), ..PortFlags::default() };
    netlink.change_port(link.index, &flags).await?;
    let vlans = &port.recorded.vlans;
    if !vlans.is_empty() {
        netlink.set_port_vlans(link.index, vlans).await?;
    }
    netlink.change_link(link.index, &set(true)).await
}
