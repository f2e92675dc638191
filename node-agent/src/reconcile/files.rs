//! Noticing that a file has changed. A `ConfigMap` that is mounted in a pod is changed by turning a symbolic link.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often to look. kubelet itself takes up to a minute or two to bring a `ConfigMap` to its pods.
const POLL: Duration = Duration::from_secs(2);

/// What tells one content of a file from another: device, inode, size, and the moment of the last change.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// Files that are looked at.
#[derive(Debug)]
pub(super) struct Files {
    paths: Vec<PathBuf>,
    seen: Vec<Stamp>,
    /// What the last look found to be new.
    new: Option<Vec<Stamp>>,
    pace: Interval,
}

impl Files {
    /// To be made before the files are read. Standard input does not change.
    pub(super) fn new(paths: &[PathBuf]) -> Self {
        let mut pace = interval(POLL);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let paths: Vec<PathBuf> = paths.iter().filter(|path| path.as_os_str() != "-").cloned().collect();
        Self { seen: stamps(&paths), paths, new: None, pace }
    }

    /// Returns when one of them has changed and then has stayed so for a while: an editor may not be done. May be
    /// given up at any time.
    pub(super) async fn changed(&mut self) {
        if self.paths.is_empty() {
            return std::future::pending().await;
        }
        loop {
            self.pace.tick().await;
            let now = stamps(&self.paths);
            if now == self.seen {
                self.new = None;
            } else if self.new.as_ref() == Some(&now) {
                self.seen = now;
                self.new = None;
                return;
            } else {
                self.new = Some(now);
            }
        }
    }
}

fn stamps(paths: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let file = fs::metadata(path).ok()?;
        Some((file.dev(), file.ino(), file.size(), file.ctime(), file.ctime_nsec()))
    };
    paths.iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;
    use tokio::time::timeout;

    use super::*;

    /// Time runs by itself when nothing else is to be done.
    #[tokio::test(start_paused = true)]
    async fn a_turned_link_is_a_change_and_so_is_a_write_and_nothing_else_is() {
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("one"), "interfaces: []").unwrap();
        fs::write(path("two"), "interfaces: []").unwrap();
        symlink("one", path("now")).unwrap();
        let mut files = Files::new(&[path("now"), "-".into()]);
        let minute = Duration::from_secs(60);
        assert!(timeout(minute, files.changed()).await.is_err());
        symlink("two", path("next")).unwrap();
        fs::rename(path("next"), path("now")).unwrap();
        timeout(minute, files.changed()).await.expect("the link");
        assert!(timeout(minute, files.changed()).await.is_err(), "told once");
        fs::write(path("two"), "interfaces: [{}]").unwrap();
        timeout(minute, files.changed()).await.expect("the write");
    }
}
