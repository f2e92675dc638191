//! What this node itself knows of an attachment.
//!
//! The API forgets a pod that is deleted by force while its containers may still run. The plugin's record of an
//! attachment names the pod's network namespace and the host's end of the pair; while one of them exists the address is in
//! use, whatever the API says. A namespace may have lost its path and live on.

use std::collections::HashSet;
use std::fs::{self, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use ipnet::IpNet;
use octavia_bridge_ipam::conf::places::run_dirs;
use octavia_bridge_ipam::host_end;
use octavia_bridge_ipam::state_file;
use octavia_bridge_ipam::wire::Attachment;
use octavia_bridge_netlink::ask;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The plugin's records of this node, by the directories where they may be.
#[derive(Debug, Clone)]
pub(crate) struct Sandboxes(Vec<PathBuf>);

/// Records of another format say nothing.
const FORMAT: u32 = 1;

/// The part of a record's first line that matters here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    version: u32,
    netns: Option<Netns>,
    /// The IPAM-only face makes none.
    #[serde(default)]
    link: Option<IgnoredAny>,
}

/// The part of its second line that matters here.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Outcome {
    host_link: u32,
    addresses: Vec<IpNet>,
}

/// What the record of an attachment says of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// The attachment has it.
    Has,
    /// The attachment is complete, and does not have it.
    Lacks,
    /// The record says nothing: its ADD has not come to its end, or it is missing.
    Open,
}

/// Whether an attachment uses its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Its DEL, which goes by the record, is still to come.
    Used,
    /// An ADD or a DEL is at work.
    Unsettled,
    Unused,
}

/// A namespace, by device and inode since paths are used again.
#[derive(Deserialize)]
struct Netns {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Netns {
    /// Whether nothing or another one is at its path. A path below `/proc` may be out of sight only.
    fn is_gone(&self) -> bool {
        if self.path.starts_with("/proc") {
            return false;
        }
        match fs::metadata(&self.path) {
            Ok(there) => (there.dev(), there.ino()) != (self.device, self.inode),
            Err(cause) => cause.kind() == ErrorKind::NotFound,
        }
    }
}

impl Sandboxes {
    /// Those under the plugin's `dataDir`.
    pub(crate) fn under(data_dir: &std::path::Path) -> Self {
        Self(run_dirs(data_dir).iter().map(|directory| directory.join("attachments")).collect())
    }

    /// The container ids of all records. A directory that cannot be read has none.
    pub(crate) fn containers(&self) -> HashSet<String> {
        let mut containers = HashSet::new();
        for entry in self.0.iter().flat_map(fs::read_dir).flatten().flatten() {
            let name = entry.file_name();
            if let Some((id, _)) = name.to_str().and_then(|name| name.strip_suffix(".jsonl")?.split_once('@'))
            {
                containers.insert(id.to_owned());
            }
        }
        containers
    }

    /// Whether the attachment has the address of which `is_it` says that it is meant. A claim that gave way to another writer has
    /// had an address that its attachment never got.
    pub(crate) fn recorded(&self, attachment: &Attachment, is_it: impl Fn(IpAddr) -> bool) -> Recorded {
        let Some((_, Some(outcome))) = self.record(attachment) else { return Recorded::Open };
        match outcome.addresses.iter().any(|address| is_it(address.addr())) {
            true => Recorded::Has,
            false => Recorded::Lacks,
        }
    }

    /// Whether the attachment is provably gone: a record says where its namespace was, nothing or another one is there, and no
    /// link of this node is its host end.
    pub(crate) fn is_gone(&self, attachment: &Attachment) -> bool {
        let Some((record, outcome)) = self.record(attachment) else { return false };
        let missing = record.netns.is_some_and(|netns| netns.is_gone());
        let Attachment { container_id, ifname } = attachment;
        let named = || ask(async |host| host.link(host_end::name(container_id, ifname).as_str()).await);
        missing
            && named().is_ok_and(|link| link.is_none())
            && outcome.is_none_or(|outcome| !has_pair(attachment, outcome.host_link))
    }

    /// The namespace of the attachment's sandbox, if it is known to exist. `None` says nothing: the record may be gone, or
    /// the namespace out of sight of a container.
    pub(crate) fn standing(&self, attachment: &Attachment) -> Option<PathBuf> {
        let (record, outcome) = self.record(attachment)?;
        let Netns { path, device, inode } = record.netns?;
        if fs::metadata(&path).is_ok_and(|there| (there.dev(), there.ino()) == (device, inode)) {
            return Some(path);
        }
        has_pair(attachment, outcome?.host_link).then_some(path)
    }

