//! What the agent reports of itself: to kubelet whether it works, to people what is missing, to Prometheus metrics.
//!
//! Kubelet's probes run `octavia-bridge-agent health`, which asks over a socket of root's. People and Prometheus ask over
//! HTTP: a port of loopback is open to every process of the node, and belongs to the one that takes it first, so that no
//! agent may live or die by its answers.
//!
//! Each part of the agent says how it stands when that changes; nothing is looked up for a caller but what is in memory.

mod metrics;
mod options;
mod probe;
mod pulse;
mod readiness;
mod requests;
mod server;

use std::sync::Arc;

pub(crate) use metrics::{Label, Links, Metrics, PolicyState, Times};
pub(crate) use options::{HealthOptions, HealthSocket};
pub(crate) use probe::{DEADLINE, Question, exchange};
pub(crate) use pulse::{Due, Pulse};
pub(crate) use readiness::{Line, Readiness, Report, Told, Word};
pub(crate) use requests::Requests;
pub(crate) use server::Bind;

/// What is told. Parts of the agent share it.
#[derive(Debug, Default)]
pub(crate) struct Health {
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
    pub(crate) pulse: Arc<Pulse>,
}

/// Begins to answer, in both ways, until the runtime ends.
pub(crate) fn serve(options: &HealthOptions, health: &Arc<Health>) {
    let probes = health.readiness.side_part("probes");
    tokio::spawn(probe::answer(options.place.health_socket.clone(), health.clone(), probes));
    if let Bind::At(address) = options.health_bind {
        let http = health.readiness.side_part("http");
        tokio::spawn(server::serve(address, health.clone(), http));
    }
}

impl Health {
    /// Whether the agent works, and that in a line. An API server that is away has no part in it.
    fn alive(&self) -> (bool, String) {
        match self.pulse.overdue() {
            None => (true, "ok\n".into()),
            Some(late) => {
                (false, format!("the loop that keeps the links is stuck: {} s late\n", late.as_secs()))
            }
        }
    }
}
