//! Which files of the node a network may name, and where the program keeps its own.
//!
//! Who may create network definitions in a namespace need not be an administrator of nodes, and root opens what they name.
//! So a name chooses among files that exist for the purpose; it never leads anywhere else.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The `dataDir` of networks that name none: what must outlive a boot.
pub const DATA_DIR: &str = "/var/lib/octavia-bridge";
/// Where the agent's sockets are, and the run directory of [`DATA_DIR`].
pub const RUN_DIR: &str = "/run/octavia-bridge";
/// Below [`RUN_DIR`], the run directories of other `dataDir`s, each by its whole path. No `dataDir` may have this name in it.
pub const ELSEWHERE: &str = "elsewhere";
/// All below this is in memory, and another name of it.
const MEMORY: [&str; 2] = ["/run", "/var/run"];

/// The run directory of a `dataDir`: records, `file` pools and their tombstones, which die with the boot as links do.
///
/// | `dataDir` | run directory |
/// |---|---|
/// | `/var/lib/octavia-bridge/X` | `/run/octavia-bridge/X` |
/// | `/run/X`, which is not below `/run/octavia-bridge` | itself |
/// | any other `/X` | `/run/octavia-bridge/elsewhere/X` |
///
/// Different directories have different run directories: no network gets into the files of another by the name that it chooses.
pub fn run_dir(data_dir: &Path) -> PathBuf {
    if let Ok(below) = data_dir.strip_prefix(DATA_DIR) {
        return joined(Path::new(RUN_DIR), below);
    }
    let path = usual(data_dir);
    if path.starts_with(MEMORY[0]) && !path.starts_with(RUN_DIR) {
        return path;
    }
    joined(&Path::new(RUN_DIR).join(ELSEWHERE), path.strip_prefix("/").unwrap_or(&path))
}

/// The path in its usual spelling, with `/run` for `/var/run`.
pub fn usual(path: &Path) -> PathBuf {
    for memory in MEMORY {
        if let Ok(below) = path.strip_prefix(memory) {
            return joined(Path::new(MEMORY[0]), below);
        }
    }
    path.components().collect()
}

/// Where records, `file` pools and their tombstones of a `dataDir` may be: its run directory, and the directory itself, where an older
/// release has left them until the plugin runs for the first time.
pub fn run_dirs(data_dir: &Path) -> Vec<PathBuf> {
    let run_dir = run_dir(data_dir);
    if run_dir == usual(data_dir) { vec![run_dir] } else { vec![run_dir, data_dir.to_owned()] }
}

/// Without a slash at its end, also when there is nothing below.
pub(super) fn joined(above: &Path, below: &Path) -> PathBuf {
    above.join(below).components().collect()
}

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
    fn each_data_directory_has_a_run_directory_of_its_own() {
        let pairs = [
            ("/var/lib/octavia-bridge", "/run/octavia-bridge"),
            ("/var/lib/octavia-bridge/blue/b", "/run/octavia-bridge/blue/b"),
            ("/var/lib/octavia-bridge2", "/run/octavia-bridge/elsewhere/var/lib/octavia-bridge2"),
            ("/srv/blue", "/run/octavia-bridge/elsewhere/srv/blue"),
            ("/run/blue", "/run/blue"),
            ("/run/octavia-bridge", "/run/octavia-bridge/elsewhere/run/octavia-bridge"),
            ("/run/octavia-bridge/blue/b", "/run/octavia-bridge/elsewhere/run/octavia-bridge/blue/b"),
        ];
        for (data_dir, expected) in pairs {
            assert_eq!(run_dir(Path::new(data_dir)).as_os_str(), expected, "{data_dir}");
        }
        for (spelling, data_dir) in [
            ("/var/lib//octavia-bridge/./blue/b/", "/var/lib/octavia-bridge/blue/b"),
            ("/var/lib/octavia-bridge/", "/var/lib/octavia-bridge"),
            ("/srv//blue/", "/srv/blue"),
            ("/var/run/blue/", "/run/blue"),
            ("/var/run/octavia-bridge", "/run/octavia-bridge"),
        ] {
            assert_eq!(run_dir(Path::new(spelling)), run_dir(Path::new(data_dir)), "{spelling}");
        }
        for (data_dir, places) in [("/run/blue", 1), ("/var/run/blue/", 1), ("/srv/blue", 2)] {
            assert_eq!(run_dirs(Path::new(data_dir)).len(), places, "{data_dir}");
        }
    }

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
