//! The journal: what an `apply` has begun, so that the next start of the program can take it back if
//! this one is killed; and that it has reached its end, so that the next start can keep what was reached.
//!
//! One JSON line before each step, appended, and one after the last. It speaks of links, which die with the power as
//! well, so it is not synced to disk and does not count after a reboot; a torn last line is a step not yet begun, or an
//! end not yet reached.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::plan::Planned;
use crate::state::Kept;

/// What an `apply` is for, once all its steps are done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Goal {
    /// This state is to be kept.
    Keep(Kept),
    /// Nothing is to be kept any more.
    Forget,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line<T> {
    Step(T),
    Reached(Goal),
}

/// An open journal; it exists as a file until [`Journal::end`].
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
}

fn path(state: &Path) -> PathBuf {
    state.join("journal.jsonl")
}

impl Journal {
    /// Begins a new journal in the state directory.
    ///
    /// # Errors
    /// The attempt and its cause, in words.
    pub(crate) fn begin(state: &Path) -> Result<Self, String> {
        let path = path(state);
        let failed = |cause| format!("write the journal {}: {cause}", path.display());
        let mut file = File::create(&path).map_err(failed)?;
        // In one piece, or it would be two requests.
        file.write_all((boot_id()? + "\n").as_bytes()).map_err(failed)?;
        Ok(Self { path, file })
    }

    /// Notes a step that is about to be done.
    ///
    /// # Errors
    /// The attempt and its cause, in words.
    pub(crate) fn about_to(&mut self, planned: &Planned) -> Result<(), String> {
        self.append(&Line::Step(planned))
    }

    /// Notes that all steps were done: from here on they are not taken back any more, and `goal` is what is to follow.
    ///
    /// # Errors
    /// The attempt and its cause, in words.
    pub(crate) fn reached(&mut self, goal: &Goal) -> Result<(), String> {
        self.append(&Line::<Planned>::Reached(goal.clone()))
    }

    fn append(&mut self, line: &impl Serialize) -> Result<(), String> {
        let failed = |cause: std::io::Error| format!("write the journal {}: {cause}", self.path.display());
        let mut line = serde_json::to_vec(line).map_err(|cause| failed(cause.into()))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(failed)
    }

    /// Everything was done, or taken back.
    ///
    /// # Errors
    /// The attempt and its cause, in words.
    pub(crate) fn end(self) -> Result<(), String> {
        fs::remove_file(&self.path)
            .map_err(|cause| format!("remove the journal {}: {cause}", self.path.display()))
    }

    /// What a process that was killed has left, if it was since the last boot.
    ///
    /// # Errors
    /// The attempt and its cause, in words.
    pub(crate) fn left_behind(state: &Path) -> Result<Option<LeftBehind>, String> {
        let path = path(state);
        let failed = |cause| format!("read the journal {}: {cause}", path.display());
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(failed(cause)),
        };
        let file = OpenOptions::new().append(true).open(&path).map_err(failed)?;
        let mut lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        let this_boot = lines.next() == Some(boot_id()?.as_str());
        let (mut begun, mut reached) = (Vec::new(), None);
        for line in lines.filter(|_| this_boot) {
            match serde_json::from_str(line).map_err(|cause| failed(cause.into()))? {
                Line::Step(planned) => begun.push(planned),
                Line::Reached(goal) => reached = Some(goal),
            }
        }
        Ok(Some(LeftBehind { journal: Self { path, file }, begun, reached }))
    }
}

/// A killed process's journal.
#[derive(Debug)]
pub(crate) struct LeftBehind {
    pub(crate) journal: Journal,
    /// In order. The last may have been done in part.
    pub(crate) begun: Vec<Planned>,
    /// All were done, and this was to follow.
    pub(crate) reached: Option<Goal>,
}

fn boot_id() -> Result<String, String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let id = fs::read_to_string(path).map_err(|cause| format!("read {path}: {cause}"))?;
    Ok(id.trim().to_owned())
}
