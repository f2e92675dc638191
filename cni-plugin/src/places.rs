//! Where on the node this plugin keeps its files and finds its agent.
//!
//! A network definition is written by users of a namespace, and read by root. It may choose among the places that are the
//! program's own, or that the node's administrator has opened: in [`ALLOWED`], a file of root, or in the environment that the
//! runtime gives its plugins. It cannot open one: a pod's volume, for one, is a directory of the node whose path a pod knows and
//! whose content it writes.

use std::env;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use octavia_bridge_ipam::causes::chain;
pub(crate) use octavia_bridge_ipam::conf::places::DATA_DIR;
use octavia_bridge_ipam::conf::places::{ELSEWHERE, RUN_DIR, run_dir};
use octavia_bridge_ipam::conf::same::{is_among_run_dirs, one_name};
use octavia_bridge_ipam::document::FieldError;
use octavia_bridge_ipam::{state_file, trust};
use serde::Deserialize;

use crate::protocol::{Code, Error};

mod network_fs;

/// Where the node's agent listens unless `agentSocket` says otherwise.
pub(crate) const AGENT_SOCKET: &str = "/run/octavia-bridge/agent.sock";

/// The program's own. `/var/run` is another name of `/run`.
const OWN: [&str; 3] = [RUN_DIR, "/var/run/octavia-bridge", DATA_DIR];
/// What the node's administrator allows besides: `{"directories": ["/srv/octavia-bridge"]}`.
const ALLOWED: &str = "/etc/octavia-bridge/plugin.json";
/// The same in the environment, as a list with colons.
const VARIABLE: &str = "OCTAVIA_BRIDGE_DIRECTORIES";
/// Of [`ALLOWED`], in bytes.
const LONGEST: u64 = 1 << 16;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Allowed {
    directories: Vec<PathBuf>,
}

/// What the program, or its agent, makes in such a place. A network's directory inside one of them, or in the place of a file that
/// is not there yet, would be in the way of other networks, or of the agent.
const MADE: [&str; 5] = ["agent", "attachments", "cluster-tombstones", "pools", "tombstones"];
/// How the names of files that are made in such a place end: `agent.sock`, `bridges.json`, a record.
const ENDINGS: [&str; 4] = ["json", "jsonl", "lock", "sock"];

/// Whether a network that keeps its files in the directory `path`, which it [may](require), leaves other files alone.
fn keep_apart(field: &str, path: &Path) -> Result<(), Error> {
    for name in place_of(path)?.iter().filter_map(|place| path.strip_prefix(place).ok()).flatten() {
        let ending = Path::new(name).extension();
        let elsewhere = name == ELSEWHERE && path.starts_with(DATA_DIR);
        if elsewhere
            || MADE.iter().any(|made| name == *made)
            || ENDINGS.iter().any(|it| ending == Some(OsStr::new(it)))
        {
            let remedy = format!(
                "has {:?} in it, as this program names files and directories of its own; choose another name",
                name.to_string_lossy()
            );
            return Err(FieldError::text(field, &path.to_string_lossy(), remedy).into());
        }
    }
    Ok(())
}

/// Whether the network may have its files in `path`, which it [may](require) name: it and its run directory are nobody else's, and
/// what is written there stays on this node.
pub(crate) fn require_own(field: &str, path: &Path) -> Result<(), Error> {
    keep_apart(field, path)?;
    if is_among_run_dirs(path) {
        let remedy = format!(
            "is in {RUN_DIR}, where the files of all networks and of the agent are; choose a directory below {DATA_DIR}"
        );
        return Err(FieldError::text(field, &path.to_string_lossy(), remedy).into());
    }
    let name = one_name(path);
    if run_dir(&name) != run_dir(path) {
        let name = name.display();
        let remedy = format!(
            "leads to {name}; by two names one directory would have two run directories, and two pools with the same addresses; \
             write {name}"
        );
        return Err(FieldError::text(field, &path.to_string_lossy(), remedy).into());
    }
    in_roots_hands(field, &run_dir(path))?;
    match network_fs::kind(path) {
        None => Ok(()),
        Some(kind) => {
            let remedy = format!(
                "is on a network file system ({kind}): locks and files of several nodes would meet there; choose a directory on \
                 a disk of the node"
            );
            Err(FieldError::text(field, &path.to_string_lossy(), remedy).into())
        }
    }
}

/// Whether the network may name `path` in `field`: below a place of ours or the administrator's, and in the hands of root alone.
pub(crate) fn require(field: &str, path: &Path) -> Result<(), Error> {
    let wrong = |remedy: String| Error::from(FieldError::text(field, &path.to_string_lossy(), remedy));
    if path.components().any(|component| component == Component::ParentDir) {
        return Err(wrong("must not contain \"..\"".into()));
    }
    if place_of(path)?.is_none() {
        let own = match field {
            "dataDir" => DATA_DIR.to_owned(),
            _ => format!("{RUN_DIR} or {DATA_DIR}"),
        };
        return Err(wrong(format!(
            "is not below {own}; to use another directory, the node's administrator lists it in {ALLOWED} as \
             {{\"directories\": [...]}}"
        )));
    }
    in_roots_hands(field, path)
}

fn in_roots_hands(field: &str, path: &Path) -> Result<(), Error> {
    trust::examine(path).map_err(|cause| {
        let remedy = format!(
            "is not under root's control alone: {}; every directory of the path must belong to root and be writable only by root",
            chain(&cause)
        );
        FieldError::text(field, &path.to_string_lossy(), remedy).into()
    })
}

