//! What this node itself knows of an attachment.
//!
//! The API forgets a pod that is deleted by force while its containers may still run. The plugin's record of an
//! attachment names the pod's network namespace and the host's end of the pair; while one of them exists the address is in
//! use, whatever the API says. A namespace may have lost its path and live on.

pub(crate) mod record;

mod life;
mod store;

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use octavia_bridge_ipam::conf::places::run_dirs;
use octavia_bridge_ipam::wire::Attachment;

use life::{has_host_end, has_pair};
use record::{Record, Said};

/// The plugin's records of this node, by the directories where they may be.
#[derive(Debug, Clone)]
pub(crate) struct Sandboxes(Vec<PathBuf>);

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

impl Sandboxes {
    /// Those under the plugin's `dataDir`.
    pub(crate) fn under(data_dir: &Path) -> Self {
        Self(run_dirs(data_dir).iter().map(|directory| directory.join(record::FOLDER)).collect())
    }

    /// The container ids of all records. A directory that cannot be read has none.
    pub(crate) fn containers(&self) -> HashSet<String> {
        record::listed(&self.0).map(|(_, container_id, _)| container_id).collect()
    }

    /// Whether the attachment has the address of which `is_it` says that it is meant. A claim that gave way to another writer has
    /// had an address that its attachment never got.
    pub(crate) fn recorded(&self, attachment: &Attachment, is_it: impl Fn(IpAddr) -> bool) -> Recorded {
        let outcome = self.record(attachment).and_then(|record| record.outcome);
        let Some(outcome) = outcome else { return Recorded::Open };
        match outcome.addresses.iter().any(|address| is_it(address.addr())) {
            true => Recorded::Has,
            false => Recorded::Lacks,
        }
    }

    /// Whether the attachment is provably gone: a record says where its namespace was, nothing or another one is there, and no
    /// link of this node is its host end.
    pub(crate) fn is_gone(&self, attachment: &Attachment) -> bool {
        let Some(Record { netns, outcome, .. }) = self.record(attachment) else { return false };
        netns.is_some_and(|netns| netns.is_gone()) && !has_host_end(attachment, outcome.as_ref())
    }

    /// The namespace of the attachment's sandbox, if it is known to exist. `None` says nothing: the record may be gone, or
    /// the namespace out of sight of a container.
    pub(crate) fn standing(&self, attachment: &Attachment) -> Option<PathBuf> {
        let Record { netns, outcome, .. } = self.record(attachment)?;
        let netns = netns?;
        let stands =
            netns.open().is_some() || outcome.is_some() && has_host_end(attachment, outcome.as_ref());
        stands.then_some(netns.path)
    }

    /// Whether the attachment uses its addresses, so that a release which was asked for earlier must not be done.
    ///
    /// A pair tells, and not the namespace: a DEL that was killed has removed the pair before it asked for the release.
    pub(crate) fn usage(&self, attachment: &Attachment) -> Use {
        if self.is_locked(attachment) {
            return Use::Unsettled;
        }
        let Some(Record { netns, link, outcome }) = self.record(attachment) else { return Use::Unused };
        let used = match link {
            Some(_) => has_host_end(attachment, outcome.as_ref()),
            // Other plugins made the links; nothing at all is known without a namespace.
            None => outcome.is_some() && netns.is_none_or(|netns| !netns.is_gone()),
        };
        if used { Use::Used } else { Use::Unused }
    }

    /// Whether an ADD or a DEL holds the lock of the attachment's record.
    fn is_locked(&self, attachment: &Attachment) -> bool {
        let Some(name) = record::file_name(&attachment.container_id, &attachment.ifname) else {
            return false;
        };
        let mut files = self.0.iter().map(|directory| record::open(&directory.join(&name)));
        files.any(|file| file.is_ok_and(|file| record::is_locked(&file)))
    }

    /// Whether this node has a record of the attachment; without an interface, of any of the container's.
    pub(crate) fn has_record(&self, attachment: &Attachment) -> bool {
        match attachment.ifname.as_str() {
            "" => self.containers().contains(&attachment.container_id),
            _ => self.record(attachment).is_some(),
        }
    }

