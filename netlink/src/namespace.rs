//! Network namespaces: opening, identifying, working inside.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

use crate::{Error, Result};

/// The identity of a namespace. A path is not an identity: runtimes use the path of a deleted pod's
/// namespace again, and one namespace has many paths.
///
/// The kernel uses an inode number again only after its namespace is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Device number of the kernel's namespace file system.
    pub device: u64,
    /// Inode number there, the one in `net:[4026531840]`.
    pub inode: u64,
}

impl Identity {
    /// Whether the namespace that was at `path` may still exist, where nothing but the path tells: false only when nothing is
    /// there, or another one. What is there may be no namespace because a mount was covered, and then the namespace lives on.
    #[must_use]
    pub fn may_exist_at(self, path: &Path) -> bool {
        match Namespace::open(path) {
            Ok(now) => now.identity == self,
            Err(cause) => !cause.is_not_found(),
        }
    }

    /// The same where not even a link tells. A path in `/proc` ends with the process, and the namespace may live on; a directory
    /// that is missing may be one that is not mounted here, as in a container.
    #[must_use]
    pub fn may_exist_unseen_at(self, path: &Path) -> bool {
        let tells = !path.starts_with("/proc") && path.parent().is_some_and(Path::is_dir);
        match Namespace::open(path) {
            Err(cause) if cause.is_not_found() => !tells,
            _ => self.may_exist_at(path),
        }
    }
}

/// An open network namespace. It lives at least as long as this value does.
#[derive(Clone, Debug)]
pub struct Namespace {
    file: Arc<File>,
    path: PathBuf,
    identity: Identity,
}

impl Namespace {
    /// Opens the network namespace at `path`, usually `/run/netns/NAME` or `/proc/PID/ns/net`.
    ///
    /// Whether it is a *network* namespace shows when it is first entered: only an ioctl, and so unsafe code,
    /// could ask for its type.
    ///
    /// # Errors
    /// [`Error::Namespace`]: the path does not exist (then [`Error::is_not_found`]), or is not a namespace, for
    /// example because its mount is gone.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let namespace = Self::open_unchecked(path)?;
        let file_system =
            fstatfs(&*namespace.file).map_err(|errno| failure("identify", path, errno.into()))?;
        if file_system.filesystem_type() != NSFS_MAGIC {
            return Err(failure("open", path, io::Error::other("it is not a network namespace")));
        }
        Ok(namespace)
    }

    /// The namespace the calling thread is in.
    ///
    /// # Errors
    /// [`Error::Namespace`]: procfs is not mounted.
    pub fn current() -> Result<Self> {
        Self::open_unchecked(Path::new("/proc/thread-self/ns/net"))
    }

    /// Device and inode.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The path by which it was opened, for messages. The path may lead elsewhere now.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Calls `f` on a new thread inside this namespace and waits for it. For actions that depend on the
    /// thread and not on a socket: `/proc/sys/net`, new sockets.
    ///
    /// The thread ends and never returns to another namespace, so a failure cannot leave it in the wrong
    /// one.
    ///
    /// # Errors
    /// [`Error::Namespace`]: the thread cannot be created, or the namespace cannot be entered. Then `f` was
    /// not called.
    ///
    /// # Panics
    /// Only if `f` does.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        let inside = || enter(self).map(|()| f());
        thread::scope(|scope| {
            let spawned = thread::Builder::new().name("netns".into()).spawn_scoped(scope, inside);
            match spawned.map_err(|source| failure("start a thread for", &self.path, source))?.join() {
                Ok(result) => result.map_err(|source: io::Error| failure("enter", &self.path, source)),
                Err(panic) => resume_unwind(panic),
            }
        })
    }

    fn open_unchecked(path: &Path) -> Result<Self> {
        // O_NONBLOCK: opening a FIFO would otherwise wait for its writer, for ever.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map_err(|source| failure("open", path, source))?;
        let metadata = file.metadata().map_err(|source| failure("identify", path, source))?;
        Ok(Self {
            file: Arc::new(file),
            path: path.to_owned(),
            identity: Identity { device: metadata.dev(), inode: metadata.ino() },
        })
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Moves the calling thread, for good. A thread that is there already may stay: the system call requires `CAP_SYS_ADMIN` even then,
/// which a container in the host's network does not have.
pub(crate) fn enter(namespace: &Namespace) -> io::Result<()> {
    let is_there = || Namespace::current().is_ok_and(|current| current.identity == namespace.identity);
    match setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET) {
        Err(Errno::EPERM) if is_there() => Ok(()),
        // The kernel's error for a namespace of another type.
        Err(Errno::EINVAL) => Err(io::Error::other("it is not a network namespace")),
        entered => entered.map_err(io::Error::from),
    }
}

pub(crate) fn failure(verb: &str, path: &Path, source: io::Error) -> Error {
    Error::Namespace { attempt: format!("{verb} network namespace {}", path.display()), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_path_is_proof_only_where_namespaces_have_names() {
        let identity = Identity { device: 1, inode: 1 };
        for (path, may_exist, unseen) in [
            ("/run/no-such-namespace", false, false),
            ("/proc/4194304/ns/net", false, true),
            ("/run/no-such-directory/x", false, true),
            ("/run", true, true),
            ("/proc/self/ns/net", false, false),
        ] {
            let path = Path::new(path);
            let found = (identity.may_exist_at(path), identity.may_exist_unseen_at(path));
            assert_eq!(found, (may_exist, unseen), "{}", path.display());
        }
    }
}
