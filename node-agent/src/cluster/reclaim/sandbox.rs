//! What this node itself knows of an attachment.
//!
//! The API forgets a pod that is deleted by force while its containers may still run. The plugin's record of an
//! attachment names the pod's network namespace; while that exists the address is in use, whatever the API says.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use octavia_bridge_ipam::state_file;
use octavia_bridge_ipam::wire::Attachment;
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
        let record: Record = serde_json::from_slice(text.split(|byte| *byte == b'\n').next()?).ok()?;
        let Netns { path, device, inode } = record.netns.filter(|_| record.version == FORMAT)?;
        let there = fs::metadata(&path).ok()?;
        ((there.dev(), there.ino()) == (device, inode)).then_some(path)
    }
}

#[cfg(test)]
mod tests {
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
}
