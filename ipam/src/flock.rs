//! Waiting for a file lock, but not for ever.

use std::fs::TryLockError;
use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// First pause between two attempts; about the time a writer needs on a fast disk.
const FIRST_PAUSE: Duration = Duration::from_micros(200);
/// Longest pause: a writer that syncs a slow disk needs some 20 ms.
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Repeats `attempt`, a `try_lock` or `try_lock_shared`, until it succeeds. Returns whether it did before `deadline`.
///
/// `flock(2)` cannot wait with a limit, and an alarm signal to interrupt it would need unsafe code.
///
/// # Errors
/// What `attempt` fails with, other than that somebody else holds the lock.
pub fn wait(attempt: impl Fn() -> Result<(), TryLockError>, deadline: Instant) -> io::Result<bool> {
    let mut pause = FIRST_PAUSE;
    loop {
        match attempt() {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(cause)) => return Err(cause),
            Err(TryLockError::WouldBlock) => {
                let now = Instant::now();
                if now >= deadline {
                    return Ok(false);
                }
                sleep(pause.min(deadline - now));
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}
