//! Where records are kept, and the lock that keeps ADD and DEL of one attachment apart.
//!
//! A record is a file `<container id>@<interface>.jsonl` of at most two lines: the intent, written before the first
//! side effect, and the outcome, written after the last. A line is never changed once written, so a process killed while
//! writing leaves either a torn first line, and then nothing was done yet, or a torn second one, and then the
//! attachment counts as unfinished. The same file carries the lock. It lies in memory: the links it speaks of die with
//! the power as well.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use octavia_bridge_ipam::conf::places::run_dir;
use octavia_bridge_ipam::flock::{self, Mode};
use octavia_bridge_ipam::state_file;
use serde::Serialize;

use super::{Intent, Outcome, Record, parse};
use crate::patience;
use crate::protocol::{Code, Error};

/// How long ADD and DEL wait for each other.
pub(crate) const LOCK_WAIT: Duration = Duration::from_secs(30);

/// Of a record, in bytes. It repeats a delegated plugin's configuration, of a megabyte at most, as a JSON text.
const LONGEST: u64 = 8 << 20;

/// What is written for an ADD that has begun nothing. Without the end of a line, so that it counts as a torn record.
const TRACE: &[u8] = b"an ADD";

/// The directory of records.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    directory: PathBuf,
}

/// One attachment's record, locked against every other process until dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    path: PathBuf,
    file: File,
    /// What was written there, if it can be read.
    pub(crate) record: Option<Record>,
    /// The file was not empty when it was locked: an ADD was begun, and no DEL has come to its end since.
    pub(crate) was_written: bool,
    /// It has a whole line that could not be understood: another version's, or somebody's who edited it.
    pub(crate) is_strange: bool,
}

/// What is known of an attachment.
#[derive(Debug)]
pub(crate) enum Kept {
    /// No record, or a torn one.
    Nothing,
    /// Something that cannot be read or understood.
    Strange,
    Record {
        record: Box<Record>,
        /// An ADD or DEL works on it right now.
        locked: bool,
    },
}

impl Records {
    /// In the run directory of a `dataDir`.
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self { directory: run_dir(data_dir).join("attachments") }
    }

    /// Where an older release kept them: on disk.
    pub(crate) fn former(data_dir: &Path) -> Self {
        Self { directory: data_dir.join("attachments") }
    }

    fn path(&self, container_id: &str, ifname: &str) -> PathBuf {
        self.directory.join(file_name(container_id, ifname))
    }

    /// Whether the directory is there, so that an ADD may have worked here.
    pub(crate) fn are_kept(&self) -> bool {
        self.directory.is_dir()
    }

    /// Locks the attachment's record, making the file if there is none.
    pub(crate) fn lock(&self, container_id: &str, ifname: &str) -> Result<Slot, Error> {
        make_directory(&self.directory)?;
        let path = self.path(container_id, ifname);
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        let deadline = patience::until(LOCK_WAIT);
        while Instant::now() < deadline {
            if let Some(slot) = Self::open(&path, &options, deadline)? {
                return Ok(slot);
            }
        }
        Err(locked_out(&path))
    }

    /// Locks the attachment's record if there is one.
    pub(crate) fn lock_existing(&self, container_id: &str, ifname: &str) -> Result<Option<Slot>, Error> {
        let path = self.path(container_id, ifname);
        let mut options = OpenOptions::new();
        options.read(true).append(true);
        let deadline = patience::until(LOCK_WAIT);
        while Instant::now() < deadline {
            if !path.try_exists().unwrap_or(true) {
                return Ok(None);
            }
            if let Some(slot) = Self::open(&path, &options, deadline)? {
                return Ok(Some(slot));
            }
        }
        Err(locked_out(&path))
    }

    /// One try. `None` when the file vanished or was replaced between opening and locking it: its last holder
    /// removed it, so what we locked is nobody's record any more.
    fn open(path: &Path, options: &OpenOptions, deadline: Instant) -> Result<Option<Slot>, Error> {
        let file = match state_file::open(path, options) {
            Ok(file) => file,
            // Its last holder removed it, or the folder with it.
            Err(cause) if cause.kind() == ErrorKind::NotFound => {
                std::thread::sleep(Duration::from_millis(1));
                return Ok(None);
            }
            Err(cause) => return Err(Error::io(format!("open the record {}", path.display()), &cause)),
        };
        lock(&file, path, Mode::Exclusive, deadline)?;
        let failed = |cause| Error::io(format!("read the record {}", path.display()), &cause);
        let held = file.metadata().map_err(failed)?;
        match std::fs::symlink_metadata(path) {
            Ok(named) if (named.dev(), named.ino()) == (held.dev(), held.ino()) => {}
            _ => return Ok(None),
        }
        let text = state_file::read_from(&file, LONGEST).map_err(failed)?;
        let record = record_of(path, &text);
        let is_strange = record.is_none() && text.contains(&b'\n');
        let was_written = !text.is_empty();
        Ok(Some(Slot { path: path.to_owned(), file, record, was_written, is_strange }))
    }

    /// What the attachment's record says now, without waiting for whoever works on it.
    pub(crate) fn peek(&self, container_id: &str, ifname: &str) -> Option<Record> {
        let path = self.path(container_id, ifname);
        record_of(&path, &state_file::read(&path, LONGEST).ok()?)
    }

    /// What is known of the attachment, without waiting for an ADD or DEL that works on it.
    pub(crate) fn look(&self, container_id: &str, ifname: &str) -> Kept {
        let path = self.path(container_id, ifname);
        let mut options = OpenOptions::new();
        let file = match state_file::open(&path, options.read(true)) {
            Ok(file) => file,
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Kept::Nothing,
            Err(_) => return Kept::Strange,
        };
        // Its lock is given back with the file.
        let locked = file.try_lock_shared().is_err();
        let Ok(text) = state_file::read_from(&file, LONGEST) else { return Kept::Strange };
        match record_of(&path, &text) {
            Some(record) => Kept::Record { record: Box::new(record), locked },
            // A whole line that is not understood is another program's record, or another version's.
            None if locked || text.contains(&b'\n') => Kept::Strange,
            None => Kept::Nothing,
        }
    }

    /// Container id and interface name of every record, in no order. A missing directory holds none.
    pub(crate) fn list(&self) -> Result<Vec<(String, String)>, Error> {
        let failed = |cause| Error::io(format!("list the records in {}", self.directory.display()), &cause);
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(cause) => return Err(failed(cause)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            let attachment = name.to_str().and_then(|name| name.strip_suffix(".jsonl"));
            // A container id has no '@', an interface name may.
            if let Some((id, ifname)) = attachment.and_then(|name| name.split_once('@')) {
                found.push((id.to_owned(), ifname.to_owned()));
            }
        }
        Ok(found)
    }

    /// A lock on the bridges of this node, held as `Shared` while a port is added and as `Exclusive` while a
    /// bridge is made or removed: a bridge must not vanish between being seen and being given a port.
    ///
    /// The directory itself carries it; a directory can be locked, and is never replaced.
    pub(crate) fn lock_bridges(&self, mode: Mode) -> Result<File, Error> {
        make_directory(&self.directory)?;
        let directory = File::open(&self.directory)
            .map_err(|cause| Error::io(format!("open {}", self.directory.display()), &cause))?;
        lock(&directory, &self.directory, mode, patience::until(LOCK_WAIT))?;
        Ok(directory)
    }
}

