//! The lock that makes one writer of a pool directory at a time.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Instant;

use crate::error::StoreError;
use crate::{flock, state_file};

use super::disk::io_error;

/// The right to write in a directory; released when dropped, and by the kernel when the process ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock of `dir`, which must exist, until `deadline`.
    pub(super) fn take(dir: &Path, deadline: Instant) -> Result<Self, StoreError> {
        let path = dir.join(".lock");
        let began = Instant::now();
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        loop {
            let file = state_file::open(&path, &options).map_err(io_error("open lock", &path))?;
            if !flock::lock(&file, flock::Mode::Exclusive, deadline).map_err(io_error("lock", &path))? {
                return Err(StoreError::Locked { path, waited: began.elapsed() });
            }
            // Else somebody removed the file since we opened it, and others lock a new one.
            if is_current(&file, &path) {
                return Ok(Self { _file: file });
            }
        }
    }
}

fn is_current(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.metadata()) {
        (Ok(locked), Ok(named)) => (locked.dev(), locked.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}
