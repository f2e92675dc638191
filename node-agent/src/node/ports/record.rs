//! The plugin's record of an attachment, as far as its bridge port goes.
//!
//! A file `<container id>@<interface>.jsonl`: its first line says what the plugin was about to do, its second that it was
//! done, and ADD, DEL and CHECK lock it while they work. A file that says anything unexpected proves nothing.

use std::fs::{File, OpenOptions, metadata, read_dir};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use octavia_bridge_ipam::conf::places::run_dirs;
use octavia_bridge_ipam::request::check_container_id;
use octavia_bridge_ipam::state_file;
use octavia_bridge_netlink::{VlanRange, validate_link_name};
use serde::Deserialize;

/// Format that the plugin gives its records.
const FORMAT: u32 = 1;
/// Of a record, in bytes. It repeats a delegated plugin's configuration, of a megabyte at most, as a JSON text.
const LONGEST: u64 = 8 << 20;
/// Where records are, below a directory of the plugin's.
const FOLDER: &str = "attachments";

/// A complete attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recorded {
    /// Its bridge.
    pub(super) bridge: String,
    /// Index of its port.
    pub(super) port: u32,
    /// The port's whole table; empty if the network asked for none.
    pub(super) vlans: Vec<VlanRange>,
    /// The pod's namespace.
    netns: Option<Netns>,
}

/// A namespace, by device and inode since paths are used again.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Netns {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Recorded {
    /// Whether the pod's namespace is known to exist. In a container it may be out of sight.
    pub(super) fn has_pod(&self) -> bool {
        let Some(Netns { path, device, inode }) = &self.netns else { return false };
        metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == (*device, *inode))
    }
}

/// What a record's file says.
#[derive(Debug)]
pub(super) enum Found {
    /// No record, an unfinished one, or one that is not understood.
    Nothing,
    /// A plugin is at work on it.
    Locked,
    /// With the lock, which lasts as long as the file is open.
    Complete(Recorded, File),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Intent {
    version: u32,
    container_id: String,
    ifname: String,
    netns: Option<Netns>,
    link: Option<Link>,
}

#[derive(Deserialize)]
struct Link {
    bridge: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    host_link: u32,
    #[serde(default)]
    port_vlans: Vec<Vlans>,
}

#[derive(Deserialize)]
struct Vlans {
    first: u16,
    last: u16,
    pvid: bool,
    untagged: bool,
}

/// Where the record of an attachment is: among those of networks without a `dataDir` of their own, or with one directly
/// below. `None` for an owner that is none: it was read from a link's alias, which others write as well.
pub(super) fn path(state_dir: &Path, container_id: &str, ifname: &str) -> Option<PathBuf> {
    if check_container_id(container_id).is_err() || validate_link_name(ifname).is_err() {
        return None;
    }
    let name = format!("{container_id}@{ifname}.jsonl");
    for folder in folders(state_dir) {
        let path = folder.join(&name);
        if path.symlink_metadata().is_ok() {
            return Some(path);
        }
    }
    None
}

/// Every record, with its container id and interface.
pub(super) fn all(state_dir: &Path) -> Vec<(PathBuf, String, String)> {
    let mut records = Vec::new();
    for entry in folders(state_dir).iter().flat_map(read_dir).flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_suffix(".jsonl")?.split_once('@'));
        if let Some((container_id, ifname)) = owner {
            records.push((entry.path(), container_id.to_owned(), ifname.to_owned()));
        }
    }
    records
}

/// Where records may be.
fn folders(state_dir: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for directory in run_dirs(state_dir) {
        folders.push(directory.join(FOLDER));
        for entry in read_dir(directory).into_iter().flatten().flatten() {
            folders.push(entry.path().join(FOLDER));
        }
    }
    folders
}

