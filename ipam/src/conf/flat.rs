//! whereabouts' flat file: a bare `ipam` block on the node's disk, whose fields stand in for those that a network
//! leaves out.
//!
//! Configurations written for whereabouts count on it: at least for its log, at most for the ranges. The rules are
//! whereabouts': the first file that exists is the only one, and a field of the network's own block wins unless it is
//! empty (absent, null, false, 0, an empty text, list or object), see [`crate::document::Object::fill_from`]. That no
//! file exists, an error there, is none here, since the one thing whereabouts cannot do without is the kubeconfig in it. And
//! networks of K3s, which have to name the file for whereabouts, need not name it here: the folders of distributions
//! come after whereabouts' own.
//!
//! The network's author chooses the file and root reads it. So it lies in one of whereabouts' folders, which may be links (the
//! snap of microk8s is one), is a regular file itself, and errors never repeat its text.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use nix::sys::statfs::{
    BPF_FS_MAGIC, CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, DEBUGFS_MAGIC, FsType, NSFS_MAGIC,
    PROC_SUPER_MAGIC, SECURITYFS_MAGIC, SELINUX_MAGIC, SMACK_MAGIC, SYSFS_MAGIC, TRACEFS_MAGIC, fstatfs,
};
use serde_json::{Map, Value};

use crate::document::{self, FieldError, Object};
use crate::state_file;

use super::{Datastore, keys, places};

/// The file's name where the network does not say another.
const NAME: &str = "whereabouts.conf";
/// The kernel's own file systems.
const PSEUDO: [FsType; 11] = [
    BPF_FS_MAGIC,
    CGROUP_SUPER_MAGIC,
    CGROUP2_SUPER_MAGIC,
    DEBUGFS_MAGIC,
    NSFS_MAGIC,
    PROC_SUPER_MAGIC,
    SECURITYFS_MAGIC,
    SELINUX_MAGIC,
    SMACK_MAGIC,
    SYSFS_MAGIC,
    TRACEFS_MAGIC,
];
/// In bytes. Real ones have a few hundred.
const LONGEST: u64 = 1 << 20;

/// Fields that a flat file does not set. whereabouts never takes `enable_overlapping_ranges` from it and has only one
/// store, `configuration_path` means something else in it, and the rest is about the network.
const NOT_TAKEN: [&str; 9] = [
    "agentSocket",
    "configuration_path",
    "dataDir",
    "datastore",
    "enable_overlapping_ranges",
    "name",
    "podname",
    "podnamespace",
    "type",
];

/// A flat file that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct FlatFile {
    path: PathBuf,
    value: Value,
}

/// Why a flat file that exists cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FlatFileError {
    /// It cannot be read: its permissions, the disk, or that it is no file.
    #[error("cannot read whereabouts' flat file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// What it says is no `ipam` block.
    #[error("whereabouts' flat file {} is not a JSON object: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        why: String,
    },
}

impl FlatFile {
    /// Reads the file that applies to an `ipam` block: the one its `configuration_path` names, or else the first that
    /// exists where whereabouts looks, or where distributions keep it.
    ///
    /// `None` if there is none, if the block has `datastore` `file`, which was not written for whereabouts, or if it
    /// has a wrong value here, which [`super::Ipam::parse_over`] will name.
    pub fn of(ipam: &mut Object<'_>) -> Result<Option<Self>, FlatFileError> {
        let (Ok(Datastore::Kubernetes), Ok(named)) =
            (keys::datastore(ipam), keys::absolute_path(ipam, "configuration_path"))
        else {
            return Ok(None);
        };
        if named.as_deref().is_some_and(|path| !places::is_flat_file(path)) {
            return Ok(None);
        }
        let usual = places::FLAT_FILE_DIRS.iter().map(|folder| Path::new(folder).join(NAME));
        Self::first_of(named.into_iter().chain(usual))
    }

