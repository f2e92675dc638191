//! A node as kubelet and the runtime see it: its network, and a folder in which its files lie.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use octavia_bridge_tests::Node;
use tempfile::TempDir;

use crate::runtime::Runtime;

/// Mounts the host's own folders where programs look for them, and becomes the program.
const ENTER: &str = r#"for folder in run/octavia-bridge var/lib opt etc; do mount --bind "$0/$folder" "/$folder"; done; exec "$@""#;

/// A node's network and disk.
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) node: Node,
    disk: TempDir,
}

impl Host {
    /// A host as a distribution leaves it, with some files of others.
    pub(crate) fn new(name: &str, node: Node) -> Self {
        let disk = TempDir::with_prefix_in(format!("{name}-"), "/run").expect("create the host's disk");
        let host = Self { name: name.to_owned(), node, disk };
        for folder in ["/run/octavia-bridge", "/var/lib", "/opt/cni/bin", "/etc/cni/net.d"] {
            fs::create_dir_all(host.path(folder)).unwrap_or_else(|e| panic!("create {folder}: {e}"));
        }
        host.write("/opt/cni/bin/loopback", "somebody else's plugin");
        host.write("/etc/cni/net.d/.kubernetes-cni-keep", "");
        // Where it is mounted in the host's view.
        fs::create_dir_all("/run/octavia-bridge").expect("create a mount point");
        host
    }

    /// Where a path of this host is for the test. Kernel interfaces are the machine's, where network settings are those of
    /// whoever opens them; and network namespaces the sandbox's.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        if ["/proc/", "/sys/", "/run/netns"].iter().any(|shared| path.starts_with(shared)) {
            return path.into();
        }
        self.disk.path().join(path.trim_start_matches('/'))
    }

    /// Writes a file that anybody may run.
    pub(crate) fn write(&self, path: &str, text: &str) {
        fs::write(self.path(path), text).unwrap_or_else(|e| panic!("write {path}: {e}"));
        let mode = PermissionsExt::from_mode(0o755);
        fs::set_permissions(self.path(path), mode).unwrap_or_else(|e| panic!("chmod {path}: {e}"));
    }

    /// A program as the host runs it: in its network, with its files.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "nsenter"]);
        command.arg(format!("--net={}", self.node.path().display()));
        command.args(["--", "unshare", "--mount", "--propagation", "private", "sh", "-ec", ENTER]);
        command.arg(self.disk.path()).arg(program);
        command
    }

    /// The runtime's client, so that plugins it calls are this host's and work in its network.
    pub(crate) fn ctr(&self) -> Command {
        let [program, words @ ..] = Runtime::shared().ctr_words();
        let mut command = self.command(program);
        command.args(words);
        command
    }

    /// What lies on the disk: every file with its mode and what tells its content, every folder with its mode.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, String> {
        let mut files = BTreeMap::new();
        walk(self.disk.path(), Path::new("/"), &mut files);
        files
    }
}

fn walk(disk: &Path, below: &Path, files: &mut BTreeMap<PathBuf, String>) {
    let folder = disk.join(below.strip_prefix("/").expect("a path from the root"));
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("list {}: {e}", folder.display()));
    for entry in entries {
        let entry = entry.unwrap_or_else(|e| panic!("list {}: {e}", folder.display()));
        let path = below.join(entry.file_name());
        let what = |e| panic!("{}: {e}", path.display());
        let metadata = entry.metadata().unwrap_or_else(what);
        let mode = metadata.permissions().mode() & 0o7777;
        let kind = metadata.file_type();
        let line = if kind.is_dir() {
            format!("folder {mode:o}")
        } else if kind.is_file() {
            format!(
                "file {mode:o} {}",
                content(&fs::read(entry.path()).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
            )
        } else {
            format!("{kind:?} {mode:o}")
        };
        if kind.is_dir() {
            walk(disk, &path, files);
        }
        files.insert(path, line);
    }
}

/// Enough to tell two files apart.
pub(crate) fn content(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("{} bytes {:016x}", bytes.len(), hasher.finish())
}

/// What is new, with `+`, and what is gone, with `-`; a file that has changed is both.
pub(crate) fn difference(
    before: &BTreeMap<PathBuf, String>,
    after: &BTreeMap<PathBuf, String>,
) -> Vec<String> {
    let line = |sign: char, (path, what): (&PathBuf, &String)| format!("{sign} {} {what}", path.display());
    let gone =
        before.iter().filter(|(path, what)| after.get(*path) != Some(*what)).map(|entry| line('-', entry));
    let new =
        after.iter().filter(|(path, what)| before.get(*path) != Some(*what)).map(|entry| line('+', entry));
    let mut lines: Vec<_> = gone.chain(new).collect();
    lines.sort_by(|one, other| one[2..].cmp(&other[2..]));
    lines
}
