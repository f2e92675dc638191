//! The pods of this node, as one watch tells of them.
//!
//! They only say whom to suspect: who is not among them is asked for by name before anything is done. So it does no harm
//! that a watch is late, or never comes about.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::AsyncBufReadExt;
use octavia_bridge_ipam::kubernetes::{ApiError, Why};
use tokio::time::{Instant, sleep, timeout};

use super::api::Api;
use super::pod::{Event, Page, Pod};
use super::{jitter, lock};

/// A watch that has said nothing for so long is begun anew. That is no fault: a server sends a bookmark a minute, but none
/// for a kind of which it has not seen a change since its start. Yet the connection may lead nowhere by now.
const QUIET: Duration = Duration::from_secs(90);
/// First and longest pause before a failed reading or watch is begun again.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);
/// A watch that ends sooner than this was no use.
const SHORT: Duration = Duration::from_secs(1);
/// The server has forgotten what came after our version.
const EXPIRED: u16 = 410;

/// Pods by `namespace/name`; `None` until all were read once.
#[derive(Debug, Default)]
pub(super) struct Pods(Mutex<Option<HashMap<String, Pod>>>);

impl Pods {
    /// Whether all were read once.
    pub(super) fn are_known(&self) -> bool {
        lock(&self.0).is_some()
    }

    /// Whether the pod with this uid lives, as far as is known.
    pub(super) fn lives(&self, podref: &str, uid: &str) -> bool {
        lock(&self.0).as_ref().and_then(|pods| pods.get(podref)).is_some_and(|pod| pod.is_alive(uid))
    }

    /// The uid of the pod of this name, if it is known and may still run.
    pub(super) fn uid(&self, podref: &str) -> Option<String> {
        let pods = lock(&self.0);
        let pod = pods.as_ref()?.get(podref)?;
        pod.is_alive(&pod.uid).then(|| pod.uid.to_string())
    }

    fn see(&self, change: impl FnOnce(&mut HashMap<String, Pod>)) {
        change(lock(&self.0).get_or_insert_default());
    }
}

impl Pod {
    /// Whether it is the one with this uid, and may still run.
    pub(super) fn is_alive(&self, uid: &str) -> bool {
        self.mirror || (self.ended.is_none() && *self.uid == *uid)
    }
}

/// Reads and watches until the task is ended.
pub(super) async fn follow(api: Api, node: String, pods: Arc<Pods>) {
    let mut version: Option<String> = None;
    let mut failures = 0;
    let mut told = String::new();
    loop {
        let begun = Instant::now();
        let turn = match &version {
            None => read_all(&api, &node, &pods).await.map(Some),
            Some(from) => watch(&api, &node, from, &pods).await,
        };
        match turn {
            Ok(next) => {
                failures = if version.is_none() || begun.elapsed() >= SHORT { 0 } else { failures + 1 };
                version = next;
                told.clear();
            }
            Err(error) => {
                failures += 1;
                let why = format!("{error}: {}; until that is so no pod is taken for gone", error.why);
                if why != told {
                    tracing::warn!("{why}");
                    told = why;
                }
            }
        }
        if failures > 0 {
            sleep(jitter((PAUSE * 2_u32.pow(failures.min(8))).min(LONGEST))).await;
        }
    }
}

async fn read_all(api: &Api, node: &str, pods: &Pods) -> Result<String, ApiError> {
    let mut all = HashMap::new();
    let mut page = api.pods(node, "").await?;
    loop {
        let Page { pods: some, version, next } = page;
        all.extend(some.into_iter().map(|pod| (pod.podref.clone(), pod)));
        if next.is_empty() {
            pods.see(|known| *known = all);
            return Ok(version);
        }
        page = api.pods(node, &next).await?;
    }
}

/// Takes in what changes until the watch ends. Returns from where to go on, `None` for a new reading.
async fn watch(api: &Api, node: &str, from: &str, pods: &Pods) -> Result<Option<String>, ApiError> {
    let mut lines = match api.watch(node, from).await {
        Ok(lines) => pin!(lines),
        Err(error) if error.code() == Some(EXPIRED) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut version = from.to_owned();
    let mut line = Vec::new();
    loop {
        line.clear();
        match timeout(QUIET, lines.read_until(b'\n', &mut line)).await {
            Ok(Ok(1..)) => {}
            // Ended, cut as every load balancer does, or quiet: the next one tells whether the server is well.
            Ok(Ok(0) | Err(_)) | Err(_) => return Ok(Some(version)),
        }
        match api.event(node, &line)? {
            Event::Put(pod, now) => {
                pods.see(|known| drop(known.insert(pod.podref.clone(), pod)));
                version = now;
            }
            Event::Deleted(pod, now) => {
                pods.see(|known| {
                    if known.get(&pod.podref).is_some_and(|known| known.uid == pod.uid) {
                        known.remove(&pod.podref);
                    }
                });
                version = now;
            }
            Event::Bookmark(now) => version = now,
            Event::Failed(EXPIRED, _) => return Ok(None),
            Event::Failed(code, message) => {
                return Err(api.watch_failed(node, Why::Refused { code, message, retry_after: None }));
            }
        }
    }
}
