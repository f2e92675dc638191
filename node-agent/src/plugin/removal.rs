//! Taking the plugin out of its directory.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use super::error::{Error, io_error};
use super::file::{self, Content};
use super::record::Record;
use crate::node::state::State;

/// Removes what was installed in `directory`, and says a line for each file. Links, pools and records stay.
///
/// # Errors
/// A record that names another directory while nothing of it is here; those of reading and removing.
pub(crate) fn uninstall(bin_dir: &Path, state: &State) -> Result<Vec<String>, Error> {
    let bin_dir = std::path::absolute(bin_dir).map_err(|cause| io_error("make the path absolute", cause))?;
    let record = Record::read(state.directory())?;
    let mut lines = Vec::new();
    let mut found = false;
    for (name, known) in &record.files {
        let target = bin_dir.join(name);
        let failed = |cause| io_error(format!("remove {}", target.display()), cause);
        let line = match fs::symlink_metadata(&target) {
            Err(cause) if cause.kind() == ErrorKind::NotFound => "was not there any more",
            Err(cause) => return Err(failed(cause)),
            Ok(there) => {
                found = true;
                let ours = there.is_file()
                    && known.is(&File::open(&target).and_then(|file| Content::of(&file)).map_err(failed)?);
                if ours {
                    file::remove(&target).map_err(failed)?;
                    "removed"
                } else {
                    "left alone: it is not what was installed"
                }
            }
        };
        lines.push(format!("{}: {line}", target.display()));
        let previous = file::previous(&target);
        for aside in [file::draft(&target), file::draft(&previous), previous] {
            if file::remove(&aside).map_err(|cause| io_error(format!("remove {}", aside.display()), cause))? {
                found = true;
                lines.push(format!("{}: removed", aside.display()));
            }
        }
    }
    if record.files.is_empty() {
        return Ok(vec!["nothing was installed".into()]);
    }
    // Removed by hand, or killed before the record was: only where the directory is the one that is meant.
    if !found && bin_dir != record.bin_dir {
        return Err(Error::Elsewhere { bin_dir, installed: record.bin_dir });
    }
    if found {
        file::sync_directory(&bin_dir.join("."))
            .map_err(|cause| io_error(format!("bring {} to the disk", bin_dir.display()), cause))?;
    }
    Record::forget(state.directory())?;
    Ok(lines)
}
