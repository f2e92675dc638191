//! The plugin's record of an attachment.
//!
//! A file `<container id>@<interface>.jsonl`: its first line says what the plugin was about to do, its second that it was
//! done, and ADD, DEL and CHECK lock it while they work. A file that says anything unexpected proves nothing.

use std::fs::{File, OpenOptions, read_dir};
use std::io;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use octavia_bridge_ipam::conf::places::run_dirs;
use octavia_bridge_ipam::request::check_container_id;
use octavia_bridge_ipam::state_file;
use octavia_bridge_ipam::wire::Attachment;
use octavia_bridge_netlink::{VlanRange, validate_link_name};
use serde::Deserialize;

use super::life::Netns;

/// Format that the plugin gives its records.
const FORMAT: u32 = 1;
/// Of a record, in bytes. It repeats a delegated plugin's configuration, of a megabyte at most, as a JSON text.
const LONGEST: u64 = 8 << 20;
/// Where records are, below a directory of the plugin's.
pub(crate) const FOLDER: &str = "attachments";
/// How their names end.
pub(crate) const ENDING: &str = ".jsonl";

/// What the plugin has written down.
#[derive(Debug)]
pub(super) struct Record {
    /// The IPAM-only face may be called without one.
    pub(super) netns: Option<Netns>,
    /// The IPAM-only face makes no links.
    pub(super) link: Option<LinkIntent>,
    /// Only of an ADD that has come to its end.
    pub(super) outcome: Option<Outcome>,
}

#[derive(Debug, Deserialize)]
pub(super) struct LinkIntent {
    bridge: String,
}

/// Indexes are 0 where no link was made.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Outcome {
    pub(super) host_link: u32,
    pub(super) pod_link: u32,
    pub(super) addresses: Vec<IpNet>,
    port_vlans: Vec<Vlans>,
}

#[derive(Debug, Deserialize)]
struct Vlans {
    first: u16,
    last: u16,
    pvid: bool,
    untagged: bool,
}

/// What a file says of an attachment.
#[derive(Debug)]
pub(super) enum Said {
    /// Its writer was killed before it did anything.
    Nothing,
    /// It is not understood.
    Strange,
    Record(Record),
}

/// The bridge port of a complete attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordedPort {
    pub(crate) bridge: String,
    /// Index of the link.
    pub(crate) port: u32,
    /// The port's whole table; empty if the network asked for none.
    pub(crate) vlans: Vec<VlanRange>,
    netns: Option<Netns>,
}

impl RecordedPort {
    /// Whether the pod's namespace is known to exist. In a container it may be out of sight.
    pub(crate) fn has_pod(&self) -> bool {
        self.netns.as_ref().is_some_and(|netns| netns.open().is_some())
    }
}

