//! Whether two paths lead to one directory, whatever links and mounts are on the way.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

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
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    one == other || position(one).is_some_and(|one| position(other) == Some(one))
}

/// Whether `path` is `directory`, or below it.
pub(super) fn is_below(path: &Path, directory: &Path) -> bool {
    path.starts_with(directory) || below(&without_links(path), directory).is_some()
}

/// The path without links, as far as it exists.
pub(super) fn without_links(path: &Path) -> PathBuf {
    for existing in path.ancestors() {
        if let (Ok(real), Ok(below)) = (existing.canonicalize(), path.strip_prefix(existing)) {
            return real.join(below).components().collect();
        }
    }
    path.to_owned()
}

/// What of a path [`without_links`] is below `directory`; empty if it is the directory.
pub(super) fn below<'a>(path: &'a Path, directory: &Path) -> Option<&'a Path> {
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
    use super::*;
    use std::os::unix::fs::symlink;

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
}
