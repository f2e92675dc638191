//! kubernetes-nmstate on the same node: two that keep the same links would undo each other's work.

use std::fs::{File, TryLockError};
use std::path::Path;

/// Its handler runs here, and so nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error(
    "kubernetes-nmstate is running on this node (it holds {lock}); octavia-bridge-agent changes nothing meanwhile"
)]
pub(crate) struct Running {
    lock: String,
}

/// Looks whether the handler holds its lock. A file that is left of a handler that is gone is not locked.
///
/// # Errors
/// [`Running`].
pub(crate) fn stand_down(lock: &Path) -> Result<(), Running> {
    // One that cannot be opened is none: the handler makes it for itself.
    let Ok(file) = File::open(lock) else { return Ok(()) };
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Err(Running { lock: lock.display().to_string() }),
        _ => Ok(()),
    }
}
