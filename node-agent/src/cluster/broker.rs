//! The broker: plugins ask it over a socket for addresses of the cluster's pools.
//!
//! A plugin speaks to no API server: it has no credentials, and lives for milliseconds. The agent has one connection,
//! knows the pools, and writes what several plugins of the node want in one request.
//!
//! One line of JSON each way per connection, see `octavia_bridge_ipam::wire`. Only root may ask: the socket lies in a
//! directory of root's, and the kernel says who has connected. A plugin that hangs up, as when the runtime's deadline is
//! over, does not stop what was begun for it; an address that its plugin does not take is released.

mod asked;
pub(crate) mod call;
pub(crate) mod client;
mod contested;
mod metrics;
mod replay;
mod rights;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use octavia_bridge_cluster::Api;
use octavia_bridge_ipam::file::Tombstones;
use octavia_bridge_ipam::kubernetes::{Settings, Store};
use octavia_bridge_ipam::name::is_object_name;
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::attachments::Sandboxes;
use crate::cluster::Cluster;
use crate::cluster::pending::Pending;
use crate::cluster::reclaim::{self, Pods, ReclaimApi};
use crate::health::{Health, Line, Requests};
use crate::node::apply::Endpoint;
use crate::socket::Socket;
use contested::Contested;
use metrics::{BrokerMetrics, Pools};

/// Connections at work at once; more wait to be accepted. A node has room for a few hundred pods.
const CONNECTIONS: usize = 512;
/// How long a stopping agent waits for what is under way.
const LAST: Duration = Duration::from_secs(5);

/// What every connection needs.
struct Broker {
    store: Store,
    pending: Pending,
    contested: Contested,
    /// Who may ask, beside root: the user who runs the agent.
    user: u32,
    metrics: BrokerMetrics,
}

/// A broker at work.
pub(crate) struct Running {
    /// For others that ask the API server, each by a client of its own.
    pub(crate) api: Access,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// The way to the API server. A client belongs to the thread that asks by it: its connections end with that thread.
#[derive(Clone)]
pub(crate) struct Access {
    config: kube::Config,
    server: String,
    requests: Requests,
    /// This node's name in the API.
    pub(crate) node: String,
}

impl Access {
    /// A client of the caller's own.
    ///
    /// # Errors
    /// Certificates and keys that are none.
    pub(crate) fn api(&self) -> anyhow::Result<Api> {
        Ok(Api::new(client::connect(&self.config, &self.requests)?, &self.server))
    }

    /// Where the server listens.
    pub(crate) fn endpoint(&self) -> Option<Endpoint> {
        let url = &self.config.cluster_url;
        let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("http") { 80 } else { 443 });
        url.host().map(|host| Endpoint::new(host, port))
    }
}

/// Begins to listen. An API server that is away is not an error: calls are answered so.
///
/// # Errors
/// No node name, no credentials, a socket that cannot be made.
pub(crate) async fn start(cluster: &Cluster, state_dir: &Path, health: &Health) -> anyhow::Result<Running> {
    let (config, server) = client::configuration(cluster.kubeconfig.as_deref()).await?;
    let requests = Requests::new(&health.metrics, &server);
    let client = client::connect(&config, &requests)?;
    let node = cluster.node_name.clone().context(
        "no node name: pass --node-name, or NODE_NAME in the environment (from the downward API, spec.nodeName)",
    )?;
    let namespace = cluster.pool_namespace.clone();
    anyhow::ensure!(
        is_object_name(&node),
        "\"{node}\" is not a node name: it may have lower-case letters, digits, '-' and '.'"
    );
    tracing::info!("pools are in {namespace} at {server}; this is node {node}");
    let shared = Access { config, server: server.clone(), requests: requests.clone(), node: node.clone() };
    let api = Api::new(client, &server);
    let pods = Arc::<Pods>::default();
    let pending = Pending::new(Tombstones::new(state_dir.join("cluster-tombstones")));
    let reclaiming = reclaim::Settings {
        node: &node.clone(),
        namespace: &namespace.clone(),
        grace: cluster.reclaim_grace,
        state_dir,
        pods: &pods.clone(),
        pending: &pending.clone(),
    };
    let store = Store::new(api.clone(), Settings { namespace, node, seed: None })?;
    let socket = Socket::bind(&cluster.socket, "--socket")?;
    tracing::info!("listening on {}", cluster.socket.display());
    // The kernel's word on who we are is the one it gives on others.
    let user =
        UnixStream::pair().and_then(|(ours, _)| ours.peer_cred()).context("find out who runs this")?.uid();
    let metrics = BrokerMetrics::new(&health.metrics);
    let contested = Contested {
        node: reclaiming.node.to_owned(),
        sandboxes: Sandboxes::under(state_dir),
        api: ReclaimApi::new(api.apart()),
        grace: cluster.reclaim_grace,
        pods,
        doubts: Mutex::default(),
    };
    let broker = Arc::new(Broker { store, pending, contested, user, metrics });
    health.metrics.collect(Pools(broker.clone()));
    let told = requests.clone();
    health.readiness.ask("api", move || told.lines());
    let asked = broker.clone();
    health.readiness.ask("pools", move || metrics::lines(&asked.store, &asked.metrics));
    let (path, found) = (cluster.socket.clone(), socket.watch());
    health.readiness.ask("socket", move || match found() {
        Ok(()) => vec![Line::Well(format!("plugins are answered on {}", path.display()))],
        Err(why) => vec![Line::Missing(why)],
    });
    let mut reclaiming = reclaim::start(&broker.store, &api.apart(), &reclaiming, health);
    reclaiming.spawn(rights::review(api.apart(), requests));
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(serve(broker, socket, reclaiming, stopped));
    Ok(Running { api: shared, stop, task })
}

impl Running {
    /// Accepts no more, and waits some seconds for what is under way.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!("the broker panicked: {error}");
        }
    }
}

/// Answers calls until it is to stop.
async fn serve(
    broker: Arc<Broker>,
    socket: Socket,
    mut reclaiming: JoinSet<()>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut tasks = JoinSet::new();
    let mut replays = JoinSet::new();
    replays.spawn(replay::replay(broker.clone()));
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = async {
            let permit = permits.clone().acquire_owned().await;
            (permit, socket.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accepted => accepted,
            _ = stopped.wait_for(|stopped| *stopped) => break,
            Some(ended) = tasks.join_next() => {
                note(ended);
                continue;
            }
        };
        match accepted {
            Ok(stream) => {
                let broker = broker.clone();
                tasks.spawn(async move {
                    broker.answer(stream).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: those at work give some back.
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(socket);
    replays.shutdown().await;
    reclaiming.shutdown().await;
    let rest = async {
        while let Some(ended) = tasks.join_next().await {
            note(ended);
        }
    };
    if timeout(LAST, rest).await.is_err() {
        tracing::warn!("stopping while {} calls still run", tasks.len());
    }
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!("a call panicked: {error}");
    }
}
