//! The one way to the Kubernetes API, for every part of the agent.
//!
//! - [`Api`] sends one request with a deadline and an error that says what was attempted on which object.
//! - [`watch`] lists and watches one kind of objects by `kube-runtime`, for as long as the agent runs.
//! - [`item`]: objects are decoded one by one. One that cannot be read bears its own name and holds up no other.
//! - [`revision`]: a server whose data went back, as after a restore of etcd, is noticed, and everything is listed again.
//! - [`backoff`]: pauses that grow and differ.
//!
//! Nothing here knows what the objects are about.

pub mod api;
pub mod backoff;
mod error;
pub mod item;
mod observe;
pub mod revision;
pub mod watch;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use api::{Api, Limit};
pub use backoff::{Backoff, Jitter, Retries};
pub use error::{ApiError, Why};
pub use item::{Content, Item};
pub use watch::{Change, Selection, follow};

/// Locks. A panic elsewhere has been reported there; no operation leaves half-changed what is behind a mutex of this project.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
