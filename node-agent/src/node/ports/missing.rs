//! Ports that do not exist any more, as when another program has deleted them, while their pods live.

use std::path::{Path, PathBuf};

use nl::{Link, Netlink};
use octavia_bridge_ipam::host_end;
use octavia_bridge_netlink as nl;

use super::Known;
use crate::attachments::record::{self, Found, RecordedPort};

/// The lost ports, in words: of complete attachments whose pods live, and that are not among the `known`.
///
/// # Errors
/// Those of reading links.
pub(crate) async fn missing(netlink: &Netlink, state_dir: &Path, known: &Known) -> nl::Result<Vec<String>> {
    let mut suspects = record::all(state_dir);
    suspects.retain(|suspect| lost(suspect, known).is_some());
    // A pod may have been attached since the ports were read, and a DEL removes the link before the record.
    let links = if suspects.is_empty() { Vec::new() } else { netlink.links().await? };
    let mut missing = Vec::new();
    for suspect in suspects {
        let (_, container_id, ifname) = &suspect;
        let Some(recorded) = lost(&suspect, known) else { continue };
        // One that another program has renamed is not lost.
        let owner = Some((container_id.as_str(), ifname.as_str()));
        let named = |link: &Link| link.alias.as_deref().and_then(host_end::owner) == owner;
        if !links.iter().any(|link| link.index == recorded.port || named(link)) {
            let (name, bridge) = (host_end::name(container_id, ifname), recorded.bridge);
            missing.push(format!("{name} ({ifname} of {container_id}) in {bridge} does not exist"));
        }
    }
    Ok(missing)
}

/// What the record says, if it is complete, its pod lives, and its port is not `known`.
fn lost((path, container_id, ifname): &(PathBuf, String, String), known: &Known) -> Option<RecordedPort> {
    match record::read_port(path, container_id, ifname) {
        Ok(Found::Complete(recorded, _)) if recorded.has_pod() && !known.contains_key(&recorded.port) => {
            Some(recorded)
        }
        _ => None,
    }
}