    /// What the attachment's record says, be it locked or not.
    fn record(&self, attachment: &Attachment) -> Option<Record> {
        let name = record::file_name(&attachment.container_id, &attachment.ifname)?;
        let file = self.0.iter().find_map(|directory| record::open(&directory.join(&name)).ok())?;
        match record::read(&file, attachment) {
            Ok(Said::Record(record)) => Some(record),
            _ => None,
        }
    }
}

/// Whether the attachment lives whose record is at `path`, by the plugin's rule: the pair tells, and not the path of the
/// namespace. A record that cannot be understood, or that a plugin works on, counts as alive.
pub(crate) fn lives(path: &Path, container_id: &str, ifname: &str) -> bool {
    let attachment = Attachment { container_id: container_id.to_owned(), ifname: ifname.to_owned() };
    let Ok(file) = record::open(path) else { return true };
    if record::is_locked(&file) {
        return true;
    }
    match record::read(&file, &attachment) {
        Ok(Said::Nothing) => false,
        Ok(Said::Strange) | Err(_) => true,
        Ok(Said::Record(record)) => match record.link {
            Some(_) => has_pair(&attachment, &record),
            // Other plugins made the links. Nothing is known of them, and nothing at all without a namespace.
            None => record.netns.is_none_or(|netns| !netns.is_gone()),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use octavia_bridge_netlink::{NewBridge, ask};

    use super::*;

    const OWNER: &str = r#""containerId":"c1","ifname":"net1""#;

    #[test]
    fn a_sandbox_stands_while_its_namespace_does() {
        let dir = tempfile::tempdir().unwrap();
        let sandboxes = Sandboxes::under(dir.path());
        let attachment = Attachment { container_id: "c1".into(), ifname: "net1".into() };
        assert_eq!(sandboxes.standing(&attachment), None, "no record");
        fs::create_dir(dir.path().join("attachments")).unwrap();
        let namespace = dir.path().join("netns");
        symlink("/proc/self/ns/net", &namespace).unwrap();
        let there = fs::metadata(&namespace).unwrap();
        let write = |version: u32, inode: u64| {
            let (path, device) = (namespace.display(), there.dev());
            let netns = format!(r#"{{"path":"{path}","device":{device},"inode":{inode}}}"#);
            let line = format!(r#"{{"version":{version},"network":"octavia",{OWNER},"netns":{netns}}}"#);
            fs::write(dir.path().join("attachments/c1@net1.jsonl"), format!("{line}\n{{}}\n")).unwrap();
        };
        write(1, there.ino());
        assert_eq!(sandboxes.standing(&attachment), Some(namespace.clone()));
        write(1, there.ino() + 1);
        assert_eq!(sandboxes.standing(&attachment), None, "another one at the same path");
        write(2, there.ino());
        assert_eq!(sandboxes.standing(&attachment), None, "another format");
        write(1, there.ino());
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
        let intent = format!("{{\"version\":1,{OWNER},\"netns\":null}}\n");
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
        let gone = r#"{"path":"/run/gone","device":4,"inode":4026532603}"#;
        let hidden = r#"{"path":"/proc/0/ns/net","device":4,"inode":4026532603}"#;
        // As in a container, which has not all directories of its node.
        let elsewhere = r#"{"path":"/run/elsewhere/c1","device":4,"inode":4026532603}"#;
        for (netns, outcome, usage, lives, is_gone) in [
            ("null", "", Use::Unused, true, false),
            ("null", "{}\n", Use::Used, true, false),
            (hidden, "{}\n", Use::Used, true, false),
            (elsewhere, "{}\n", Use::Used, true, false),
            (gone, "{}\n", Use::Unused, false, true),
        ] {
            let text = format!("{{\"version\":1,{OWNER},\"netns\":{netns},\"link\":null}}\n{outcome}");
            let record = dir.path().join("attachments/c1@net1.jsonl");
            fs::write(&record, text).unwrap();
            let said = (sandboxes.usage(&attachment), super::lives(&record, "c1", "net1"));
            assert_eq!(said, (usage, lives), "{netns} {outcome}");
            assert_eq!(sandboxes.is_gone(&attachment), is_gone, "{netns} {outcome}");
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
                let text = format!("{{\"version\":1,{OWNER},\"netns\":{netns}}}\n{{\"hostLink\":{index}}}\n");
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
