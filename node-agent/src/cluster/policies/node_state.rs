//! This node's `NodeNetworkState`, an object named as the node: what `show` prints, and how the agent stands.
//!
//! | what changed | written |
//! |---|---|
//! | links, addresses or routes; how the agent stands | [`LEAST`] after the last time at the earliest |
//! | only numbers in that, which may be seconds | [`NUMBERS`] after the last time |
//! | nothing | [`REFRESH`] after the last time at the latest, so that readers see that the agent is at work |
//! | the node was registered anew | as for links, and [`LEAST`] after each time until the object of the node before is collected |
//!
//! One patch replaces the whole status, so nothing of the present one has to be known: of what was written the agent keeps a
//! hash.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use octavia_bridge_cluster::{ApiError, Backoff, Jitter};
use octavia_bridge_ipam::causes::chain;
use octavia_bridge_netlink::Netlink;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};

use super::api::PolicyApi;
use super::conditions::{self, Condition};
use super::follow::Known;
use super::objects::{Head, NetworkState, ObjectMeta, Resource};
use crate::cluster::backoff;
use crate::health::Health;
use crate::node::{described, nmstate_lock, observed};

/// Between two writes.
const LEAST: Duration = Duration::from_secs(10);
/// The same if only numbers differ.
const NUMBERS: Duration = Duration::from_secs(60);
/// The longest time without a write, of which the last part is left to chance.
const REFRESH: Duration = Duration::from_secs(300);
const CHANCE: Duration = Duration::from_secs(60);
/// Between two looks at how the agent stands, which costs no request.
const LOOK: Duration = Duration::from_secs(5);
/// Changes come in bursts, on many nodes at once, and the agent says how it stands with them a moment later: how long to let that
/// pass, about.
const BURST: Duration = Duration::from_secs(1);
/// Pause before a kind that the server lacks is looked for again.
const ABSENT: Duration = Duration::from_secs(60);
/// Routes in it at most: thousands of them make an object that etcd refuses.
const MOST_ROUTES: usize = 1000;
/// What wrote it, in the field for the version of kubernetes-nmstate's library.
const VERSION: &str = concat!("octavia-bridge-agent ", env!("CARGO_PKG_VERSION"));

/// The writer of this node's.
pub(super) struct NodeState {
    api: PolicyApi,
    node: String,
    nmstate_lock: PathBuf,
    health: Arc<Health>,
    /// Something in the kernel has changed.
    changes: Arc<Notify>,
    changed: bool,
    /// The conditions that the server has; `None` until the object is known to exist.
    known: Option<Vec<Condition>>,
    written: Option<Written>,
    /// The node's uid when the object was read or created last.
    uid: String,
    /// The object belongs to a node that had this name before, and will be collected.
    is_of_another: bool,
    /// When the kernel was read last: events alone must not have all routes read each second.
    read_at: Option<Instant>,
    /// What failed last, said once.
    told: String,
    backoff: Backoff,
    jitter: Jitter,
}

/// What was written last.
struct Written {
    at: Instant,
    /// When to write again, whatever happens.
    due: Instant,
    /// Of the links, addresses and routes.
    hash: u64,
}

impl NodeState {
    pub(super) fn new(
        api: PolicyApi,
        node: String,
        nmstate_lock: PathBuf,
        health: Arc<Health>,
        changes: Arc<Notify>,
    ) -> Self {
        Self {
            api,
            node,
            nmstate_lock,
            health,
            changes,
            changed: true,
            known: None,
            written: None,
            uid: String::new(),
            is_of_another: false,
            read_at: None,
            told: String::new(),
            backoff: backoff::status(),
            jitter: Jitter::fresh(),
        }
    }

    /// Writes what is new until the task is ended.
    pub(super) async fn run(mut self, mut nodes: watch::Receiver<Known<Head>>) {
        let mut pause = LOOK;
        loop {
            let soon = tokio::select! {
                () = sleep(pause) => false,
                () = self.changes.notified() => {
                    self.changed = true;
                    true
                }
                changed = nodes.changed() => match changed {
                    Ok(()) => true,
                    // The agent is ending.
                    Err(_) => return,
                }
            };
            if soon {
                sleep(self.jitter.around(BURST)).await;
            }
            if let Some(last) = self.read_at.max(self.written.as_ref().map(|written| written.at)) {
                sleep_until(last + LEAST).await;
            }
            let node =
                nodes.borrow_and_update().objects.as_ref().and_then(|all| all.get(&self.node).cloned());
            pause = match node {
                Some(node) => self.round(&node.metadata).await,
                None => LOOK,
            };
        }
    }

