//! The journal: what an `apply` has begun, so that the next start of the program can take it back if
//! this one is killed.
//!
//! One JSON line before each step, appended. It speaks of links, which die with the power as well, so it
//! is not synced to disk and does not count after a reboot; a torn last line is a step not yet begun.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::plan::Planned;

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
        writeln!(file, "{}", boot_id()?).map_err(failed)?;
        Ok(Self { path, file })
    }

    /// Notes a step that is about to be done.
    ///
    /// # Errors
    /// The attempt and its cause, in words.
    pub(crate) fn about_to(&mut self, planned: &Planned) -> Result<(), String> {
        let failed = |cause: std::io::Error| format!("write the journal {}: {cause}", self.path.display());
        let mut line = serde_json::to_vec(planned).map_err(|cause| failed(cause.into()))?;
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

    /// The journal of a process that was killed, with the steps it had begun since the last boot.
    ///
    /// # Errors
    /// The attempt and its cause, in words.
    pub(crate) fn left_behind(state: &Path) -> Result<Option<(Self, Vec<Planned>)>, String> {
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
        let mut begun = Vec::new();
        for line in lines.filter(|_| this_boot) {
            begun.push(serde_json::from_str(line).map_err(|cause| failed(cause.into()))?);
        }
        Ok(Some((Self { path, file }, begun)))
    }
}

fn boot_id() -> Result<String, String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let id = fs::read_to_string(path).map_err(|cause| format!("read {path}: {cause}"))?;
    Ok(id.trim().to_owned())
}
