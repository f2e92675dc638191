//! The witness as a file beside the journal.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Witness;
use crate::node::state::{State, boot_id, read, set_aside};

const NAME: &str = "links.json";
/// Raised when an earlier release would misread the file.
const VERSION: u32 = 1;

/// Begins the file; the rest is read only if these are this release's and this boot's.
#[derive(Deserialize)]
struct Head {
    version: u32,
    boot: String,
}

#[derive(Serialize)]
struct Whole<'a> {
    version: u32,
    boot: String,
    #[serde(flatten)]
    witness: &'a Witness,
}

fn path(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

impl State {
    /// What earlier processes saw. A file that cannot be understood is set aside, and counts as none.
    pub(crate) fn witness(&self) -> Witness {
        let path = path(self.journal());
        of(&path).unwrap_or_else(|why| {
            set_aside(
                &path,
                &why,
                "a link that loses its mark before it is seen again is not known to be the agent's",
            );
            Witness::default()
        })
    }

    /// The same without the lock, for those who only look.
    ///
    /// # Errors
    /// A file that is there and cannot be understood, in words.
    pub(crate) fn peek_witness(state_dir: &Path) -> Result<Witness, String> {
        of(&path(&Self::journal_folder(state_dir)))
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// The attempt and its cause, in words.
    pub(crate) fn keep_witness(&self, witness: &Witness) -> Result<(), String> {
        let path = path(self.journal());
        let failed = |cause| format!("note in {} which links the agent created: {cause}", path.display());
        if *witness == Witness::default() {
            return match fs::remove_file(&path) {
                Err(cause) if cause.kind() != ErrorKind::NotFound => Err(failed(cause)),
                _ => Ok(()),
            };
        }
        let whole = Whole { version: VERSION, boot: boot_id()?, witness };
        let text = serde_json::to_vec_pretty(&whole).map_err(|cause| failed(cause.into()))?;
        let draft = path.with_extension("json.tmp");
        let write = || {
            DirBuilder::new().recursive(true).mode(0o700).create(self.journal())?;
            fs::write(&draft, &text)?;
            fs::rename(&draft, &path)
        };
        write().map_err(|cause| {
            // On a full disk; what is there of it says nothing.
            drop(fs::remove_file(&draft));
            failed(cause)
        })
    }
}

fn of(path: &Path) -> Result<Witness, String> {
    let failed = |cause: serde_json::Error| format!("read {}: {cause}", path.display());
    let Some(text) = read(path)? else { return Ok(Witness::default()) };
    let head: Head = serde_json::from_slice(&text).map_err(failed)?;
    // The links of an earlier boot are gone.
    if head.boot != boot_id()? {
        return Ok(Witness::default());
    }
    if head.version != VERSION {
        let version = head.version;
        return Err(format!("read {}: it is of another release (version {version})", path.display()));
    }
    serde_json::from_slice(&text).map_err(failed)
}
