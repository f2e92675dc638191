//! Waiting for a file lock, but not for ever.

use std::fs::{File, TryLockError};
use std::io;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Instant;

/// Whether others may hold the lock, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Together with other shared holders.
    Shared,
    /// Alone.
    Exclusive,
}

/// Locks `file` (`flock(2)`), waiting for other holders until `deadline`. Returns whether it is locked now.
///
/// `flock` cannot wait with a limit, so a thread waits for us: it wakes when the lock is free, where polling would sleep
/// on. After the deadline the thread goes on waiting: should it still get the lock, it gives it
/// up at once, since the lock goes with the last handle of the open file.
///
/// # Errors
/// The file system has no locks, or no thread can be started.
pub fn lock(file: &File, mode: Mode, deadline: Instant) -> io::Result<bool> {
    let tried = match mode {
        Mode::Shared => file.try_lock_shared(),
        Mode::Exclusive => file.try_lock(),
    };
    match tried {
        Ok(()) => return Ok(true),
        Err(TryLockError::Error(cause)) => return Err(cause),
        Err(TryLockError::WouldBlock) => {}
    }
    // The same open file, so what the thread locks is locked here.
    let handle = file.try_clone()?;
    let (sender, receiver) = channel();
    thread::Builder::new().name("flock".into()).spawn(move || {
        let locked = match mode {
            Mode::Shared => handle.lock_shared(),
            Mode::Exclusive => handle.lock(),
        };
        // Closed before it is reported: the caller may already have turned away.
        drop(handle);
        sender.send(locked).ok();
    })?;
    match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(locked) => locked.map(|()| true),
        Err(RecvTimeoutError::Timeout) => Ok(false),
        Err(RecvTimeoutError::Disconnected) => {
            Err(io::Error::other("the waiting thread ended without a word"))
        }
    }
}