/// Locks and reads a record, without waiting for a plugin that works on it.
///
/// # Errors
/// A file that cannot be read.
pub(super) fn read(path: &Path, container_id: &str, ifname: &str) -> io::Result<Found> {
    let file = state_file::open(path, OpenOptions::new().read(true))?;
    if file.try_lock_shared().is_err() {
        return Ok(Found::Locked);
    }
    let text = state_file::read_from(&file, LONGEST)?;
    Ok(match parse(&text, container_id, ifname) {
        Some(recorded) => Found::Complete(recorded, file),
        None => Found::Nothing,
    })
}

fn parse(text: &[u8], container_id: &str, ifname: &str) -> Option<Recorded> {
    let mut lines = text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    let intent: Intent = serde_json::from_slice(lines.next()?).ok()?;
    let outcome: Outcome = serde_json::from_slice(lines.next()?).ok()?;
    if intent.version != FORMAT || intent.container_id != container_id || intent.ifname != ifname {
        return None;
    }
    let mut vlans = Vec::new();
    for Vlans { first, last, pvid, untagged } in outcome.port_vlans {
        vlans.push(VlanRange { first, last, pvid, untagged });
    }
    Some(Recorded { bridge: intent.link?.bridge, port: outcome.host_link, vlans, netns: intent.netns })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const INTENT: &str = r#"{"version":1,"network":"octavia","containerId":"cid1","ifname":"net1","netns":null,"link":{"bridge":"octbr","bridgeBefore":"up","bridgeMac":"","loopbackIpv6Off":false},"addressing":"pool"}"#;
    const OUTCOME: &str =
        r#"{"addresses":[],"routes":[],"hostLink":7,"podLink":2,"hostMtu":1500,"mtu":1500,"leftDown":false}"#;

    fn of(text: &str) -> Option<Recorded> {
        parse(text.as_bytes(), "cid1", "net1")
    }

    #[test]
    fn only_a_complete_record_of_that_attachment_says_anything() {
        let whole = format!("{INTENT}\n{OUTCOME}\n");
        let recorded = Recorded { bridge: "octbr".into(), port: 7, vlans: Vec::new(), netns: None };
        assert_eq!(of(&whole), Some(recorded));
        for text in [
            String::new(),
            format!("{INTENT}\n"),
            format!("{INTENT}\n{OUTCOME}"),
            format!("{INTENT}\nnonsense\n"),
            whole.replace("\"version\":1", "\"version\":2"),
            whole.replace("cid1", "cid2"),
            whole.replace("net1", "net2"),
            whole.replace(
                r#"{"bridge":"octbr","bridgeBefore":"up","bridgeMac":"","loopbackIpv6Off":false}"#,
                "null",
            ),
        ] {
            assert_eq!(of(&text), None, "{text}");
        }
        let vlans = r#"false,"portVlans":[{"first":200,"last":203,"pvid":false,"untagged":false}]"#;
        let vlans = of(&whole.replace("\"leftDown\":false", &format!("\"leftDown\":{vlans}"))).unwrap().vlans;
        assert_eq!(vlans, [VlanRange { first: 200, last: 203, pvid: false, untagged: false }]);
    }

    #[test]
    fn a_record_is_found_by_its_owner_and_one_that_is_locked_is_left() {
        let state = tempfile::tempdir().unwrap();
        let records = state.path().join("blue/attachments");
        fs::create_dir_all(&records).unwrap();
        let file = records.join("cid1@net1.jsonl");
        fs::write(&file, format!("{INTENT}\n{OUTCOME}\n")).unwrap();
        assert_eq!(path(state.path(), "cid1", "net1"), Some(file.clone()));
        assert_eq!(path(state.path(), "cid1", "net2"), None);
        assert_eq!(path(state.path(), "../blue/attachments/cid1", "net1"), None);
        assert!(matches!(read(&file, "cid1", "net1").unwrap(), Found::Complete(..)));
        let plugin = File::open(&file).unwrap();
        plugin.lock().unwrap();
        assert!(matches!(read(&file, "cid1", "net1").unwrap(), Found::Locked));
        drop(plugin);
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
        assert!(read(&file, "cid1", "net1").is_err());
    }
}