    /// Returns when to come back.
    async fn round(&mut self, node: &ObjectMeta) -> Duration {
        // Its handler writes the same object.
        if nmstate_lock::stand_down(&self.nmstate_lock).is_err() {
            (self.known, self.written) = (None, None);
            return LOOK;
        }
        match self.update(node).await {
            Ok(()) => {
                if !self.told.is_empty() {
                    tracing::info!("the agent can write the state of this node again");
                    self.told.clear();
                }
                self.backoff.reset();
                LOOK
            }
            Err(error) => {
                let absent = error.downcast_ref::<ApiError>().is_some_and(ApiError::is_absent);
                let why = match absent {
                    true => format!("the API server has no {}, so none is written", Resource::State.plural()),
                    false => format!("{}; the agent retries", chain(&*error)),
                };
                if why != self.told {
                    tracing::warn!("{why}");
                    self.told = why;
                }
                self.known = None;
                if absent { ABSENT } else { self.backoff.next(&self.jitter) }
            }
        }
    }

    /// Writes if there is something new, or it is time.
    async fn update(&mut self, node: &ObjectMeta) -> anyhow::Result<()> {
        if self.uid != node.uid {
            // What the node before owned goes with it.
            (self.known, self.written) = (None, None);
        }
        let standing = conditions::of_node(&self.health.readiness.lines());
        let news = match (&self.written, &self.known) {
            (Some(written), Some(known)) => {
                let now = Instant::now();
                now >= written.due
                    || conditions::differ_in_words(known, &standing)
                    || (now >= written.at + NUMBERS && !conditions::say_as(known, &standing))
            }
            _ => true,
        };
        if !news && !self.changed {
            return Ok(());
        }
        self.read_at = Some(Instant::now());
        let state = read().await?;
        let hash = hash(&state);
        if !news && self.written.as_ref().is_some_and(|written| written.hash == hash) {
            self.changed = false;
            return Ok(());
        }
        let known = match self.known.take() {
            Some(known) => known,
            None => self.learn(node).await?,
        };
        let now = conditions::now();
        let conditions = conditions::dated(&known, standing, &now);
        let status = json!({
            "conditions": conditions,
            "currentState": state,
            "lastSuccessfulUpdateTime": now,
            "handlerNmstateVersion": VERSION,
        });
        match self.api.replace_status(Resource::State, &self.node, &status).await {
            // It was deleted, by hand or with a node that had this name before.
            Err(error) if error.is_absent() => self.written = None,
            written => {
                written?;
                let at = Instant::now();
                let pause = if self.is_of_another { LEAST } else { REFRESH - self.jitter.below(CHANCE) };
                let due = at + pause;
                (self.known, self.written) = (Some(conditions), Some(Written { at, due, hash }));
                self.changed = false;
            }
        }
        Ok(())
    }

    /// The conditions that the object has. It is created if there is none.
    async fn learn(&mut self, node: &ObjectMeta) -> Result<Vec<Condition>, ApiError> {
        let state = self.api.get::<NetworkState>(Resource::State, &self.node).await?;
        let owners =
            state.as_ref().map(|state| state.metadata.owner_references.as_slice()).unwrap_or_default();
        self.is_of_another = !owners.is_empty() && owners.iter().all(|owner| owner.uid != node.uid);
        self.uid.clone_from(&node.uid);
        if let Some(state) = state {
            return Ok(state.status.conditions);
        }
        let object = json!({
            "apiVersion": "nmstate.io/v1beta1",
            "kind": "NodeNetworkState",
            "metadata": {
                "name": self.node,
                "ownerReferences": [{ "apiVersion": "v1", "kind": "Node", "name": self.node, "uid": node.uid }],
            },
        });
        match self.api.create::<Head>(Resource::State, &object).await {
            // Made by a request whose answer was lost.
            Err(error) if !error.is_conflict() => Err(error),
            _ => Ok(Vec::new()),
        }
    }
}

/// The present state in nmstate's words. Read on a thread beside: a node may have thousands of links, and the links are kept
/// meanwhile.
async fn read() -> anyhow::Result<Value> {
    let runtime = Handle::current();
    spawn_blocking(move || {
        runtime.block_on(async {
            let netlink = Netlink::open().await?;
            let mut observed = observed::read(&netlink).await.context("read the present state")?;
            observed.routes.retain(observed::Route::is_configured);
            observed.routes.truncate(MOST_ROUTES);
            Ok(described::state(&observed))
        })
    })
    .await?
}

fn hash(state: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    state.to_string().hash(&mut hasher);
    hasher.finish()
}
