//! Whether a recorded attachment lives, by the plugin's rule: the pair tells, and not the path of the namespace. A record that
//! cannot be understood, or that a plugin works on, counts as alive.

use std::fs::OpenOptions;
use std::path::Path;

use octavia_bridge_ipam::{host_end, state_file};
use octavia_bridge_netlink::{Link, LinkKind, Namespace, Netlink, Result, ask};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Records of another format say nothing.
const FORMAT: u32 = 1;
/// Longest record that is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// The part of a record's first line that matters here.
#[derive(Deserialize)]
struct Intent {
    version: u32,
    netns: Option<Netns>,
    /// The IPAM-only face makes no links.
    link: Option<IgnoredAny>,
}

/// A namespace, by device and inode since paths are used again.
#[derive(Deserialize)]
struct Netns {
    path: String,
    device: u64,
    inode: u64,
}

/// The part of its second line that matters here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    host_link: u32,
    pod_link: u32,
}

/// Whether the attachment lives whose record is at `path`.
pub(super) fn lives(path: &Path, container_id: &str, ifname: &str) -> bool {
    let Ok(file) = state_file::open(path, OpenOptions::new().read(true)) else { return true };
    if file.try_lock_shared().is_err() {
        return true;
    }
    let Ok(text) = state_file::read_from(&file, LONGEST) else { return true };
    let mut lines = text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    // A torn line was not written: its writer was killed before it did anything.
    let Some(first) = lines.next() else { return false };
    let Ok(Intent { version: FORMAT, netns, link }) = serde_json::from_slice(first) else { return true };
    let outcome = lines.next().and_then(|line| serde_json::from_slice(line).ok());
    match link {
        Some(_) => {
            ask(async |host| pair_is_there(host, netns, outcome, container_id, ifname).await).unwrap_or(true)
        }
        // Other plugins made the links. Nothing is known of them, and nothing at all without a namespace.
        None => netns.is_none_or(|netns| netns.may_exist()),
    }
}

impl Netns {
    /// False only when nothing is at the path, or another namespace: a mount may cover a namespace that lives on.
    fn may_exist(&self) -> bool {
        match Namespace::open(&self.path) {
            Ok(now) => self.is(&now),
            Err(cause) => !cause.is_not_found(),
        }
    }

    fn is(&self, now: &Namespace) -> bool {
        let identity = now.identity();
        (identity.device, identity.inode) == (self.device, self.inode)
    }
}

async fn pair_is_there(
    host: &Netlink,
    netns: Option<Netns>,
    outcome: Option<Outcome>,
    container_id: &str,
    ifname: &str,
) -> Result<bool> {
    let is_ours = |link: &Link| {
        let mac = link.mac.map(|mac| mac.0);
        host_end::is_of(link.alias.as_deref(), mac, container_id, ifname)
    };
    if host.link(host_end::name(container_id, ifname).as_str()).await?.is_some_and(|link| is_ours(&link)) {
        return Ok(true);
    }
    let Some(Outcome { host_link, pod_link }) = outcome else { return Ok(false) };
    // Another program may have renamed it, or moved it to another namespace.
    if host.link(host_link).await?.is_some_and(|link| is_ours(&link)) {
        return Ok(true);
    }
    let pod = netns.and_then(|netns| Namespace::open(&netns.path).ok().filter(|now| netns.is(now)));
    let Some(pod) = pod else { return Ok(false) };
    let link = Netlink::open_in(&pod).await?.link(pod_link).await?;
    Ok(link.is_some_and(|link| link.kind == LinkKind::Veth && link.parent == Some(host_link)))
}
