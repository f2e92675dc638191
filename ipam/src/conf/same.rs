//! Whether two paths lead to one directory, whatever links and mounts are on the way.
//!
//! A `dataDir` has its run directory by its name. By a second name it would have a second one, and with it a second pool with the
//! same addresses, or an agent that finds no records.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::places::{DATA_DIR, RUN_DIR, joined, run_dir, usual};

/// The name without links that all networks, and the agent, have to use for this `dataDir`. Where [`DATA_DIR`] itself leads is the
/// administrator's choice; that name, at each call of the plugin, costs no look.
pub fn one_name(path: &Path) -> PathBuf {
    if path == Path::new(DATA_DIR) {
        return DATA_DIR.into();
    }
    let real = without_links(path);
    match below(&real, Path::new(DATA_DIR)) {
        Some(below) => joined(Path::new(DATA_DIR), below),
        None => real,
    }
}

/// Whether a `dataDir` leads to the run directories of other networks. As in [`one_name`], [`DATA_DIR`] costs no look.
pub fn is_among_run_dirs(path: &Path) -> bool {
    path != Path::new(DATA_DIR)
        && is_below(&usual(path), Path::new(RUN_DIR))
        && !is_same(path, &run_dir(path))
}

/// Whether a `dataDir` is where its run directory is: then an older release left nothing there that is not in use.
pub fn is_in_memory(data_dir: &Path) -> bool {
    is_same(data_dir, &run_dir(data_dir)) || is_below(&usual(data_dir), Path::new(RUN_DIR))
}

/// Device and inode of the nearest directory that exists, and the path below it.
fn position(path: &Path) -> Option<(u64, u64, PathBuf)> {
    for existing in path.ancestors() {
        if let Ok(there) = fs::metadata(existing) {
            let below = path.strip_prefix(existing).ok()?.to_owned();
            return Some((there.dev(), there.ino(), below));
        }
    }
    None
}

/// Whether the two are one directory, or will be once they are made.
fn is_same(one: &Path, other: &Path) -> bool {
    one == other || position(one).is_some_and(|one| position(other) == Some(one))
}

/// Whether `path` is `directory`, or below it.
fn is_below(path: &Path, directory: &Path) -> bool {
    path.starts_with(directory) || below(&without_links(path), directory).is_some()
}

/// The path without links, as far as it exists.
fn without_links(path: &Path) -> PathBuf {
    for existing in path.ancestors() {
        if let (Ok(real), Ok(below)) = (existing.canonicalize(), path.strip_prefix(existing)) {
            return real.join(below).components().collect();
        }
    }
    path.to_owned()
}

/// What of a path [`without_links`] is below `directory`; empty if it is the directory.
fn below<'a>(path: &'a Path, directory: &Path) -> Option<&'a Path> {
    let identity = |path: &Path| fs::metadata(path).ok().map(|it| (it.dev(), it.ino()));
    // A directory that is mounted twice has two names, and one that is not made yet has a name only.
    if let Some(it) = identity(directory) {
        let above = path.ancestors().find(|above| identity(above) == Some(it))?;
        return path.strip_prefix(above).ok();
    }
    path.strip_prefix(without_links(directory)).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_lead_to_the_same_directory_before_it_is_made_and_after() {
        let folder = tempfile::tempdir_in("/run").unwrap();
        let [real, link, other] = ["real", "link", "other"].map(|name| folder.path().join(name));
        fs::create_dir(&real).unwrap();
        fs::create_dir(&other).unwrap();
        symlink(&real, &link).unwrap();
        for _ in ["missing", "made"] {
            assert!(is_same(&real.join("a/b"), &link.join("a/b")));
            assert!(!is_same(&real.join("a/b"), &link.join("a")));
            assert!(!is_same(&real.join("a"), &other.join("a")));
            assert!(is_below(&link.join("a/b"), &real) && is_below(&real.join("a"), &link));
            assert!(!is_below(&other.join("a"), &real) && !is_below(folder.path(), &real));
            fs::create_dir_all(real.join("a/b")).unwrap();
        }
    }

    #[test]
    fn the_run_directories_of_networks_are_known_by_all_their_names() {
        for (path, in_memory, among) in [
            ("/run/octavia-bridge", true, true),
            ("/var/run/octavia-bridge/blue/", true, true),
            ("/run/blue", true, false),
            ("/var/run/blue/", true, false),
            ("/var/lib/octavia-bridge/blue", false, false),
        ] {
            let path = Path::new(path);
            assert_eq!((is_in_memory(path), is_among_run_dirs(path)), (in_memory, among), "{path:?}");
        }
    }

    #[test]
    fn the_one_name_ends_without_a_slash() {
        for (path, name) in [
            ("/var/lib/octavia-bridge/", "/var/lib/octavia-bridge"),
            ("/var/lib/octavia-bridge/blue/", "/var/lib/octavia-bridge/blue"),
            ("/run/blue/", "/run/blue"),
        ] {
            assert_eq!(one_name(Path::new(path)).as_os_str(), name);
        }
    }
}
