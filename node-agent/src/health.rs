//! What the agent tells of itself over HTTP: to kubelet whether it works, to people what is missing, to Prometheus figures.
//!
//! Each part of the agent says how it stands when that changes; nothing is looked up for a caller but what is in memory.

mod metrics;
mod pulse;
mod readiness;
mod requests;
mod server;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use metrics::{Label, Links, Metrics, PolicyState, Times};
pub(crate) use pulse::{Due, Pulse};
pub(crate) use readiness::{Line, Readiness, Report};
pub(crate) use requests::Requests;
pub(crate) use server::{Bind, serve};

/// What is told. Parts of the agent share it.
#[derive(Debug, Default)]
pub(crate) struct Health {
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
    pub(crate) pulse: Arc<Pulse>,
}

/// A panic elsewhere has been reported there; what is told stays as it was.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
