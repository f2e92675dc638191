//! Which files of the node a network may name.
//!
//! Who may create network definitions in a namespace need not be an administrator of nodes, and root opens what they name.
//! So a name chooses among files that exist for the purpose; it never leads anywhere else.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Where the log files of our own are.
pub const LOG_DIR: &str = "/var/log/octavia-bridge";

/// Folders of whereabouts' flat file: its own in its order, then those of distributions that keep CNI's configuration elsewhere.
pub(super) const FLAT_FILE_DIRS: [&str; 6] = [
    "/etc/kubernetes/cni/net.d/whereabouts.d",
    "/etc/cni/net.d/whereabouts.d",
    "/host/etc/cni/net.d/whereabouts.d",
    "/var/lib/rancher/k3s/agent/etc/cni/net.d/whereabouts.d",
    "/var/lib/rancher/rke2/agent/etc/cni/net.d/whereabouts.d",
    "/var/snap/microk8s/current/args/cni-network/whereabouts.d",
];

/// Whether `path` may be a flat file: one that lies in one of whereabouts' folders.
pub(super) fn is_flat_file(path: &Path) -> bool {
    let folder = path.parent().filter(|_| path.file_name().is_some());
    folder.is_some_and(|folder| FLAT_FILE_DIRS.iter().any(|known| folder == Path::new(known)))
}

/// Whether `path` may be a log file: one in [`LOG_DIR`], or whereabouts' in `/var/log`.
pub fn is_log_file(path: &Path) -> bool {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().map(OsStr::as_bytes)) else {
        return false;
    };
    let of_whereabouts = name.starts_with(b"whereabouts") && name.ends_with(b".log");
    folder == Path::new(LOG_DIR) || (folder == Path::new("/var/log") && of_whereabouts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_files_lie_where_logs_do() {
        for (path, allowed) in [
            ("/var/log/whereabouts.log", true),
            ("/var/log/whereabouts-octavia.log", true),
            ("/var/log/octavia-bridge/octavia", true),
            ("/var/log//octavia-bridge/./octavia.log", true),
            ("/tmp/whereabouts.log", false),
            ("/var/log/syslog", false),
            ("/var/log/whereabouts.log/..", false),
            ("/var/log/whereabouts/a.log", false),
            ("/var/log/octavia-bridge", false),
            ("/var/log/octavia-bridge/..", false),
            ("/var/log/octavia-bridge/../cron.log", false),
            ("/var/log/octavia-bridge/a/b.log", false),
            ("var/log/whereabouts.log", false),
            ("/etc/ld.so.preload", false),
            ("/", false),
            ("", false),
        ] {
            assert_eq!(is_log_file(Path::new(path)), allowed, "{path}");
        }
    }

    #[test]
    fn flat_files_lie_in_whereabouts_folders() {
        for folder in FLAT_FILE_DIRS {
            assert!(is_flat_file(&Path::new(folder).join("whereabouts.conf")), "{folder}");
            assert!(!is_flat_file(Path::new(folder)), "{folder}");
            assert!(!is_flat_file(&Path::new(folder).join("../multus.kubeconfig")), "{folder}");
            assert!(!is_flat_file(&Path::new(folder).join("..")), "{folder}");
        }
        for path in ["/proc/kmsg", "/run/secret", "/etc/shadow", "whereabouts.conf", "/"] {
            assert!(!is_flat_file(Path::new(path)), "{path}");
        }
    }
}