    fn first_of(paths: impl Iterator<Item = PathBuf>) -> Result<Option<Self>, FlatFileError> {
        for path in paths {
            let text = match read(&path) {
                Ok(text) => text,
                Err(cause) if is_absent(&cause) => continue,
                Err(source) => return Err(FlatFileError::Unreadable { path, source }),
            };
            let kind = match document::read(&text) {
                Ok(value @ Value::Object(_)) => return Ok(Some(Self { path, value })),
                // Go reads null into an empty block.
                Ok(Value::Null) => return Ok(Some(Self { path, value: Map::new().into() })),
                Ok(Value::Array(_)) => "it is a list".to_owned(),
                Ok(_) => "it is a single value".to_owned(),
                Err(cause) => cause.to_string(),
            };
            return Err(FlatFileError::Malformed { path, why: kind });
        }
        Ok(None)
    }

    /// Where it was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the field at this path is one of the file's.
    pub(super) fn is_origin_of(&self, field: &str) -> bool {
        field.strip_prefix(&*self.path.to_string_lossy()).is_some_and(|rest| rest.starts_with(": "))
    }

    /// Lets the file's fields stand in for those that are empty in `ipam`, and returns their names. Errors about them
    /// will name the file.
    pub(super) fn complete<'a>(&'a self, ipam: &mut Object<'a>) -> Result<Vec<String>, FieldError> {
        let file = Object::at(self.path.display().to_string(), &self.value)?;
        Ok(ipam.fill_from(&file, &NOT_TAKEN))
    }
}

/// Reads a file of the node's disk. The kernel's own file systems are none: a file of theirs may never end, keep its reader
/// waiting, or do something when it is read.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = state_file::open(path, OpenOptions::new().read(true))?;
    let kind = fstatfs(&file)?.filesystem_type();
    if PSEUDO.contains(&kind) {
        return Err(io::Error::new(
            ErrorKind::InvalidData,
            "it is not a file of a disk but one of the kernel's",
        ));
    }
    state_file::read_from(&file, LONGEST)
}