/// What a record says of an attachment's port.
#[derive(Debug)]
pub(crate) enum Found {
    /// No record, an unfinished one, or one that is not understood.
    Nothing,
    /// A plugin is at work on it.
    Locked,
    /// With the lock, which lasts as long as the file is open.
    Complete(RecordedPort, File),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Intent {
    version: u32,
    container_id: String,
    ifname: String,
    netns: Option<Netns>,
    link: Option<LinkIntent>,
}

/// Where the record of an attachment is: among those of networks without a `dataDir` of their own, or with one directly
/// below. `None` for an invalid owner: it was read from a link's alias, which others write as well.
pub(crate) fn path(state_dir: &Path, container_id: &str, ifname: &str) -> Option<PathBuf> {
    let name = file_name(container_id, ifname)?;
    let mut paths = folders(state_dir).into_iter().map(|folder| folder.join(&name));
    paths.find(|path| path.symlink_metadata().is_ok())
}

/// Every record, with its container id and interface.
pub(crate) fn all(state_dir: &Path) -> Vec<(PathBuf, String, String)> {
    listed(&folders(state_dir)).collect()
}

/// The same of these folders. One that cannot be read has none.
pub(super) fn listed(folders: &[PathBuf]) -> impl Iterator<Item = (PathBuf, String, String)> {
    folders.iter().flat_map(read_dir).flatten().flatten().filter_map(|entry| {
        let name = entry.file_name();
        let (container_id, ifname) = name.to_str()?.strip_suffix(ENDING)?.split_once('@')?;
        Some((entry.path(), container_id.to_owned(), ifname.to_owned()))
    })
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

/// The file's name. `None` for an invalid one: the ids come from objects that others write.
pub(super) fn file_name(container_id: &str, ifname: &str) -> Option<String> {
    let is_valid = check_container_id(container_id).is_ok() && validate_link_name(ifname).is_ok();
    is_valid.then(|| format!("{container_id}@{ifname}{ENDING}"))
}

/// Locks and reads a record, without waiting for a plugin that works on it.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn read_port(path: &Path, container_id: &str, ifname: &str) -> io::Result<Found> {
    let file = open(path)?;
    if is_locked(&file) {
        return Ok(Found::Locked);
    }
    let owner = Attachment { container_id: container_id.to_owned(), ifname: ifname.to_owned() };
    let port = match read(&file, &owner)? {
        Said::Record(record) => record.port(),
        Said::Nothing | Said::Strange => None,
    };
    Ok(port.map_or(Found::Nothing, |port| Found::Complete(port, file)))
}

/// # Errors
/// Those of [`state_file::open`].
pub(super) fn open(path: &Path) -> io::Result<File> {
    state_file::open(path, OpenOptions::new().read(true))
}

/// Whether a plugin is at work on it. If not, none begins as long as the file is open.
pub(super) fn is_locked(file: &File) -> bool {
    file.try_lock_shared().is_err()
}

/// # Errors
/// Those of [`state_file::read_from`].
pub(super) fn read(file: &File, owner: &Attachment) -> io::Result<Said> {
    Ok(parse(&state_file::read_from(file, LONGEST)?, owner))
}

fn parse(text: &[u8], owner: &Attachment) -> Said {
    // A torn line was not written.
    let mut lines = text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    let Some(first) = lines.next() else { return Said::Nothing };
    let Ok(intent) = serde_json::from_slice::<Intent>(first) else { return Said::Strange };
    let Intent { version, container_id, ifname, netns, link } = intent;
    if version != FORMAT || (&container_id, &ifname) != (&owner.container_id, &owner.ifname) {
        return Said::Strange;
    }
    let outcome = lines.next().and_then(|line| serde_json::from_slice(line).ok());
    Said::Record(Record { netns, link, outcome })
}

impl Record {
    /// The bridge port, once it is complete.
    fn port(self) -> Option<RecordedPort> {
        let outcome = self.outcome?;
        let mut vlans = Vec::new();
        for Vlans { first, last, pvid, untagged } in outcome.port_vlans {
            vlans.push(VlanRange { first, last, pvid, untagged });
        }
        Some(RecordedPort { bridge: self.link?.bridge, port: outcome.host_link, vlans, netns: self.netns })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const INTENT: &str = r#"{"version":1,"network":"octavia","containerId":"cid1","ifname":"net1","netns":null,"link":{"bridge":"octbr","bridgeBefore":"up","bridgeMac":"","loopbackIpv6Off":false},"addressing":"pool"}"#;
    const OUTCOME: &str =
        r#"{"addresses":[],"routes":[],"hostLink":7,"podLink":2,"hostMtu":1500,"mtu":1500,"leftDown":false}"#;

    fn of(text: &str) -> Option<RecordedPort> {
        let owner = Attachment { container_id: "cid1".into(), ifname: "net1".into() };
        match parse(text.as_bytes(), &owner) {
            Said::Record(record) => record.port(),
            Said::Nothing | Said::Strange => None,
        }
    }

    #[test]
    fn only_a_complete_record_of_that_attachment_says_anything() {
        let whole = format!("{INTENT}\n{OUTCOME}\n");
        let port = RecordedPort { bridge: "octbr".into(), port: 7, vlans: Vec::new(), netns: None };
        assert_eq!(of(&whole), Some(port));
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
        assert!(matches!(read_port(&file, "cid1", "net1").unwrap(), Found::Complete(..)));
        let plugin = File::open(&file).unwrap();
        plugin.lock().unwrap();
        assert!(matches!(read_port(&file, "cid1", "net1").unwrap(), Found::Locked));
        drop(plugin);
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &file).unwrap();
        assert!(read_port(&file, "cid1", "net1").is_err());
    }
}
