//! One agent of all, by a Lease object.
//!
//! It spares the API server the same questions from every node; nothing is unsafe if two agents are elected for a while. A
//! lease is over when it was not renewed for as long as it says, counted here from when its last renewal was seen: what
//! time its holder, or this node, believes it is does not matter.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use octavia_bridge_cluster::{ApiError, Jitter, lock};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::WarnOnce;
use super::api::ReclaimApi;

/// The lease's name; its namespace is the pools'. It ships with the roles, empty: a role cannot allow to create one object by
/// its name, and an agent that may create leases at all could make any other program's.
const NAME: &str = "octavia-bridge-reclaim";
/// Bounds of how long a lease lasts without being renewed; within them it is the grace period.
const SHORTEST: Duration = Duration::from_secs(3);
const LONGEST: Duration = Duration::from_secs(60);
/// The longest wait for a holder that claims a longer one.
const LONGEST_FOREIGN: Duration = Duration::from_secs(600);

/// Whether this agent is the elected one.
#[derive(Debug)]
pub(super) struct Election {
    node: String,
    namespace: String,
    term: Duration,
    won_until: Mutex<Option<Instant>>,
}

/// The lease as it was last seen.
#[derive(Debug, Default)]
struct SeenLease {
    version: String,
    since: Option<Instant>,
}

/// What to do about a lease.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Renew,
    Take,
    Wait,
}

impl Election {
    pub(super) fn new(node: &str, namespace: &str, grace: Duration) -> Self {
        let term = grace.clamp(SHORTEST, LONGEST);
        Self { node: node.to_owned(), namespace: namespace.to_owned(), term, won_until: Mutex::default() }
    }

    /// Whether this agent has the lease, with some of it left.
    pub(super) fn is_won(&self) -> bool {
        lock(&self.won_until).is_some_and(|until| Instant::now() < until)
    }

    /// Stands for election until the task is ended.
    pub(super) async fn stand(self: Arc<Self>, api: ReclaimApi) {
        let mut seen = SeenLease::default();
        let mut warning = WarnOnce::default();
        loop {
            let was_won = self.is_won();
            let sent = Instant::now();
            match self.turn(&api, &mut seen).await {
                Ok(Some(won)) => {
                    warning.clear();
                    // Less than others believe, so that this one stops before another begins.
                    *lock(&self.won_until) = won.then(|| sent + self.term * 2 / 3);
                    if won != was_won {
                        let now = if won { "is now" } else { "is no longer" };
                        tracing::info!("this agent {now} elected to reclaim addresses of deleted nodes");
                    }
                }
                Ok(None) => {
                    *lock(&self.won_until) = None;
                    warning.warn(format!(
                        "the Lease {}/{NAME} is missing, so no agent reclaims the addresses of deleted nodes; apply the \
                         manifests again, since agents have no permission to create it",
                        self.namespace
                    ));
                }
                // Another agent was faster.
                Err(error) if error.is_conflict() => {}
                Err(error) => {
                    warning.warn(format!("this agent cannot be elected: {}", error.in_words()));
                }
            }
            sleep(Jitter::fresh().spread(if self.is_won() { self.term / 3 } else { self.term / 2 })).await;
        }
    }

    /// One look, and what comes of it: whether the lease is ours. `None` if there is none.
    async fn turn(&self, api: &ReclaimApi, seen: &mut SeenLease) -> Result<Option<bool>, ApiError> {
        let Some(lease) = api.lease(&self.namespace, NAME).await? else { return Ok(None) };
        match seen.judge(&lease, &self.node) {
            Step::Wait => Ok(Some(false)),
            Step::Renew | Step::Take => {
                let mut lease = lease;
                lease["spec"] = self.spec(&lease["spec"]);
                // It names its version, so only one of those who take it succeeds.
                api.update_lease(&self.namespace, NAME, &lease).await?;
                Ok(Some(true))
            }
        }
    }

    /// Ours from now on. The times in it are for people.
    fn spec(&self, before: &Value) -> Value {
        let now = format!("{:.6}", Timestamp::now());
        let ours = before["holderIdentity"] == *self.node;
        let acquired = if ours { before["acquireTime"].clone() } else { now.clone().into() };
        let changes = before["leaseTransitions"].as_u64().unwrap_or(0)
            + u64::from(!ours && !before["holderIdentity"].is_null());
        json!({
            "holderIdentity": self.node, "leaseDurationSeconds": self.term.as_secs(),
            "acquireTime": acquired, "renewTime": now, "leaseTransitions": changes,
        })
    }
}

impl SeenLease {
    fn judge(&mut self, lease: &Value, node: &str) -> Step {
        let version = lease["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        if self.since.is_none() || version != self.version {
            *self = Self { version: version.to_owned(), since: Some(Instant::now()) };
        }
        let spec = &lease["spec"];
        let holder = spec["holderIdentity"].as_str().unwrap_or_default();
        if holder == node {
            return Step::Renew;
        }
        let term = Duration::from_secs(spec["leaseDurationSeconds"].as_u64().unwrap_or(0));
        let term = term.clamp(SHORTEST, LONGEST_FOREIGN);
        let is_over = self.since.is_some_and(|since| since.elapsed() >= term);
        if holder.is_empty() || is_over { Step::Take } else { Step::Wait }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn lease(holder: &str, version: &str, renewed: &str) -> Value {
        json!({
            "metadata": { "resourceVersion": version },
            "spec": { "holderIdentity": holder, "leaseDurationSeconds": 30, "renewTime": renewed },
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_over_when_no_renewal_is_seen_for_its_term_whatever_its_times_say() {
        let mut seen = SeenLease::default();
        // Its times are years ago: so says the holder's clock, or ours.
        let long_ago = "2001-01-01T00:00:00.000000Z";
        assert_eq!(seen.judge(&lease("other", "1", long_ago), "me"), Step::Wait);
        advance(Duration::from_secs(29)).await;
        assert_eq!(seen.judge(&lease("other", "2", long_ago), "me"), Step::Wait, "renewed");
        advance(Duration::from_secs(29)).await;
        assert_eq!(seen.judge(&lease("other", "2", long_ago), "me"), Step::Wait);
        advance(Duration::from_secs(1)).await;
        assert_eq!(seen.judge(&lease("other", "2", "2999-01-01T00:00:00.000000Z"), "me"), Step::Take);
    }

    #[tokio::test(start_paused = true)]
    async fn ours_is_renewed_and_a_free_one_is_taken() {
        let mut seen = SeenLease::default();
        assert_eq!(seen.judge(&lease("me", "1", ""), "me"), Step::Renew);
        assert_eq!(seen.judge(&lease("", "2", ""), "me"), Step::Take);
    }

    #[test]
    fn a_lease_says_since_when_and_how_often_it_changed_hands() {
        let election = Election::new("me", "kube-system", Duration::from_secs(3600));
        let first = election.spec(&Value::Null);
        assert_eq!(first["leaseTransitions"], 0);
        assert_eq!(first["leaseDurationSeconds"], 60);
        let renewed = election.spec(&first);
        assert_eq!(
            (&renewed["acquireTime"], &renewed["leaseTransitions"]),
            (&first["acquireTime"], &json!(0))
        );
        let theirs = json!({ "holderIdentity": "other", "acquireTime": "x", "leaseTransitions": 4 });
        let taken = election.spec(&theirs);
        assert_eq!(taken["leaseTransitions"], 5);
        let time = taken["acquireTime"].as_str().unwrap();
        // The form of MicroTime; the API server refuses others.
        assert!(time.len() == 27 && time.ends_with('Z') && time.as_bytes()[10] == b'T', "{time}");
    }
}
