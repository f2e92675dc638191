//! The lock that makes one writer of a pool directory at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::error::StoreError;

use super::disk::io_error;

/// First pause between two attempts; about the time a writer needs on a fast disk.
const FIRST_PAUSE: Duration = Duration::from_micros(200);
/// Longest pause: a writer that syncs a slow disk needs some 20 ms.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

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
        let mut pause = FIRST_PAUSE;
        let open = || OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path);
        let mut file = open().map_err(io_error("open lock", &path))?;
        loop {
            // flock cannot wait with a limit, and an alarm signal needs code we do not write.
            match file.try_lock() {
                Ok(()) if is_current(&file, &path) => return Ok(Self { _file: file }),
                // Somebody removed the file since we opened it: others lock a new one.
                Ok(()) => file = open().map_err(io_error("open lock", &path))?,
                Err(TryLockError::WouldBlock) => {
                    let now = Instant::now();
                    if now >= deadline {
                        return Err(StoreError::Locked { path, waited: now - began });
                    }
                    sleep(pause.min(deadline - now));
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(TryLockError::Error(source)) => return Err(io_error("lock", &path)(source)),
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