    /// Whether the attachment uses its addresses, so that a release which was asked for earlier must not be done.
    ///
    /// A pair tells, and not the namespace: a DEL that was killed has removed the pair before it asked for the release.
    pub(crate) fn usage(&self, attachment: &Attachment) -> Use {
        if self.is_locked(attachment) {
            return Use::Unsettled;
        }
        let Some((record, outcome)) = self.record(attachment) else { return Use::Unused };
        let used = match record.link {
            Some(_) => {
                has_named_pair(attachment) || outcome.is_some_and(|it| has_pair(attachment, it.host_link))
            }
            // Other plugins made the links; nothing at all is known without a namespace.
            None => outcome.is_some() && record.netns.is_none_or(|netns| !netns.is_gone()),
        };
        if used { Use::Used } else { Use::Unused }
    }

    /// Whether an ADD or a DEL holds the lock of the attachment's record.
    fn is_locked(&self, attachment: &Attachment) -> bool {
        let Some(name) = file_name(attachment) else { return false };
        for directory in &self.0 {
            let file = state_file::open(&directory.join(&name), OpenOptions::new().read(true));
            if file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))) {
                return true;
            }
        }
        false
    }

    /// Whether this node has a record of the attachment; without an interface, of any of the container's.
    pub(crate) fn has_record(&self, attachment: &Attachment) -> bool {
        match attachment.ifname.as_str() {
            "" => self.containers().contains(&attachment.container_id),
            _ => self.record(attachment).is_some(),
        }
    }

    /// What the attachment's record says, the second part only of an ADD that has come to its end.
    fn record(&self, attachment: &Attachment) -> Option<(Record, Option<Outcome>)> {
        let name = file_name(attachment)?;
        let mut texts =
            self.0.iter().map(|directory| state_file::read(&directory.join(&name), state_file::LONGEST));
        let text = texts.find_map(Result::ok)?;
        let mut lines = text.split(|byte| *byte == b'\n');
        let record: Record = serde_json::from_slice(lines.next()?).ok()?;
        let outcome = lines.next().and_then(|line| serde_json::from_slice(line).ok());
        (record.version == FORMAT).then_some((record, outcome))
    }
}

/// The name of the attachment's record. The ids come from objects that others write.
fn file_name(attachment: &Attachment) -> Option<String> {
    let Attachment { container_id, ifname } = attachment;
    let is_name = !container_id.is_empty() && !container_id.contains('/') && !ifname.contains('/');
    is_name.then(|| format!("{container_id}@{ifname}.jsonl"))
}

/// Whether the host's end of the attachment's pair is on this node under the name that it was made with.
fn has_named_pair(attachment: &Attachment) -> bool {
    let Attachment { container_id, ifname } = attachment;
    let named = ask(async |host| host.link(host_end::name(container_id, ifname).as_str()).await);
    let Ok(link) = named else { return true };
    link.is_some_and(|link| {
        host_end::is_of(link.alias.as_deref(), link.mac.map(|mac| mac.octets()), container_id, ifname)
    })
}

