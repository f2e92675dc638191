//! What the program keeps on disk: the last good desired state, what the plugin is told of it, a lock, and the journal's
//! place.

mod aside;
mod bridges;
mod cut_off;
mod refused;
mod written;

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::thread::{self, JoinHandle};

use octavia_bridge_cluster::lock;
use octavia_bridge_ipam::causes::chain;
use serde::{Deserialize, Serialize};
use tokio::task::JoinError;

use crate::node::desired::{Choice, Text};
use crate::sha256;

use aside::link_aside;
pub(crate) use aside::{read, set_aside};
pub(crate) use bridges::{Bridges, NotInForce, origins};
pub(crate) use cut_off::CutOffs;
pub(crate) use refused::{Refused, in_one_line};
use written::Written;

/// The state directory unless another one is named.
pub(crate) const DEFAULT: &str = "/var/lib/octavia-bridge";
/// Its counterpart in memory.
const RUN: &str = "/run/octavia-bridge";
/// The agent's own, below the state directory.
const FOLDER: &str = "agent";
/// The thread that brings a file to the disk. Its panic ends nothing but the writing.
const THREAD: &str = "links-disk";
/// The last good desired state.
const KEPT: &str = "desired.json";

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{attempt}")]
    Io { attempt: String, source: io::Error },
    #[error("the thread that writes to the disk panicked: {0}")]
    Panicked(String),
    #[error("another octavia-bridge-agent uses {}; stop it first", .0.display())]
    Busy(PathBuf),
}

/// The desired state as it was given: texts and how to read them. Reading them again, a newer version of
/// this program understands them as it would the files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// Files.
    pub(crate) texts: Vec<Text>,
    /// Policies of the cluster that select this node, without their selectors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) policies: Vec<Text>,
    /// What of them to take.
    pub(crate) choice: Choice,
    /// Instead of `texts`, files that this release refuses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<Box<Refused>>,
}

impl Kept {
    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Text> {
        self.texts.iter().chain(&self.policies)
    }
}

/// The directory, locked until dropped: two that apply at once would undo each other's steps.
#[derive(Debug)]
pub(crate) struct State {
    directory: PathBuf,
    journal: PathBuf,
    /// There may be plugins at work that do not know yet what they were told last.
    unheard: AtomicBool,
    /// Two threads may want to keep something.
    writing: Mutex<()>,
    /// What an older release may find, or has replaced.
    written: Mutex<Written>,
    _lock: File,
}

