//! A listening socket of this node's one agent, in a directory that is root's.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as Probe;
use std::path::{Path, PathBuf};

use octavia_bridge_ipam::trust::{self, Untrusted};
use tokio::net::{UnixListener, UnixStream};

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{attempt} {}", path.display())]
    Io { attempt: &'static str, path: PathBuf, source: io::Error },
    #[error("another process answers on {}; stop that agent, or choose another path with {flag}", path.display())]
    Taken { path: PathBuf, flag: &'static str },
    #[error("{} is not a socket; it was left alone, so remove it or choose another path with {flag}", path.display())]
    Foreign { path: PathBuf, flag: &'static str },
    #[error("listen on {}: others could put a socket of their own there", path.display())]
    Untrusted { path: PathBuf, source: Untrusted },
}

/// A listening socket. Its file goes with it.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode: what a later agent made in the same place is not ours to remove.
    identity: (u64, u64),
}

impl Socket {
    /// Listens at `path`, which `flag` of the command line names; its directory is made, for its owner only, if it is missing.
    /// The socket of an agent that was killed is replaced.
    ///
    /// # Errors
    /// A directory in which others may write, another agent, or the kernel's refusal.
    pub(crate) fn bind(path: &Path, flag: &'static str) -> Result<Self, Error> {
        let failed = |attempt| move |source| Error::Io { attempt, path: path.to_owned(), source };
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .map_err(failed("make the directory of"))?;
        }
        let directory = std::path::absolute(path).map_err(failed("find"))?;
        let directory = directory.parent().unwrap_or(&directory);
        trust::examine(directory).map_err(|source| Error::Untrusted { path: path.to_owned(), source })?;
        match fs::symlink_metadata(path) {
            Ok(there) if !there.file_type().is_socket() => {
                return Err(Error::Foreign { path: path.to_owned(), flag });
            }
            Ok(_) => match Probe::connect(path) {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    fs::remove_file(path).map_err(failed("remove the stale socket"))?;
                }
                // It listens, or is too busy to say.
                Ok(_) | Err(_) => return Err(Error::Taken { path: path.to_owned(), flag }),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed("look at")(error)),
        }
        let listener = UnixListener::bind(path).map_err(failed("listen on"))?;
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed("close to others"))?;
        let identity = identity(path).map_err(failed("look at"))?;
        Ok(Self { listener, path: path.to_owned(), identity })
    }

    /// Whether clients still find it at its path.
    pub(crate) fn stands(&self) -> bool {
        identity(&self.path).is_ok_and(|now| now == self.identity)
    }

    /// Whether clients find it, whenever asked, or why not.
    pub(crate) fn watch(&self) -> impl Fn() -> Result<(), String> + Send + Sync + 'static {
        let (path, ours) = (self.path.clone(), self.identity);
        move || match identity(&path) {
            Ok(there) if there == ours => Ok(()),
            Ok(_) => Err(format!("another program has replaced {}; restart the agent", path.display())),
            Err(error) => Err(format!("{} is gone ({error}); restart the agent", path.display())),
        }
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.stands()
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// Whether the process at the other end is root's, or of the user who runs this one: the kernel's word, from when the other
/// end was made (`SO_PEERCRED`).
///
/// # Errors
/// The kernel's.
pub(crate) fn is_of_root(stream: &UnixStream) -> io::Result<bool> {
    let user = stream.peer_cred()?.uid();
    Ok(user == 0 || user == rustix::process::geteuid().as_raw())
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|there| (there.dev(), there.ino()))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("run/agent.sock");
        let first = Socket::bind(&path, "--socket").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o700, 0o600));
        assert!(matches!(Socket::bind(&path, "--socket"), Err(Error::Taken { .. })));
        drop(first);
        assert!(!path.exists());
        // What a killed agent leaves.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let second = Socket::bind(&path, "--socket").unwrap();
        // An agent started by hand in its place: the file is not the second one's any more.
        fs::remove_file(&path).unwrap();
        let third = Socket::bind(&path, "--socket").unwrap();
        assert!(second.watch()().unwrap_err().contains("another program has replaced"));
        assert_eq!(third.watch()(), Ok(()));
        drop(second);
        assert!(path.exists());
        drop(third);
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("agent.sock");
        fs::write(&path, "notes").unwrap();
        assert!(matches!(Socket::bind(&path, "--socket"), Err(Error::Foreign { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "notes");
    }

    #[tokio::test]
    async fn a_directory_in_which_others_may_write_is_refused() {
        let dir = TempDir::new().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        let error = Socket::bind(&dir.path().join("agent.sock"), "--socket").unwrap_err();
        assert!(
            matches!(error, Error::Untrusted { source: Untrusted::Writable { mode: 0o777, .. }, .. }),
            "{error}"
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
