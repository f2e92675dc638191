//! What the program keeps on disk: the last good desired state, a lock, and the journal's place.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::desired::{Choice, Text};

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{attempt}")]
    Io { attempt: String, source: io::Error },
    #[error("another octavia-bridge-agent is at work with {}; stop it first", .0.display())]
    Busy(PathBuf),
}

/// The desired state as it was given: texts and how to read them. Reading them again, a newer version of
/// this program understands them as it would the files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) texts: Vec<Text>,
    pub(crate) choice: Choice,
}

/// The directory, locked until dropped: two that apply at once would undo each other's steps.
#[derive(Debug)]
pub(crate) struct State {
    directory: PathBuf,
    _lock: File,
}

fn failed(attempt: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let attempt = attempt.into();
    move |source| Error::Io { attempt, source }
}

impl State {
    /// Makes and locks the agent's directory below `state_dir`.
    ///
    /// # Errors
    /// [`Error::Busy`] at once if another process holds it.
    pub(crate) fn lock(state_dir: &Path) -> Result<Self, Error> {
        let directory = state_dir.join("agent");
        let shown = directory.display().to_string();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(failed(format!("make the directory {shown}")))?;
        let lock = File::open(&directory).map_err(failed(format!("open {shown}")))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { directory, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Error::Busy(directory)),
            Err(TryLockError::Error(cause)) => Err(failed(format!("lock {shown}"))(cause)),
        }
    }

    /// Where the journal is.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    fn kept_path(&self) -> PathBuf {
        self.directory.join("desired.json")
    }

    /// The desired state that was last reached, if any.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub(crate) fn kept(&self) -> Result<Option<Kept>, Error> {
        let path = self.kept_path();
        let attempt = format!("read the kept state {}", path.display());
        match fs::read(&path) {
            Ok(text) => {
                serde_json::from_slice(&text).map(Some).map_err(|cause| failed(attempt)(cause.into()))
            }
            Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(failed(attempt)(cause)),
        }
    }

    /// Keeps a desired state that was reached, so that it survives a power cut. Writes nothing if it is
    /// the one kept already.
    ///
    /// # Errors
    /// Those of writing.
    pub(crate) fn keep(&self, kept: &Kept) -> Result<(), Error> {
        if self.kept().ok().flatten().as_ref() == Some(kept) {
            return Ok(());
        }
        let path = self.kept_path();
        let draft = path.with_extension("json.tmp");
        let write = || {
            let mut file = File::create(&draft)?;
            file.write_all(&serde_json::to_vec_pretty(kept)?)?;
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            File::open(&self.directory)?.sync_all()
        };
        write().map_err(failed(format!("keep the desired state in {}", path.display())))
    }

    /// Keeps nothing any more.
    ///
    /// # Errors
    /// Those of removing a file that is there.
    pub(crate) fn forget(&self) -> Result<(), Error> {
        match fs::remove_file(self.kept_path()) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => {
                Err(failed(format!("remove {}", self.kept_path().display()))(cause))
            }
            _ => Ok(()),
        }
    }
}