impl Error {
    pub(crate) fn panicked(panic: &JoinError) -> Self {
        Self::Panicked(panic.to_string())
    }
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
        let directory = Self::folder(state_dir);
        let shown = directory.display().to_string();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(failed(format!("make the directory {shown}")))?;
        let lock = File::open(&directory).map_err(failed(format!("open {shown}")))?;
        match lock.try_lock() {
            Ok(()) => {
                let journal = Self::journal_folder(state_dir);
                Ok(Self {
                    written: Mutex::new(written::load(&journal)),
                    directory,
                    journal,
                    unheard: AtomicBool::new(false),
                    writing: Mutex::default(),
                    _lock: lock,
                })
            }
            Err(TryLockError::WouldBlock) => Err(Error::Busy(directory)),
            Err(TryLockError::Error(cause)) => Err(failed(format!("lock {shown}"))(cause)),
        }
    }

    /// The agent's directory below `state_dir`, for those who only look.
    pub(crate) fn folder(state_dir: &Path) -> PathBuf {
        state_dir.join(FOLDER)
    }

    /// Where what is kept is.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where a new journal goes.
    pub(crate) fn journal(&self) -> &Path {
        &self.journal
    }

    /// Where journals of earlier processes may be: earlier releases had them beside what is kept.
    pub(crate) fn journals(&self) -> impl Iterator<Item = &Path> {
        let old = (self.journal != self.directory).then_some(self.directory.as_path());
        std::iter::once(self.journal.as_path()).chain(old)
    }

    /// The journal's directory. It speaks of links, which die with the power, so it lies in memory, where no full disk
    /// keeps it from being written. Another state directory than the default has its own.
    pub(crate) fn journal_folder(state_dir: &Path) -> PathBuf {
        let state_dir = if state_dir == Path::new(DEFAULT) { Path::new(RUN) } else { state_dir };
        state_dir.join(FOLDER)
    }

    fn kept_path(&self) -> PathBuf {
        self.directory.join(KEPT)
    }

    /// The desired state that was last reached, if any. A file that cannot be understood is set aside; what the plugin was told
    /// of it is kept instead.
    pub(crate) fn kept(&self) -> Option<Kept> {
        let path = self.kept_path();
        let error = match read_kept(&path) {
            Ok(kept) => return kept,
            Err(error) => error,
        };
        let why = chain(&error);
        let consequence = "what it kept is not known any more, so apply the policy again";
        let Some(lost) = self.lost(&error) else {
            set_aside(&path, &why, consequence);
            return None;
        };
        link_aside(&path, &why, consequence);
        if let Err(error) = self.write_lost(&lost) {
            tracing::warn!("the bridges for which pods wait could not be kept: {}", chain(&error));
        }
        Some(lost)
    }

    /// The same without the lock, for those who only look.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub(crate) fn peek(state_dir: &Path) -> Result<Option<Kept>, Error> {
        read_kept(&Self::folder(state_dir).join(KEPT))
    }

    /// Keeps a desired state that was reached, so that it survives a power cut. Writes nothing if it is
    /// the one kept already.
    ///
    /// # Errors
    /// Those of writing.
    pub(crate) fn keep(&self, kept: &Kept) -> Result<(), Error> {
        let _alone = lock(&self.writing);
        self.publish(self.draft(kept)?)
    }

    /// Makes the disk have this state, or none. Writes nothing if it has it already.
    ///
    /// # Errors
    /// Those of writing.
    pub(crate) fn bring(&self, kept: Option<&Kept>) -> Result<(), Error> {
        kept.map_or_else(|| self.keep_nothing(), |kept| self.keep(kept))
    }

    /// Begins to keep a desired state that has yet to be reached: what takes long, bringing the bytes to the disk, is
    /// done beside the work on the links. `None` if it is the one kept already.
    ///
    /// # Errors
    /// Those of writing.
    pub(crate) fn draft(&self, kept: &Kept) -> Result<Option<Draft>, Error> {
        if self.kept().as_ref() == Some(kept) {
            return Ok(None);
        }
        let path = self.kept_path().with_extension("json.tmp");
        let attempt = format!("write {}", path.display());
        let text = serde_json::to_vec_pretty(kept).map_err(|cause| failed(&attempt)(cause.into()))?;
        let digest = sha256::hex(&text);
        let promise = self.promise_path();
        let write = move || {
            let mut file = File::create(path)?;
            file.write_all(&text)?;
            file.sync_all()?;
            // Afterwards: what a journalling file system has written for the one, is written for both.
            match File::open(promise) {
                Ok(promise) => promise.sync_all(),
                Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(()),
                Err(cause) => Err(cause),
            }
        };
        let writing = thread::Builder::new().name(THREAD.into()).spawn(write);
        writing.map(|writing| Some(Draft { writing, digest })).map_err(failed(attempt))
    }

    /// Makes a draft the state that is kept.
    ///
    /// # Errors
    /// Those of writing.
    pub(crate) fn publish(&self, draft: Option<Draft>) -> Result<(), Error> {
        let Some(Draft { writing, digest }) = draft else { return Ok(()) };
        let path = self.kept_path();
        let written = writing.join().unwrap_or_else(|_| Err(io::Error::other("the writing thread panicked")));
        self.changing(&path, Some(digest), || {
            written
                .and_then(|()| fs::rename(path.with_extension("json.tmp"), &path))
                .and_then(|()| File::open(&self.directory)?.sync_all())
                .map_err(failed(format!("keep the desired state in {}", path.display())))
        })
    }

    /// Gives up a draft.
    ///
    /// # Errors
    /// Those of removing what was written.
    pub(crate) fn discard(&self, draft: Option<Draft>) -> Result<(), Error> {
        let Some(Draft { writing, .. }) = draft else { return Ok(()) };
        // Whether it came out well is no matter any more, only that it is over.
        drop(writing.join());
        remove(&self.kept_path().with_extension("json.tmp"))
    }

    /// Keeps nothing any more. What the plugin is told is another matter.
    ///
    /// # Errors
    /// Those of removing a file that is there.
    pub(crate) fn keep_nothing(&self) -> Result<(), Error> {
        self.remove(&self.kept_path())
    }

    /// Keeps nothing any more, and leaves all bridges to the plugin.
    ///
    /// # Errors
    /// Those of removing a file that is there.
    pub(crate) fn forget(&self) -> Result<(), Error> {
        self.keep_nothing()?;
        self.promise_nothing()
    }

    /// Removes a file that an older release writes as well, if it is there.
    fn remove(&self, path: &Path) -> Result<(), Error> {
        self.changing(path, None, || remove(path))
    }
}

/// A desired state on its way to the disk.
#[derive(Debug)]
#[must_use = "only published it is kept"]
pub(crate) struct Draft {
    writing: JoinHandle<io::Result<()>>,
    digest: String,
}

/// Writes a file that has to outlive a power cut.
fn write_synced(path: &Path, text: &[u8]) -> io::Result<()> {
    // Not that of a draft, which another thread may be writing.
    let new = path.with_extension("json.new");
    let mut file = File::create(&new)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(path.parent().unwrap_or(path))?.sync_all()
}

fn read_kept(path: &Path) -> Result<Option<Kept>, Error> {
    let attempt = format!("read the kept state {}", path.display());
    match read(path).map_err(io::Error::other).map_err(failed(attempt.clone()))? {
        Some(text) => serde_json::from_slice(&text).map(Some).map_err(|cause| failed(attempt)(cause.into())),
        None => Ok(None),
    }
}

/// What tells this boot from others.
///
/// # Errors
/// The attempt and its cause, in words.
pub(crate) fn boot_id() -> Result<String, String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let id = fs::read_to_string(path).map_err(|cause| format!("read {path}: {cause}"))?;
    Ok(id.trim().to_owned())
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => {
            Err(failed(format!("remove {}", path.display()))(cause))
        }
        _ => Ok(()),
    }
}
