//! Who waits for a lock, as the kernel tells: a test that needs a plugin to wait looks, and does not guess by the clock.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use crate::Node;
use crate::changes::until;

/// For a program to start and to reach the lock, on however busy a machine.
const START: Duration = Duration::from_secs(30);

impl Node {
    /// Returns when so many processes wait for locks on what lies in the node's `/run/octavia-bridge`
    /// and `/var/lib/octavia-bridge`.
    ///
    /// # Panics
    /// When they do not in time.
    #[track_caller]
    pub fn until_locks_are_waited_for(&self, count: usize) {
        until(START, "processes wait for locks", || {
            waiting(self.run_dir()) + waiting(&self.data_dir()) >= count
        });
    }
}

/// Those that wait are lines such as `1: -> FLOCK  ADVISORY  WRITE 1235 00:2f:12345 0 EOF`; the number before the range is
/// the file's inode.
fn waiting(folder: &Path) -> usize {
    let mut inodes = BTreeSet::new();
    collect(folder, &mut inodes);
    let locks = fs::read_to_string("/proc/locks").expect("read /proc/locks");
    let mut count = 0;
    for line in locks.lines().filter(|line| line.contains("->")) {
        let place = line.split_whitespace().find(|word| word.matches(':').count() == 2);
        let inode = place.and_then(|place| place.rsplit(':').next()?.parse::<u64>().ok());
        count += usize::from(inode.is_some_and(|inode| inodes.contains(&inode)));
    }
    count
}

/// A folder and all below it. What is gone meanwhile is left out.
fn collect(path: &Path, inodes: &mut BTreeSet<u64>) {
    let Ok(metadata) = fs::symlink_metadata(path) else { return };
    inodes.insert(metadata.ino());
    let Ok(entries) = fs::read_dir(path) else { return };
    for entry in entries.flatten() {
        collect(&entry.path(), inodes);
    }
}
