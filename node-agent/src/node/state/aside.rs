//! Files of our own that cannot be used: they are moved out of the way, and are never a reason not to start.
//!
//! A power cut may leave anything in a file, and another release may have written what this one does not understand. The
//! image of the agent has no shell: nobody could mend the file, and as long as it lay there no pod of the node would get an
//! address.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use octavia_bridge_ipam::state_file;
use serde::de::DeserializeOwned;

use super::State;

/// Longest file that is read back, in bytes: many policies of the largest size that the API takes.
const LONGEST: u64 = 32 << 20;
/// What is put behind the name of one that was set aside.
const ENDING: &str = "bad";

/// Reads a file of our own; `None` if there is none.
///
/// # Errors
/// The attempt and its cause, in words.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, String> {
    match state_file::read(path, LONGEST) {
        Ok(text) => Ok(Some(text)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(format!("read {}: {cause}", path.display())),
    }
}

/// What is in a JSON file of our own; the default if there is none. One that cannot be understood is set aside, and counts as none.
pub(super) fn load<T: Default + DeserializeOwned>(path: &Path, consequence: &str) -> T {
    let why = match read(path) {
        Ok(None) => return T::default(),
        Ok(Some(text)) => match serde_json::from_slice(&text) {
            Ok(value) => return value,
            Err(cause) => format!("read {}: {cause}", path.display()),
        },
        Err(why) => why,
    };
    set_aside(path, &why, consequence);
    T::default()
}

/// Moves a file that cannot be used out of the way and says so. `consequence` is what that means for the node.
pub(crate) fn set_aside(path: &Path, why: &str, consequence: &str) {
    set_aside_by(|to| fs::rename(path, to), path, why, consequence);
}

/// The same of a file that its replacement overwrites: until then the next process finds it.
pub(super) fn link_aside(path: &Path, why: &str, consequence: &str) {
    let link = |to: &Path| {
        // An earlier one; if it is a directory, making the link fails.
        drop(fs::remove_file(to));
        // A directory has no second name.
        fs::hard_link(path, to).or_else(|_| fs::rename(path, to))
    };
    set_aside_by(link, path, why, consequence);
}

fn set_aside_by(put: impl FnOnce(&Path) -> io::Result<()>, path: &Path, why: &str, consequence: &str) {
    let mut to = path.as_os_str().to_owned();
    to.push(".");
    to.push(ENDING);
    let to = PathBuf::from(to);
    match put(&to) {
        Ok(()) => tracing::error!("{why}; it was set aside as {}; {consequence}", to.display()),
        Err(cause) => {
            tracing::error!(
                "{why}; it cannot be set aside as {} either: {cause}; {consequence}",
                to.display()
            );
        }
    }
}

impl State {
    /// Files that were set aside, by this process or an earlier one, and that nobody has removed since.
    pub(crate) fn put_aside(state_dir: &Path) -> Vec<PathBuf> {
        let folders = BTreeSet::from([Self::folder(state_dir), Self::journal_folder(state_dir)]);
        let mut bad = Vec::new();
        for folder in folders {
            let Ok(entries) = fs::read_dir(folder) else { continue };
            let paths = entries.flatten().map(|entry| entry.path());
            bad.extend(paths.filter(|path| path.extension().is_some_and(|ending| ending == ENDING)));
        }
        bad.sort();
        bad
    }
}
