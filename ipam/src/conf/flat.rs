//! whereabouts' flat file: a bare `ipam` block on the node's disk, whose fields stand in for those that a network
//! leaves out.
//!
//! Configurations written for whereabouts count on it: at least for its log, at most for the ranges. The rules are
//! whereabouts': the first file that exists is the only one, and a field of the network's own block wins unless it is
//! empty (absent, null, false, 0, an empty text, list or object), see [`crate::document::Object::fill_from`]. That no
//! file exists, an error there, is none here, since the one thing whereabouts cannot do without is the kubeconfig in it.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::document::{self, FieldError, Object};

use super::{Datastore, keys};

/// Where whereabouts looks when the network names no file, in its order.
const PATHS: [&str; 3] = [
    "/etc/kubernetes/cni/net.d/whereabouts.d/whereabouts.conf",
    "/etc/cni/net.d/whereabouts.d/whereabouts.conf",
    "/host/etc/cni/net.d/whereabouts.d/whereabouts.conf",
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
    #[error("whereabouts' flat file {} is no JSON object: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        why: String,
    },
}

impl FlatFile {
    /// Reads the file that applies to an `ipam` block: the one its `configuration_path` names, or else the first that
    /// exists where whereabouts looks.
    ///
    /// `None` if there is none, if the block has `datastore` `file`, which was not written for whereabouts, or if it
    /// has a wrong value here, which [`super::Ipam::parse_over`] will name.
    pub fn of(ipam: &mut Object<'_>) -> Result<Option<Self>, FlatFileError> {
        let (Ok(Datastore::Kubernetes), Ok(named)) =
            (keys::datastore(ipam), keys::absolute_path(ipam, "configuration_path"))
        else {
            return Ok(None);
        };
        Self::first_of(named.as_deref().into_iter().chain(PATHS.iter().map(Path::new)))
    }

    fn first_of<'a>(paths: impl Iterator<Item = &'a Path>) -> Result<Option<Self>, FlatFileError> {
        for path in paths {
            let text = match read(path) {
                Ok(text) => text,
                Err(cause) if is_absent(&cause) => continue,
                Err(source) => return Err(FlatFileError::Unreadable { path: path.to_owned(), source }),
            };
            let malformed = |why: String| FlatFileError::Malformed { path: path.to_owned(), why };
            let value = document::read(&text).map_err(|cause| malformed(cause.to_string()))?;
            return match value {
                Value::Object(_) => Ok(Some(Self { path: path.to_owned(), value })),
                // Go reads null into an empty block.
                Value::Null => Ok(Some(Self { path: path.to_owned(), value: Map::new().into() })),
                other => Err(malformed(format!("it is {other:.40}"))),
            };
        }
        Ok(None)
    }

    /// Where it was found.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets the file's fields stand in for those that are empty in `ipam`, and returns their names. Errors about them
    /// will name the file.
    pub(super) fn complete<'a>(&'a self, ipam: &mut Object<'a>) -> Result<Vec<String>, FieldError> {
        let file = Object::at(self.path.display().to_string(), &self.value)?;
        Ok(ipam.fill_from(&file, &NOT_TAKEN))
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a FIFO would wait for its writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidData, "it is no regular file"));
    }
    let mut text = Vec::new();
    File::open(path)?.take(LONGEST + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LONGEST {
        return Err(io::Error::new(ErrorKind::InvalidData, format!("it is longer than {LONGEST} bytes")));
    }
    Ok(text)
}

/// A file where a folder of the path should be means the same as no folder.
fn is_absent(cause: &io::Error) -> bool {
    matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
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
        FlatFile::first_of(paths.iter().copied())
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
    fn the_networks_own_file_comes_first_and_is_for_whereabouts_only() {
        let folder = TempDir::new().unwrap();
        let path = put(&folder, "own.conf", "{}");
        for (block, expected) in [
            (json!({"configuration_path": path}), Some(path.as_path())),
            (json!({"configuration_path": path, "datastore": "kubernetes"}), Some(path.as_path())),
            (json!({"configuration_path": path, "datastore": "file"}), None),
            (json!({"configuration_path": "own.conf"}), None),
        ] {
            let mut ipam = Object::at("ipam".to_owned(), &block).unwrap();
            let file = FlatFile::of(&mut ipam).unwrap();
            assert_eq!(file.as_ref().map(FlatFile::path), expected, "{block}");
        }
    }

    #[test]
    fn a_file_that_is_none_is_named() {
        let folder = TempDir::new().unwrap();
        let fifo = folder.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
        for path in [folder.path(), &fifo, &put(&folder, "long", &" ".repeat(1 << 21))] {
            let error = found(&[path]).unwrap_err();
            assert!(matches!(error, FlatFileError::Unreadable { .. }), "{error:?}");
            assert!(error.to_string().ends_with(&path.display().to_string()), "{error}");
        }
        for (text, why) in [("", "EOF"), ("{", "EOF"), ("[1]", "it is [1]"), (r#"{"a":1}x"#, "trailing")] {
            let path = put(&folder, "text", text);
            let error = found(&[&path]).unwrap_err().to_string();
            assert!(error.contains(&path.display().to_string()) && error.contains(why), "{text}: {error}");
        }
        let empty = found(&[&put(&folder, "null", "null")]).unwrap().unwrap();
        assert_eq!(empty.value, json!({}));
    }

    #[test]
    fn what_the_network_says_wins_and_what_it_leaves_empty_is_filled() {
        let file = json!({
            "Range": "10.9.0.0/24", "exclude": ["172.23.0.40/32"], "gateway": "172.23.0.1", "network_name": "blue",
            "routes": [{"dst": "172.24.0.0/16"}], "log_file": "/tmp/whereabouts.log", "log_level": "verbose",
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
        assert_eq!(ipam.log_file.unwrap(), Path::new("/tmp/whereabouts.log"));
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
    fn errors_name_the_file_and_the_field() {
        let block = json!({"type": "whereabouts", "range": "172.23.0.0/24"});
        for (file, expected) in [
            (json!({"gateway": "gw"}), "flat.conf: gateway: \"gw\" is no IP address"),
            (json!({"exclude": ["bogus"]}), "flat.conf: exclude[0]: \"bogus\" is neither"),
            (json!({"range_start": 7}), "flat.conf: range_start: 7 is no string"),
            (
                json!({"ipRanges": [{"range": "bogus"}]}),
                "flat.conf: ipRanges[0].range: \"bogus\" is no range",
            ),
            (json!({"routes": [{"dst": "x"}]}), "flat.conf: routes[0].dst: \"x\" is no address"),
            (json!({"network_name": "Net_A"}), "flat.conf: network_name: \"Net_A\" cannot"),
            (json!({"log_file": "w.log"}), "flat.conf: log_file: \"w.log\" is no absolute path"),
            (json!({"node_slice_size": "/26"}), "flat.conf: node_slice_size: \"/26\" asks for a slice"),
            (
                json!({"addresses": [{"address": "10.0.0.5"}]}),
                "flat.conf: addresses[0].address: \"10.0.0.5\"",
            ),
        ] {
            let error = over(&file, &block).unwrap_err().to_string();
            assert!(error.starts_with('/') && error.contains(expected), "{file}: {error}");
        }
        let warnings = over(&json!({"rnage": "x", "log_level": "loud"}), &block).unwrap().warnings;
        assert!(warnings[0].contains("flat.conf: log_level: \"loud\""), "{warnings:?}");
        assert!(warnings[1].contains("flat.conf: rnage: is no field"), "{warnings:?}");
    }
}
