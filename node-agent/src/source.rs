//! Where the desired state comes from: files, standard input, or what was kept.

use std::io::{self, Read};
use std::path::Path;

use crate::cli::Input;
use crate::desired::{self, Desired, Problems, Text};
use crate::state::Kept;

/// What is wrong with the input; the caller's to mend.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("read {path}")]
    Unreadable { path: String, source: io::Error },
    #[error(transparent)]
    Problems(#[from] Problems),
    #[error("no desired state: none was applied yet, so name a file with -f")]
    NothingKept,
}

/// The texts that `input` names, or those `kept`.
///
/// # Errors
/// Input that cannot be read, and none.
pub(crate) fn texts(input: &Input, kept: Option<Kept>) -> Result<Kept, Error> {
    if input.files.is_empty() {
        return kept.ok_or(Error::NothingKept);
    }
    let texts = input.files.iter().map(|path| text(path)).collect::<Result<_, _>>()?;
    Ok(Kept { texts, choice: input.choice(), ..Kept::default() })
}

fn text(path: &Path) -> Result<Text, Error> {
    let origin = path.display().to_string();
    let read = if origin == "-" { io::read_to_string(io::stdin()) } else { read_file(path) };
    match read {
        Ok(yaml) => Ok(Text { origin, yaml }),
        Err(source) => Err(Error::Unreadable { path: origin, source }),
    }
}

/// Policies are a few kilobytes; a device or an endless pipe shall not fill the memory.
fn read_file(path: &Path) -> io::Result<String> {
    const MOST: u64 = 4 << 20;
    let mut yaml = String::new();
    std::fs::File::open(path)?.take(MOST + 1).read_to_string(&mut yaml)?;
    if yaml.len() as u64 > MOST {
        return Err(io::Error::other(format!("more than {MOST} bytes")));
    }
    Ok(yaml)
}

/// Reads them.
///
/// # Errors
/// Every problem.
pub(crate) fn desired(kept: &Kept) -> Result<Desired, Error> {
    Ok(desired::read(kept.all(), &kept.choice)?)
}
