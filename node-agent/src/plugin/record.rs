//! What was installed: `<state-dir>/agent/installed.json`. By it the next agent, and `uninstall`, know which files of the CNI
//! directory are the agent's own.
//!
//! It is written before the files are: an agent that is killed half-way leaves a file that is either the one from before or
//! the one meant, and the record says both.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use octavia_bridge_ipam::causes::chain;
use serde::{Deserialize, Serialize};

use super::error::{Error, io_error};
use super::file::{self, Content};
use crate::node::state::{self, State, set_aside};

const FILE: &str = "installed.json";

/// The record. Keys that a later agent may add are passed over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The CNI directory under the name that the agent knew it by; a container may have another one for it than its host.
    #[serde(rename = "folder")]
    pub(super) bin_dir: PathBuf,
    /// By name.
    pub(super) files: BTreeMap<String, Installed>,
}

/// A file that the agent put into the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Installed {
    /// What was put there last.
    #[serde(flatten)]
    pub(super) content: Content,
    /// What was there before, if that was the agent's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) previous: Option<Content>,
}

impl Installed {
    /// Whether a file with this content is the one that was put there.
    pub(super) fn is(&self, content: &Content) -> bool {
        self.content == *content || self.previous.as_ref() == Some(content)
    }
}

impl Record {
    /// The record in the agent's directory; empty if there is none.
    ///
    /// # Errors
    /// One that is there and cannot be read. It is not guessed at.
    pub(super) fn read(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(FILE);
        let Some(text) = state::read(&path).map_err(|why| Error::Record { path: path.clone(), why })? else {
            return Ok(Self::default());
        };
        serde_json::from_slice(&text).map_err(|cause| Error::Record { path, why: cause.to_string() })
    }

    /// The same for the process that has the directory to itself. A record that cannot be read is set aside, and counts as none.
    pub(super) fn recover(directory: &Path) -> Self {
        Self::read(directory).unwrap_or_else(|error| {
            let consequence =
                "only files that are byte for byte the plugin to be installed count as installed";
            set_aside(&directory.join(FILE), &chain(&error), consequence);
            Self::default()
        })
    }

    /// Writes it, so that it survives a power cut.
    ///
    /// # Errors
    /// Those of writing.
    pub(super) fn write(&self, directory: &Path) -> Result<(), Error> {
        let path = directory.join(FILE);
        let text =
            serde_json::to_string_pretty(self).map_err(|cause| io_error("word the record", cause.into()))?;
        file::write_text(&path, &format!("{text}\n"))
            .map_err(|cause| io_error(format!("write {}", path.display()), cause))
    }

    /// Removes it.
    ///
    /// # Errors
    /// Those of removing.
    pub(super) fn forget(directory: &Path) -> Result<(), Error> {
        let path = directory.join(FILE);
        file::remove(&path)
            .and_then(|_| file::sync_directory(&path))
            .map_err(|cause| io_error(format!("remove {}", path.display()), cause))
    }
}

/// Each file that was installed, and whether it is there as it was.
///
/// # Errors
/// A record that cannot be read.
pub(crate) fn installed(state_dir: &Path) -> Result<Vec<(PathBuf, FileState)>, Error> {
    let record = Record::read(&State::folder(state_dir))?;
    let mut files = Vec::new();
    for (name, installed) in record.files {
        let path = record.bin_dir.join(name);
        let state = FileState::of(&path, &installed);
        files.push((path, state));
    }
    Ok(files)
}

/// How a file stands that was installed.
#[derive(Debug)]
pub(crate) enum FileState {
    Unchanged,
    /// It holds something else.
    Changed,
    /// It is not there, or cannot be read.
    Unreadable(io::Error),
}

impl FileState {
    fn of(path: &Path, installed: &Installed) -> Self {
        match File::open(path).and_then(|file| Content::of(&file)) {
            Ok(content) if content == installed.content => Self::Unchanged,
            Ok(_) => Self::Changed,
            Err(cause) => Self::Unreadable(cause),
        }
    }
}
