//! Whether a path of the node is in the hands of root alone.
//!
//! A program of root that reads, writes or connects at a path is led by all who can change what a component of that path stands
//! for. The rule is that of OpenSSH's `StrictModes`: each component belongs to root, and nobody else may write in it. Links are
//! followed, and judged like what they lead to.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::unistd::geteuid;

/// Owner of what is not mapped into a user namespace, unless `kernel.overflowuid` says otherwise.
const UNMAPPED: u32 = 65534;
const WRITABLE_BY_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// Why a path is not in the hands of root alone.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    /// A component belongs to another user.
    #[error("{} belongs to user {owner}, not to root", path.display())]
    Owner {
        /// The component.
        path: PathBuf,
        /// Its user id.
        owner: u32,
    },
    /// Others than the owner may write in a component.
    #[error("{} is writable by others than root (mode {mode:04o})", path.display())]
    Writable {
        /// The component.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A component does not exist, and any user may make it.
    #[error("{} does not exist, and any user may make it there", path.display())]
    Anybodys {
        /// The component.
        path: PathBuf,
    },
    /// The path is relative or has a `..`.
    #[error("{} is not an absolute path without \"..\"", path.display())]
    Relative {
        /// The path.
        path: PathBuf,
    },
    /// A component could not be looked at.
    #[error("cannot examine {}", path.display())]
    Unreadable {
        /// The component.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// Examines every component of the absolute `path`, from the root on, and every link on the way. What does not exist yet can only
/// be made by those who may write above it.
///
/// # Errors
/// The first component that another user could replace, or that cannot be looked at.
pub fn examine(path: &Path) -> Result<(), Untrusted> {
    if !path.is_absolute() || path.components().any(|component| component == Component::ParentDir) {
        return Err(Untrusted::Relative { path: path.to_owned() });
    }
    let mut reached = PathBuf::from("/");
    let mut above = look_at(&reached)?;
    judge(&reached, &above)?;
    let mut ahead = names(path);
    while let Some(name) = ahead.pop() {
        // Of a link's target. What was reached has no links in it.
        if name == ".." {
            reached.pop();
            above = look_at(&reached)?;
            continue;
        }
        reached.push(name);
        let found = match look_at(&reached) {
            Err(Untrusted::Unreadable { source, .. }) if source.kind() == ErrorKind::NotFound => {
                return match above.mode() & WRITABLE_BY_OTHERS {
                    0 => Ok(()),
                    _ => Err(Untrusted::Anybodys { path: reached }),
                };
            }
            found => found?,
        };
        if !found.is_symlink() {
            judge(&reached, &found)?;
            above = found;
            continue;
        }
        judge_owner(&reached, &found)?;
        let target = fs::read_link(&reached).map_err(unreadable(&reached))?;
        // A directory cannot be made through a link that leads nowhere, and links that lead to each other never end.
        fs::metadata(&reached).map_err(|cause| {
            let why = format!("it is a link to {}: {cause}", target.display());
            unreadable(&reached)(io::Error::new(cause.kind(), why))
        })?;
        match target.is_absolute() {
            true => reached = PathBuf::from("/"),
            false => drop(reached.pop()),
        }
        above = look_at(&reached)?;
        ahead.extend(names(&target));
    }
    Ok(())
}

/// The components of a path, the last one first.
fn names(path: &Path) -> Vec<OsString> {
    let kept = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    kept.rev().map(|part| part.as_os_str().to_owned()).collect()
}

fn judge(path: &Path, found: &Metadata) -> Result<(), Untrusted> {
    judge_owner(path, found)?;
    let mode = found.mode() & 0o7777;
    // In a sticky directory of root, others can neither remove nor rename what is not theirs.
    if mode & WRITABLE_BY_OTHERS != 0 && !(found.is_dir() && mode & STICKY != 0) {
        return Err(Untrusted::Writable { path: path.to_owned(), mode });
    }
    Ok(())
}

fn judge_owner(path: &Path, found: &Metadata) -> Result<(), Untrusted> {
    let owner = found.uid();
    // Root of the machine is not mapped into a user namespace; there its files have the owner of all strangers.
    if owner == 0 || owner == geteuid().as_raw() || (owner == unmapped() && in_user_namespace()) {
        return Ok(());
    }
    Err(Untrusted::Owner { path: path.to_owned(), owner })
}

fn look_at(path: &Path) -> Result<Metadata, Untrusted> {
    fs::symlink_metadata(path).map_err(unreadable(path))
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> Untrusted {
    let path = path.to_owned();
    move |source| Untrusted::Unreadable { path, source }
}

fn unmapped() -> u32 {
    let text = fs::read_to_string("/proc/sys/kernel/overflowuid").unwrap_or_default();
    text.trim().parse().unwrap_or(UNMAPPED)
}

/// Whether not every user of the machine has an id here: `user_namespaces(7)`.
fn in_user_namespace() -> bool {
    let Ok(map) = fs::read_to_string("/proc/self/uid_map") else { return false };
    !map.split_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use std::fs::{DirBuilder, Permissions, create_dir, set_permissions};
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown, symlink};

    use nix::sys::stat::{Mode, umask};

    use super::*;

    fn folder() -> tempfile::TempDir {
        umask(Mode::from_bits_truncate(0o022));
        tempfile::tempdir_in("/run").unwrap()
    }

    fn why(path: &Path) -> String {
        examine(path).unwrap_err().to_string()
    }

    #[test]
    fn roots_own_directories_and_what_is_missing_below_them_are_trusted() {
        let folder = folder();
        examine(folder.path()).unwrap();
        examine(&folder.path().join("none/further")).unwrap();
        symlink(folder.path(), folder.path().join("link")).unwrap();
        examine(&folder.path().join("link/none")).unwrap();
    }

    #[test]
    fn a_component_that_others_may_write_in_is_not() {
        let folder = folder();
        let open = folder.path().join("open");
        DirBuilder::new().mode(0o755).create(&open).unwrap();
        for mode in [0o775, 0o757, 0o777] {
            set_permissions(&open, Permissions::from_mode(mode)).unwrap();
            assert_eq!(
                why(&open.join("below")),
                format!("{} is writable by others than root (mode {mode:04o})", open.display())
            );
        }
        // Sticky: what root made in it stays root's. What is not there yet may be made by any user.
        set_permissions(&open, Permissions::from_mode(0o1777)).unwrap();
        create_dir(open.join("mine")).unwrap();
        examine(&open.join("mine/none")).unwrap();
        assert!(
            why(&open.join("none")).ends_with("any user may make it there"),
            "{}",
            why(&open.join("none"))
        );
    }

    #[test]
    fn a_component_of_another_user_is_not_nor_a_link_to_one() {
        let folder = folder();
        let theirs = folder.path().join("theirs");
        create_dir(&theirs).unwrap();
        if chown(&theirs, Some(1), None).is_err() {
            // In a user namespace with one user there is nobody else to give it to.
            assert!(in_user_namespace());
            return;
        }
        let belongs = format!("{} belongs to user 1, not to root", theirs.display());
        assert_eq!(why(&theirs.join("below")), belongs);
        symlink(&theirs, folder.path().join("link")).unwrap();
        assert_eq!(why(&folder.path().join("link/below")), belongs);
        // The link of another user, in a directory where any user may make one, leads wherever that user wants.
        let open = folder.path().join("open");
        create_dir(&open).unwrap();
        set_permissions(&open, Permissions::from_mode(0o1777)).unwrap();
        symlink(folder.path(), open.join("link")).unwrap();
        std::os::unix::fs::lchown(open.join("link"), Some(1), None).unwrap();
        assert!(why(&open.join("link/x")).contains("belongs to user 1"));
        // Root's link that leads there leads no better.
        symlink(open.join("link"), folder.path().join("to-link")).unwrap();
        assert!(why(&folder.path().join("to-link/x")).contains("open/link belongs to user 1"));
    }

    #[test]
    fn links_are_followed_one_by_one() {
        let folder = folder();
        create_dir(folder.path().join("real")).unwrap();
        let link = |target: &str, name: &str| symlink(target, folder.path().join(name)).unwrap();
        link("real/../real", "relative");
        link("relative", "chain");
        examine(&folder.path().join("chain/none/further")).unwrap();
        link("nowhere", "dangling");
        link("b", "a");
        link("a", "b");
        for name in ["dangling", "a"] {
            let error = examine(&folder.path().join(name).join("x")).unwrap_err();
            let Untrusted::Unreadable { path, source } = error else { panic!("{error}") };
            assert_eq!(path, folder.path().join(name));
            assert!(source.to_string().starts_with("it is a link to "), "{source}");
        }
    }

    #[test]
    fn a_path_that_climbs_is_not() {
        for path in ["/run/../etc", "run", ""] {
            assert!(matches!(examine(Path::new(path)), Err(Untrusted::Relative { .. })), "{path:?}");
        }
    }
}