impl Slot {
    /// Its file, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes down what is about to be done, replacing what stood there.
    pub(crate) fn begin(&mut self, intent: Intent) -> Result<(), Error> {
        let written = self.file.set_len(0).and_then(|()| self.append(&intent));
        written.map_err(|cause| self.failed(&cause))?;
        self.record = Some(Record { intent, outcome: None });
        Ok(())
    }

    /// Leaves a trace of an ADD, unless something is written there.
    pub(crate) fn leave_trace(&self) -> Result<(), Error> {
        if self.was_written {
            return Ok(());
        }
        (&self.file).write_all(TRACE).map_err(|cause| self.failed(&cause))
    }

    /// Writes down that it was done.
    pub(crate) fn complete(&mut self, outcome: &Outcome) -> Result<(), Error> {
        self.append(outcome).map_err(|cause| self.failed(&cause))
    }

    fn append(&self, line: &impl Serialize) -> std::io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        (&self.file).write_all(&text)
    }

    fn failed(&self, cause: &std::io::Error) -> Error {
        Error::io(format!("write the record {}", self.path.display()), cause)
    }

    /// Puts a copy among other records, unless there is one of the attachment by now.
    pub(crate) fn copy_to(&self, records: &Records) -> Result<(), Error> {
        make_directory(&records.directory)?;
        let Some(name) = self.path.file_name() else { return Ok(()) };
        let target = records.directory.join(name);
        let failed = |cause| {
            Error::io(format!("move the record {} to {}", self.path.display(), target.display()), &cause)
        };
        let written = state_file::read(&self.path, LONGEST).and_then(|text| {
            // Its name is not a record's: a killed writer leaves it, and the next one writes it anew.
            let draft = records.directory.join("moved.tmp");
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            state_file::open(&draft, &options)?.write_all(&text)?;
            match target.symlink_metadata().is_ok_and(|there| there.len() > 0) {
                true => std::fs::remove_file(&draft),
                false => std::fs::rename(&draft, &target),
            }
        });
        written.map_err(failed)
    }

    /// Removes the record, while holding its lock: whoever waited for it will find the name gone and start over.
    pub(crate) fn remove(self) -> Result<(), Error> {
        match std::fs::remove_file(&self.path) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => {
                Err(Error::io(format!("remove the record {}", self.path.display()), &cause))
            }
            _ => Ok(()),
        }
    }
}

/// What a record's file says. Its name says whose it is; one that says otherwise was not written by us.
fn record_of(path: &Path, text: &[u8]) -> Option<Record> {
    let names_its_file =
        |record: &Record| path.ends_with(file_name(&record.intent.container_id, &record.intent.ifname));
    parse(text).filter(names_its_file)
}

fn file_name(container_id: &str, ifname: &str) -> String {
    format!("{container_id}@{ifname}.jsonl")
}

fn lock(file: &File, path: &Path, mode: Mode, deadline: Instant) -> Result<(), Error> {
    let locked = flock::lock(file, mode, deadline);
    if locked.map_err(|cause| Error::io(format!("lock {}", path.display()), &cause))? {
        Ok(())
    } else {
        Err(locked_out(path))
    }
}

fn locked_out(path: &Path) -> Error {
    let text = format!("lock {}: another process held it for too long", path.display());
    Error::new(Code::TryAgainLater, text).with_details("another ADD or DEL is still running, or stuck")
}

fn make_directory(path: &Path) -> Result<(), Error> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|cause| Error::io(format!("make the directory {}", path.display()), &cause))
}
