//! What this node itself knows of an attachment.
//!
//! The API forgets a pod that is deleted by force while its containers may still run. The plugin's record of an
//! attachment names the pod's network namespace and the host's end of the pair; while one of them exists the address is in
//! use, whatever the API says. A namespace may have lost its path and live on.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use octavia_bridge_ipam::state_file;
use octavia_bridge_ipam::wire::Attachment;
use octavia_bridge_netlink::ask;
use serde::Deserialize;

/// The plugin's records of this node.
#[derive(Debug, Clone)]
pub(crate) struct Sandboxes(PathBuf);

/// Records of another format say nothing.
const FORMAT: u32 = 1;

/// The part of a record's first line that matters here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    version: u32,
    netns: Option<Netns>,
}

/// The part of its second line that matters here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    host_link: u32,
}

/// A namespace, by device and inode since paths are used again.
#[derive(Deserialize)]
struct Netns {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Sandboxes {
    /// Those under the plugin's `dataDir`.
    pub(crate) fn under(data_dir: &std::path::Path) -> Self {
        Self(data_dir.join("attachments"))
    }

    /// The container ids of all records. A directory that cannot be read has none.
    pub(crate) fn containers(&self) -> HashSet<String> {
        let mut containers = HashSet::new();
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if let Some((id, _)) = name.to_str().and_then(|name| name.strip_suffix(".jsonl")?.split_once('@'))
            {
                containers.insert(id.to_owned());
            }
        }
        containers
    }

    /// The namespace of the attachment's sandbox, if it is known to exist. `None` says nothing: the record may be gone, or
    /// the namespace out of sight of a container.
    pub(crate) fn standing(&self, attachment: &Attachment) -> Option<PathBuf> {
        let Attachment { container_id, ifname } = attachment;
        // The ids come from objects that others write.
        if container_id.is_empty() || container_id.contains('/') || ifname.contains('/') {
            return None;
        }
        let path = self.0.join(format!("{container_id}@{ifname}.jsonl"));
        let text = state_file::read(&path, state_file::LONGEST).ok()?;
        let mut lines = text.split(|byte| *byte == b'\n');
        let record: Record = serde_json::from_slice(lines.next()?).ok()?;
        let Netns { path, device, inode } = record.netns.filter(|_| record.version == FORMAT)?;
        if fs::metadata(&path).is_ok_and(|there| (there.dev(), there.ino()) == (device, inode)) {
            return Some(path);
        }
        let outcome: Outcome = serde_json::from_slice(lines.next()?).ok()?;
        has_pair(attachment, outcome.host_link).then_some(path)
    }
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
