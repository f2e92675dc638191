//! The client of the Kubernetes API, for every part of the agent.
//!
//! - [`Api`] sends one request with a deadline and an error that says what was attempted on which object.
//! - [`watch`] lists and watches one resource with `kube-runtime`, for as long as the agent runs.
//! - [`item`] decodes objects one by one. An object that cannot be read is reported by name and does not block others.
//! - [`revision`] notices a server whose data went back, as after a restore of etcd. Everything is then listed again.
//! - [`backoff`]: growing pauses with jitter.
//!
//! This crate does not know the meaning of any object.

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

/// Locks, and ignores poisoning: the panic was reported where it happened, and no operation of this project leaves the value behind
/// a mutex half-changed.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