/// A file where a folder of the path should be means the same as no folder.
fn is_absent(cause: &io::Error) -> bool {
    matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use serde_json::json;
    use tempfile::TempDir;

    use super::super::{ConfError, Ipam};
    use super::*;

    fn put(folder: &TempDir, name: &str, text: &str) -> PathBuf {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn found(paths: &[&Path]) -> Result<Option<FlatFile>, FlatFileError> {
        FlatFile::first_of(paths.iter().map(|path| path.to_path_buf()))
    }

    /// A block read with a flat file of this text.
    fn over(text: &Value, block: &Value) -> Result<Ipam, ConfError> {
        let folder = TempDir::new().unwrap();
        let path = put(&folder, "flat.conf", &text.to_string());
        let file = found(&[&path]).unwrap().unwrap();
        Ipam::parse_over(Object::at("ipam".to_owned(), block).unwrap(), Some(&file), false)
    }

    #[test]
    fn the_first_file_that_exists_is_the_only_one() {
        let folder = TempDir::new().unwrap();
        let missing = folder.path().join("missing/whereabouts.conf");
        let first = put(&folder, "first", "{}");
        let second = put(&folder, "second", r#"{"range": "10.0.0.0/24"}"#);
        let below = second.join("whereabouts.conf");
        assert_eq!(found(&[&missing, &below, &first, &second]).unwrap().unwrap().path(), first);
        assert_eq!(found(&[&missing]).unwrap(), None);
        assert_eq!(found(&[]).unwrap(), None);
    }

    #[test]
    fn no_file_of_another_place_is_looked_at() {
        let folder = TempDir::new().unwrap();
        let path = put(&folder, "own.conf", "{}");
        for (block, why) in [
            (json!({"configuration_path": path}), "own.conf\" is not a file of whereabouts; name one"),
            (json!({"configuration_path": "/proc/kmsg"}), "\"/proc/kmsg\" is not a file of whereabouts"),
            (json!({"configuration_path": path, "datastore": "file"}), "is not read with datastore \"file\""),
            (json!({"configuration_path": "own.conf"}), "is not an absolute path"),
        ] {
            let mut ipam = Object::at("ipam".to_owned(), &block).unwrap();
            assert_eq!(FlatFile::of(&mut ipam).unwrap(), None, "{block}");
            let error = Ipam::parse_over(ipam, None, false).unwrap_err().to_string();
            assert!(error.starts_with("ipam.configuration_path: ") && error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_none_is_named() {
        let folder = TempDir::new().unwrap();
        let fifo = folder.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
        let link = folder.path().join("link");
        symlink(put(&folder, "secret", "{}"), &link).unwrap();
        let proc = Path::new("/proc/self/status");
        for path in [folder.path(), &fifo, &link, proc, &put(&folder, "long", &" ".repeat(1 << 21))] {
            let error = found(&[path]).unwrap_err();
            assert!(matches!(error, FlatFileError::Unreadable { .. }), "{error:?}");
            assert!(error.to_string().ends_with(&path.display().to_string()), "{error}");
        }
        for (text, why) in [
            ("", "EOF"),
            ("{", "EOF"),
            (r#"["s3cret"]"#, "it is a list"),
            (r#""s3cret""#, "it is a single value"),
            (r#"{"a":1}s3cret"#, "trailing characters at line 1 column 8"),
            ("s3cret", "expected a value at line 1 column 1"),
        ] {
            let path = put(&folder, "text", text);
            let error = found(&[&path]).unwrap_err().to_string();
            assert!(error.contains(&path.display().to_string()) && error.contains(why), "{text}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
        let empty = found(&[&put(&folder, "null", "null")]).unwrap().unwrap();
        assert_eq!(empty.value, json!({}));
    }

    #[test]
    fn a_folder_on_the_way_may_be_a_link() {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("1234")).unwrap();
        fs::write(folder.path().join("1234/whereabouts.conf"), "{}").unwrap();
        symlink("1234", folder.path().join("current")).unwrap();
        assert!(found(&[&folder.path().join("current/whereabouts.conf")]).unwrap().is_some());
    }

    #[test]
    fn what_the_network_says_wins_and_what_it_leaves_empty_is_filled() {
        let file = json!({
            "Range": "10.9.0.0/24", "exclude": ["172.23.0.40/32"], "gateway": "172.23.0.1", "network_name": "blue",
            "routes": [{"dst": "172.24.0.0/16"}], "log_file": "/var/log/whereabouts.log", "log_level": "verbose",
            "dns": {"search": ["a.b"]},
        });
        let block = json!({
            "type": "whereabouts", "range": "172.23.0.0/24", "exclude": ["172.23.0.50/32"], "gateway": "",
            "routes": [], "LOG_LEVEL": "error", "dns": {"search": []},
        });
        let ipam = over(&file, &block).unwrap();
        assert_eq!(ipam.ranges.len(), 1);
        assert_eq!(ipam.ranges[0].subnet().to_string(), "172.23.0.0/24");
        assert_eq!(ipam.ranges[0].exclude(), ["172.23.0.50/32".parse().unwrap()]);
        assert_eq!(ipam.gateway.unwrap().to_string(), "172.23.0.1");
        assert_eq!(ipam.network_name.as_deref(), Some("blue"));
        assert_eq!(ipam.routes.len(), 1, "an empty list is no list");
        assert_eq!(ipam.log_file.unwrap(), Path::new("/var/log/whereabouts.log"));
        assert_eq!(ipam.log_level.as_deref(), Some("error"));
        assert_eq!(ipam.dns.search, ["a.b"]);
        let names: Vec<&str> = ipam.completed.iter().filter_map(|name| name.rsplit(' ').next()).collect();
        assert_eq!(names, ["gateway", "network_name", "routes", "log_file", "dns"]);
        // Its ranges serve networks that name none.
        let whole = over(&file, &json!({"type": "whereabouts", "routes": [{"dst": "172.24.0.0/16"}]}));
        assert!(
            whole.unwrap_err().to_string().contains("gateway"),
            "the file's gateway is not in the file's range"
        );
    }

    #[test]
    fn what_whereabouts_does_not_take_from_it_has_no_effect() {
        let file = json!({
            "type": "macvlan", "datastore": "etcd", "etcd_host": "10.0.0.1:2379", "enable_overlapping_ranges": false,
            "configuration_path": "/etc/cni/net.d/whereabouts.d", "dataDir": 7, "agentSocket": "x",
            "kubernetes": {"kubeconfig": "/etc/x"}, "reconciler_cron_expression": "30 4 * * *",
        });
        let ipam = over(&file, &json!({"type": "whereabouts", "range": "172.23.0.0/24"})).unwrap();
        assert!(ipam.enable_overlapping_ranges);
        assert_eq!(ipam.datastore, Datastore::Kubernetes);
        assert_eq!(ipam.warnings, [""; 0]);
        let off = json!({"range": "172.23.0.0/24", "enable_overlapping_ranges": false});
        assert!(!over(&json!({"enable_overlapping_ranges": true}), &off).unwrap().enable_overlapping_ranges);
    }

    #[test]
    fn errors_name_the_file_and_the_field_and_not_the_value() {
        let block = json!({"type": "whereabouts", "range": "172.23.0.0/24"});
        for (file, expected) in [
            (json!({"gateway": "s3cret"}), "flat.conf: gateway: is not an IP address"),
            (json!({"exclude": ["s3cret"]}), "flat.conf: exclude[0]: is neither"),
            (json!({"range_start": {"s3cret": 7}}), "flat.conf: range_start: is not a string"),
            (json!({"ipRanges": [{"range": "s3cret"}]}), "flat.conf: ipRanges[0].range: is not a range"),
            (json!({"routes": [{"dst": "s3cret"}]}), "flat.conf: routes[0].dst: is not an address"),
            (json!({"network_name": "S3cret"}), "flat.conf: network_name: cannot"),
            (json!({"network_name": "s3cret.".repeat(36) + "a"}), "flat.conf: network_name: is too long"),
            (json!({"node_slice_size": "s3cret"}), "flat.conf: node_slice_size: asks for a slice"),
            (
                json!({"addresses": [{"address": "s3cret"}]}),
                "flat.conf: addresses[0].address: is not an address",
            ),
        ] {
            let error = over(&file, &block).unwrap_err().to_string();
            assert!(error.starts_with('/') && error.contains(expected), "{file}: {error}");
            assert!(!error.to_lowercase().contains("s3cret"), "{error}");
        }
        let file = json!({"rnage": "s3cret", "log_file": "/s3cret", "log_level": "s3cret"});
        let warnings = over(&file, &block).unwrap().warnings;
        assert!(warnings[0].contains("flat.conf: log_file: is not a place for logs"), "{warnings:?}");
        assert!(warnings[1].contains("flat.conf: log_level: is not a log level"), "{warnings:?}");
        assert!(warnings[2].contains("flat.conf: rnage: unknown key in ipam"), "{warnings:?}");
        assert!(!warnings.concat().contains("s3cret"), "{warnings:?}");
        let strictly = json!({"type": "whereabouts", "range": "172.23.0.0/24"});
        let folder = TempDir::new().unwrap();
        let file = found(&[&put(&folder, "flat.conf", r#"{"log_level": "s3cret"}"#)]).unwrap();
        let error = Ipam::parse_over(Object::at("ipam".to_owned(), &strictly).unwrap(), file.as_ref(), true);
        assert!(error.unwrap_err().to_string().contains("flat.conf: log_level: is not a log level"));
    }
}