/// The place that `path` is in; of several that the administrator has opened, the innermost.
fn place_of(path: &Path) -> Result<Option<PathBuf>, Error> {
    let own = OWN.iter().find(|place| path.starts_with(place));
    if let Some(place) = own {
        return Ok(Some(place.into()));
    }
    let allowed = allowed()?.into_iter().filter(|place| path.starts_with(place));
    Ok(allowed.max_by_key(|place| place.iter().count()))
}

/// The directories that the administrator has opened.
fn allowed() -> Result<Vec<PathBuf>, Error> {
    let mut places: Vec<PathBuf> = match env::var_os(VARIABLE) {
        Some(list) => env::split_paths(&list).collect(),
        None => Vec::new(),
    };
    places.extend(read(Path::new(ALLOWED))?);
    // The root would open everything, and a relative path means something else in each working directory.
    places.retain(|place| place.is_absolute() && place.parent().is_some());
    Ok(places)
}

fn read(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let unusable = |why: &str| {
        Error::new(Code::InvalidConfig, format!("{}: {why}", path.display()))
            .with_details("write {\"directories\": [\"/absolute/path\"]}; the file must be root's")
    };
    let text = match state_file::read(path, LONGEST) {
        Ok(text) => text,
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(unusable(&cause.to_string())),
    };
    trust::examine(path).map_err(|cause| unusable(&chain(&cause)))?;
    let allowed: Allowed = serde_json::from_slice(&text).map_err(|cause| unusable(&cause.to_string()))?;
    Ok(allowed.directories)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_compared_by_components_and_does_not_climb() {
        for path in
            ["/var/lib/octavia-bridge", "/run//octavia-bridge/./agent.sock", "/var/lib/octavia-bridge/x/y"]
        {
            require("dataDir", Path::new(path)).unwrap();
        }
        for path in ["/var/lib/octavia-bridge2", "/var/lib", "/", "/srv/x"] {
            for (field, words) in [
                ("dataDir", "is not below /var/lib/octavia-bridge"),
                ("agentSocket", "is not below /run/octavia-bridge or /var/lib/octavia-bridge"),
            ] {
                let error = require(field, Path::new(path)).unwrap_err();
                assert_eq!(error.code, Code::InvalidConfig);
                assert!(error.msg.contains(words), "{error}");
            }
        }
        let error = require("dataDir", Path::new("/var/lib/octavia-bridge/../kubelet")).unwrap_err();
        assert!(error.msg.contains("must not contain"), "{error}");
    }

    #[test]
    fn a_network_has_no_files_of_its_own_in_the_run_directory_of_all() {
        for path in [
            "/run/octavia-bridge",
            "/run//octavia-bridge/blue",
            "/var/run/octavia-bridge/",
            "/var/run/octavia-bridge/blue/b",
        ] {
            let error = require_own("dataDir", Path::new(path)).unwrap_err();
            let words = ["dataDir", path, "choose a directory below /var/lib/octavia-bridge"];
            assert!(words.iter().all(|words| error.msg.contains(words)), "{error}");
            assert_eq!(error.code, Code::InvalidConfig);
        }
    }

    #[test]
    fn a_directory_has_one_name() {
        let folder = tempfile::tempdir_in("/run").unwrap();
        let [real, link] = ["real", "link"].map(|name| folder.path().join(name));
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        for below in ["", "a/b"] {
            require_own("dataDir", &real.join(below)).unwrap();
            let error = require_own("dataDir", &link.join(below)).unwrap_err();
            let right = format!("write {}", real.join(below).components().collect::<PathBuf>().display());
            assert!(error.code == Code::InvalidConfig && error.msg.ends_with(&right), "{error}");
        }
    }

    #[test]
    fn a_directory_is_not_in_the_way_of_other_files() {
        for path in ["/var/lib/octavia-bridge", "/var/lib/octavia-bridge/blue.net", "/run/octavia-bridge/a/b"]
        {
            keep_apart("dataDir", Path::new(path)).unwrap();
        }
        for path in [
            "/run/octavia-bridge/agent.sock",
            "/run/octavia-bridge/health.sock/x",
            "/var/lib/octavia-bridge/agent/x",
            "/var/lib/octavia-bridge/pools/172.23.0.0-24.json",
            "/var/lib/octavia-bridge/attachments/id@net1.jsonl",
            "/var/lib/octavia-bridge/blue/tombstones",
            "/var/lib/octavia-bridge/elsewhere",
        ] {
            let error = keep_apart("dataDir", Path::new(path)).unwrap_err();
            assert!(
                error.code == Code::InvalidConfig && error.msg.contains("choose another name"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_administrators_file_is_read_strictly() {
        let folder = tempfile::tempdir_in("/run").unwrap();
        let path = folder.path().join("plugin.json");
        assert_eq!(read(&path).unwrap(), Vec::<PathBuf>::new());
        std::fs::write(&path, r#"{"directories": ["/srv/x"]}"#).unwrap();
        assert_eq!(read(&path).unwrap(), [PathBuf::from("/srv/x")]);
        for text in ["", "[]", r#"{"directory": ["/srv/x"]}"#, r#"{"directories": "/srv/x"}"#] {
            std::fs::write(&path, text).unwrap();
            assert!(read(&path).unwrap_err().to_string().contains("plugin.json"), "{text}");
        }
    }
}