/// Whether the host's end of the attachment's pair is on this node. The alias, which the plugin gives it, tells it from a link
/// that got the index after a reboot.
fn has_pair(attachment: &Attachment, index: u32) -> bool {
    // The interface-less record of the IPAM face.
    if index == 0 {
        return false;
    }
    let mark = format!("octavia-bridge {} {}", attachment.ifname, attachment.container_id);
    let Ok(link) = ask(async |host| host.link(index).await) else { return true };
    let alias = link.and_then(|link| link.alias).unwrap_or_default();
    alias.strip_prefix(&mark).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

#[cfg(test)]
mod tests {
    use octavia_bridge_netlink::NewBridge;

    use super::*;

    #[test]
    fn a_sandbox_stands_while_its_namespace_does() {
        let dir = tempfile::tempdir().unwrap();
        let sandboxes = Sandboxes::under(dir.path());
        let attachment = Attachment { container_id: "c1".into(), ifname: "net1".into() };
        assert_eq!(sandboxes.standing(&attachment), None, "no record");
        fs::create_dir(dir.path().join("attachments")).unwrap();
        let namespace = dir.path().join("netns");
        fs::write(&namespace, "").unwrap();
        let there = fs::metadata(&namespace).unwrap();
        let write = |version: u32, inode: u64| {
            let (path, device) = (namespace.display(), there.dev());
            let netns = format!(r#"{{"path":"{path}","device":{device},"inode":{inode}}}"#);
            let line = format!(r#"{{"version":{version},"network":"octavia","netns":{netns}}}"#);
            fs::write(dir.path().join("attachments/c1@net1.jsonl"), format!("{line}\n{{}}\n")).unwrap();
        };
        write(FORMAT, there.ino());
        assert_eq!(sandboxes.standing(&attachment), Some(namespace.clone()));
        write(FORMAT, there.ino() + 1);
        assert_eq!(sandboxes.standing(&attachment), None, "another one at the same path");
        write(FORMAT + 1, there.ino());
        assert_eq!(sandboxes.standing(&attachment), None, "another format");
        write(FORMAT, there.ino());
        fs::remove_file(&namespace).unwrap();
        assert_eq!(sandboxes.standing(&attachment), None, "gone");
        let outside = Attachment { container_id: "../attachments/c1".into(), ..attachment };
        assert_eq!(sandboxes.standing(&outside), None);
    }

    #[test]
    fn an_attachment_has_the_addresses_of_its_record_when_its_add_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let sandboxes = Sandboxes::under(dir.path());
        let attachment = Attachment { container_id: "c1".into(), ifname: "net1".into() };
        let of = |last: u8| sandboxes.recorded(&attachment, |it| it == IpAddr::from([172, 23, 0, last]));
        assert_eq!(of(30), Recorded::Open, "no record");
        fs::create_dir(dir.path().join("attachments")).unwrap();
        let intent = "{\"version\":1,\"netns\":null}\n";
        for (outcome, of_30, of_31) in [
            ("", Recorded::Open, Recorded::Open),
            ("{\"addresses\":[\"172.23", Recorded::Open, Recorded::Open),
            ("{\"addresses\":[\"172.23.0.30/24\"],\"hostLink\":7}\n", Recorded::Has, Recorded::Lacks),
        ] {
            fs::write(dir.path().join("attachments/c1@net1.jsonl"), format!("{intent}{outcome}")).unwrap();
            assert_eq!((of(30), of(31)), (of_30, of_31), "{outcome}");
        }
    }

    #[test]
    fn without_a_pair_an_attachment_uses_its_addresses_until_its_namespace_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let sandboxes = Sandboxes::under(dir.path());
        let attachment = Attachment { container_id: "c1".into(), ifname: "net1".into() };
        assert_eq!(sandboxes.usage(&attachment), Use::Unused, "no record");
        fs::create_dir(dir.path().join("attachments")).unwrap();
        let gone = r#"{"path":"/run/netns/gone","device":4,"inode":4026532603}"#;
        let hidden = r#"{"path":"/proc/0/ns/net","device":4,"inode":4026532603}"#;
        for (netns, outcome, usage) in [
            ("null", "", Use::Unused),
            ("null", "{}\n", Use::Used),
            (hidden, "{}\n", Use::Used),
            (gone, "{}\n", Use::Unused),
        ] {
            let text = format!("{{\"version\":1,\"netns\":{netns},\"link\":null}}\n{outcome}");
            fs::write(dir.path().join("attachments/c1@net1.jsonl"), text).unwrap();
            assert_eq!(sandboxes.usage(&attachment), usage, "{netns} {outcome}");
        }
        let record = fs::File::open(dir.path().join("attachments/c1@net1.jsonl")).unwrap();
        record.lock().unwrap();
        assert_eq!(sandboxes.usage(&attachment), Use::Unsettled);
    }

    /// In a namespace of its own, which goes with the thread.
    fn in_new_namespace(story: impl FnOnce() + Send + 'static) {
        let inside = || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            story();
        };
        std::thread::spawn(inside).join().unwrap();
    }

    #[test]
    fn a_sandbox_stands_while_the_pair_does_whatever_its_path_says() {
        in_new_namespace(|| {
            let dir = tempfile::tempdir().unwrap();
            let sandboxes = Sandboxes::under(dir.path());
            fs::create_dir(dir.path().join("attachments")).unwrap();
            let write = |index: u32| {
                let netns = r#"{"path":"/run/netns/gone","device":4,"inode":4026532603}"#;
                let text = format!("{{\"version\":1,\"netns\":{netns}}}\n{{\"hostLink\":{index}}}\n");
                fs::write(dir.path().join("attachments/c1@net1.jsonl"), text).unwrap();
            };
            let mut index = 0;
            for (alias, stands) in
                [("octavia-bridge net1 c1 of d/w", true), ("octavia-bridge net1 c10", false)]
            {
                index = ask(async |host| {
                    let alias = Some(alias.to_owned());
                    let name = format!("br{stands}");
                    let new = NewBridge { name: name.clone(), alias, ..NewBridge::default() };
                    host.create_bridge(&new).await?;
                    Ok(host.link(name.as_str()).await?.unwrap().index)
                })
                .unwrap();
                write(index);
                let attachment = Attachment { container_id: "c1".into(), ifname: "net1".into() };
                assert_eq!(sandboxes.standing(&attachment).is_some(), stands, "{alias}");
            }
            write(index + 1);
            let attachment = Attachment { container_id: "c1".into(), ifname: "net1".into() };
            assert_eq!(sandboxes.standing(&attachment), None, "no such link");
        });
    }
}
