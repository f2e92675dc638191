//! Whether a directory is on a file system that other nodes share.
//!
//! Locks that hold on one node alone, and a pool that two nodes take for their own, give one address twice.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::stat::{major, minor};
use nix::sys::statfs::statfs;

/// `f_type` of statfs(2), by the kernel's sources.
const MAGIC: [(u32, &str); 14] = [
    (0x6969, "nfs"),
    (0x517b, "smb"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x00c3_6400, "ceph"),
    (0x5346_414f, "afs"),
    (0x6b41_4653, "afs"),
    (0x7375_7245, "coda"),
    (0x0116_1970, "gfs2"),
    (0x7461_636f, "ocfs2"),
    (0x0bd0_0bd0, "lustre"),
    (0x1983_0326, "beegfs"),
    (0x4750_4653, "gpfs"),
    (0xaad7_aaea, "panfs"),
];
/// Programs serve it: `fuse.glusterfs` and `fuse.sshfs`, but also file systems of one node.
const FUSE: u32 = 0x6573_5546;
/// The one in use below containers; `virtiofs` and `fuseblk` have names of their own.
const OF_ONE_NODE: &str = "fuse.fuse-overlayfs";

/// The kind of network file system that `path` is on, or will be made on. `None` also if it cannot be told.
pub(super) fn kind(path: &Path) -> Option<String> {
    let existing = path.ancestors().find(|path| path.exists())?;
    let found = statfs(existing).ok()?.filesystem_type().0;
    let magic = u32::try_from(found & 0xffff_ffff).ok()?;
    if magic != FUSE {
        return of_magic(magic).map(str::to_owned);
    }
    let device = existing.metadata().ok()?.dev();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    fuse(&mounts, &format!("{}:{}", major(device), minor(device)))
}

fn of_magic(magic: u32) -> Option<&'static str> {
    MAGIC.iter().find(|(known, _)| *known == magic).map(|(_, name)| *name)
}

/// What the mount of a device is served by, if by a program: `24 30 0:22 / /mnt rw - fuse.sshfs host:/ rw`, where any number
/// of words stands before the lone dash.
fn fuse(mounts: &str, device: &str) -> Option<String> {
    for line in mounts.lines() {
        let mut words = line.split(' ');
        if words.nth(2) == Some(device) {
            let kind = words.skip_while(|word| *word != "-").nth(1)?;
            return (kind.starts_with("fuse.") && kind != OF_ONE_NODE).then(|| kind.to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_of_several_nodes_are_known_by_their_numbers_and_names() {
        assert_eq!(of_magic(0x6969), Some("nfs"));
        assert_eq!(of_magic(0xff53_4d42), Some("cifs"));
        // ext4, xfs, btrfs, tmpfs, overlayfs, zfs.
        for local in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630, 0x2fc1_2fc1] {
            assert_eq!(of_magic(local), None, "{local:#x}");
        }
        let mounts = "24 30 0:22 / /mnt rw,nosuid shared:5 - fuse.glusterfs host:/vol rw,user_id=0\n\
                      25 30 0:23 / /a rw - fuse.fuse-overlayfs fuse-overlayfs rw\n\
                      26 30 0:24 / /b rw master:1 - virtiofs share rw\n";
        assert_eq!(fuse(mounts, "0:22").as_deref(), Some("fuse.glusterfs"));
        for device in ["0:23", "0:24", "0:2"] {
            assert_eq!(fuse(mounts, device), None, "{device}");
        }
        assert_eq!(kind(Path::new("/run")), None);
    }
}
