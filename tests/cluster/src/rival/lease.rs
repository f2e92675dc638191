//! The lease that whereabouts takes for each operation, one for the whole cluster, as Go's client library takes leases.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{Requests, RivalError};
use crate::clock;

/// `leader_lease_duration`, `leader_renew_deadline` and `leader_retry_period` as they are unless configured.
const DURATION: Duration = Duration::from_millis(1500);
const RENEW: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_millis(500);

/// A lease that is ours.
pub(super) struct Lease {
    requests: Requests,
    path: String,
    holder: String,
    object: Value,
    renewed: Instant,
}

impl Lease {
    /// Waits for the lease.
    ///
    /// Another's is respected until it has not changed for its duration, by our own clock: how old it was when we first
    /// saw it, nobody knows. Whatever the API answers, this goes on trying, as the original does.
    pub(super) async fn acquire(
        requests: &Requests,
        holder: &str,
        limit: Duration,
    ) -> Result<Self, RivalError> {
        let namespace = requests.access.namespace();
        let collection = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
        let path = format!("{collection}/whereabouts");
        let started = Instant::now();
        let mut seen: Option<(Value, Instant)> = None;
        while started.elapsed() < limit {
            let written = match requests.ask("GET", &path, None).await {
                Ok(answer) if answer.status == 404 => {
                    let object = json!({
                        "metadata": {"name": "whereabouts"},
                        "spec": spec(holder, 0),
                    });
                    requests.ask("POST", &collection, Some(&object)).await.ok()
                }
                Ok(answer) if answer.status == 200 => {
                    let mut object = answer.body;
                    let since = match &seen {
                        Some((spec, since)) if *spec == object["spec"] => *since,
                        _ => seen.insert((object["spec"].clone(), Instant::now())).1,
                    };
                    let other = object["spec"]["holderIdentity"].as_str().unwrap_or_default();
                    if other.is_empty() || other == holder || since.elapsed() >= DURATION {
                        let changes = object["spec"]["leaseTransitions"].as_u64().unwrap_or_default();
                        object["spec"] = spec(holder, changes + u64::from(other != holder));
                        requests.ask("PUT", &path, Some(&object)).await.ok()
                    } else {
                        None
                    }
                }
                _ => None,
            };
            if let Some(answer) = written.filter(|answer| matches!(answer.status, 200 | 201)) {
                let (requests, holder) = (requests.clone(), holder.to_owned());
                let mut lease = Self { requests, path, holder, object: answer.body, renewed: Instant::now() };
                // The loop that keeps it begins by renewing it.
                lease.renew().await?;
                return Ok(lease);
            }
            sleep(RETRY + RETRY.mul_f64(1.2 * clock::fraction())).await;
        }
        Err(RivalError::NoLease(limit))
    }

    /// Renews the lease when it is time to: called before each request, as there is no second task that would.
    pub(super) async fn keep(&mut self) -> Result<(), RivalError> {
        if self.renewed.elapsed() < RENEW { Ok(()) } else { self.renew().await }
    }

    async fn renew(&mut self) -> Result<(), RivalError> {
        let mut object = self.object.clone();
        object["spec"]["renewTime"] = clock::rfc3339().into();
        let answer = self.requests.ask("PUT", &self.path, Some(&object)).await?;
        if answer.status != 200 {
            return Err(RivalError::LeaseLost);
        }
        self.object = answer.body;
        self.renewed = Instant::now();
        Ok(())
    }

    /// Gives the lease up. If that fails, others wait until it is over.
    pub(super) async fn release(self) {
        let Ok(mut object) = self.requests.ask("GET", &self.path, None).await.map(|answer| answer.body)
        else {
            return;
        };
        if object["spec"]["holderIdentity"] == self.holder.as_str() {
            let changes = object["spec"]["leaseTransitions"].as_u64().unwrap_or_default();
            object["spec"] = spec("", changes);
            self.requests.ask("PUT", &self.path, Some(&object)).await.ok();
        }
    }
}

fn spec(holder: &str, changes: u64) -> Value {
    let now = clock::rfc3339();
    json!({
        "holderIdentity": holder,
        "leaseDurationSeconds": 1,
        "acquireTime": now,
        "renewTime": now,
        "leaseTransitions": changes,
    })
}
