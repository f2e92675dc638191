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
    if path.starts_with(directory) {
        return true;
    }
    let existing = path.ancestors().find_map(|path| path.canonicalize().ok());
    let (Some(existing), Ok(directory)) = (existing, fs::metadata(directory)) else { return false };
    for above in existing.ancestors() {
        if fs::metadata(above).is_ok_and(|it| (it.dev(), it.ino()) == (directory.dev(), directory.ino())) {
            return true;
        }
    }
    false
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
