//! Where the desired state comes from: files, standard input, or what was kept.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use clap::Args;

use super::desired::{self, Choice, Desired, Label, Problems, Text};
use super::state::Kept;

/// The desired state, and what of it to take.
#[derive(Clone, Debug, Args)]
pub(crate) struct Input {
    /// File with nmstate states or policies, or - for standard input; repeatable [default: the state applied last]
    #[arg(short, long = "file", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Label of this node, matched against the policies' nodeSelector; repeatable.
    #[arg(long = "node-label", value_name = "KEY=VALUE")]
    labels: Vec<Label>,
    /// Apply all policies in the files and ignore their nodeSelector.
    #[arg(long)]
    all_policies: bool,
    /// Skip interfaces and routes with unsupported keys; default: refuse the whole state.
    #[arg(long)]
    ours_only: bool,
}

impl Input {
    pub(crate) fn choice(&self) -> Choice {
        Choice { labels: self.labels.clone(), all_policies: self.all_policies, ours_only: self.ours_only }
    }
}

/// What is wrong with the input; the caller's to mend.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("read {path}")]
    Unreadable { path: String, source: io::Error },
    #[error(transparent)]
    Problems(#[from] Problems),
    #[error("{0}")]
    Unusable(String),
    #[error("no desired state: none was applied yet, so name a file with -f")]
    NothingKept,
    #[error("no desired state: {0}")]
    Lost(String),
}

/// Longest text in bytes. Policies are a few kilobytes; a device or an endless pipe shall not fill the memory.
const LONGEST: u64 = 4 << 20;
/// How long a file may take. One that takes longer is a FIFO that nobody writes to, a file of /proc that waits for
/// something to happen, or on a server that is away.
const PATIENCE: Duration = Duration::from_secs(5);

/// The texts that `input` names, or those `kept`.
///
/// # Errors
/// Input that cannot be read, and none.
pub(crate) fn texts(input: &Input, kept: Option<Kept>) -> Result<Kept, Error> {
    if input.files.is_empty() {
        let kept = kept.map(Kept::restored).ok_or(Error::NothingKept)?;
        return match kept.lost() {
            Some((why, _)) if kept.all().next().is_none() => Err(Error::Lost(why.to_owned())),
            _ => Ok(kept),
        };
    }
    let texts = input.files.iter().map(|path| text(path)).collect::<Result<_, _>>()?;
    Ok(Kept { texts, choice: input.choice(), ..Kept::default() })
}

/// The text of a file, or of standard input for `-`.
///
/// # Errors
/// It cannot be read.
pub(crate) fn text(path: &Path) -> Result<Text, Error> {
    let origin = path.display().to_string();
    // Standard input may be long in coming: somebody types it.
    let read = if origin == "-" { read(io::stdin().lock()) } else { read_in_time(path) };
    match read {
        Ok(yaml) => Ok(Text { origin, yaml }),
        Err(source) => Err(Error::Unreadable { path: origin, source }),
    }
}

/// Reads a file on a thread of its own, which is left alone if it does not come back.
fn read_in_time(path: &Path) -> io::Result<String> {
    let (tell, told) = mpsc::channel();
    let file = path.to_owned();
    // Nobody listens any more to what comes too late.
    let reading = move || drop(tell.send(File::open(file).and_then(read)));
    thread::Builder::new().name("links-file".into()).spawn(reading)?;
    match told.recv_timeout(PATIENCE) {
        Ok(read) => read,
        Err(RecvTimeoutError::Timeout) => {
            let text = format!(
                "not read within {} s; name a regular file, or let a program that takes longer write to -f -",
                PATIENCE.as_secs()
            );
            Err(io::Error::new(ErrorKind::TimedOut, text))
        }
        Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the reading thread panicked")),
    }
}

fn read(from: impl Read) -> io::Result<String> {
    let mut yaml = String::new();
    from.take(LONGEST + 1).read_to_string(&mut yaml)?;
    if yaml.len() as u64 > LONGEST {
        return Err(io::Error::other(format!("more than {LONGEST} bytes")));
    }
    Ok(yaml)
}

/// Reads them. There may be none beside refused ones.
///
/// # Errors
/// Every problem.
pub(crate) fn desired(kept: &Kept) -> Result<Desired, Error> {
    match kept.refused {
        Some(_) => Ok(desired::read_any(kept.all(), &kept.choice)?),
        None => Ok(desired::read(kept.all(), &kept.choice)?),
    }
}
