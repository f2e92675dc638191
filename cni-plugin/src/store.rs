//! Where the addresses of the built-in pools are written down: on this host, or in the cluster through the node's agent.

use std::cell::Cell;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use octavia_bridge_ipam::StoreError;
use octavia_bridge_ipam::allocate::Usage;
use octavia_bridge_ipam::causes::chain;
use octavia_bridge_ipam::conf::places::run_dir;
use octavia_bridge_ipam::conf::{Datastore, Ipam};
use octavia_bridge_ipam::file::{self, Claim, FileStore};
use octavia_bridge_ipam::remote::{self, RemoteStore};
use octavia_bridge_ipam::request::{Assigned, Request};

use crate::attachment::PoolAddressing;
use crate::config::{Essentials, IpamKind};
use crate::patience;
use crate::places::{self, AGENT_SOCKET, DATA_DIR};
use crate::protocol::{Code, Error};
use crate::record::{AddressingIntent, LOCK_WAIT, Records};
use crate::writer;

/// How long ADD waits for the agent, which spreads claims that collide with other nodes'. With a release after it, it
/// stays below [`LOCK_WAIT`], which is how long a DEL waits for this ADD.
const CLAIM_WAIT: Duration = Duration::from_secs(25);
/// How long CHECK and STATUS wait for the agent.
const QUESTION_WAIT: Duration = Duration::from_secs(5);
/// How long DEL, GC and a failing ADD wait for an agent that does not do what it is asked to. After that a tombstone stands for
/// the release.
const RELEASE_WAIT: Duration = Duration::from_secs(5);

/// How long they wait for a disk to take such a tombstone, and ADD for the directory of tombstones.
const DISK_WAIT: Duration = Duration::from_secs(5);

/// A store of addresses.
#[derive(Debug)]
pub(crate) enum Store {
    /// In the run directory of a data directory.
    File(FileStore),
    /// Behind the agent's socket.
    Cluster { socket: PathBuf, remote: RemoteStore },
}

/// What is left of [`RELEASE_WAIT`], for all releases of this process together.
#[derive(Debug)]
pub(crate) struct Patience(Cell<Duration>);

/// A claim that failed.
#[derive(Debug)]
pub(crate) struct Unclaimed {
    pub(crate) error: Error,
    /// Nothing was reserved, so there is nothing to give back.
    pub(crate) cleanly: bool,
}

impl From<Error> for Unclaimed {
    fn from(error: Error) -> Self {
        Self { error, cleanly: false }
    }
}

impl Store {
    /// The one that a configuration names. There is no other choice: falling back from one to the other would hand out
    /// one address twice.
    pub(crate) fn of(datastore: Datastore, essentials: &Essentials) -> Self {
        match datastore {
            Datastore::File => Self::file(&essentials.data_dir),
            Datastore::Kubernetes => Self::cluster(&essentials.agent_socket, &essentials.data_dir),
        }
    }

    fn file(data_dir: &Path) -> Self {
        Self::File(Self::pools(data_dir))
    }

    /// The `file` store that goes with a data directory.
    pub(crate) fn pools(data_dir: &Path) -> FileStore {
        let run_dir = run_dir(data_dir);
        FileStore::new(run_dir.join("pools"), run_dir.join("tombstones"))
    }

    /// Whether its addresses are this host's own.
    pub(crate) fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }

    fn cluster(socket: &Path, data_dir: &Path) -> Self {
        let remote = RemoteStore::new(socket.to_owned(), cluster_tombstones(data_dir))
            .with_agent_in(Path::new(DATA_DIR).join("agent"));
        Self::Cluster { socket: socket.to_owned(), remote }
    }

    /// What the record must say before anything is claimed.
    pub(crate) fn intent(&self) -> AddressingIntent {
        match self {
            Self::File(_) => AddressingIntent::Pool,
            Self::Cluster { socket, .. } => AddressingIntent::Cluster { socket: socket.clone() },
        }
    }

    /// Claims addresses. Another sandbox of the same pod keeps its own while it is alive. A claim on pools of this host is to be
    /// held before anybody uses them.
    pub(crate) fn claim(
        &self,
        pool: &PoolAddressing,
        records: &Records,
    ) -> Result<(Vec<Assigned>, Option<Claim>), Unclaimed> {
        let alive = |container_id: &str, ifname: &str| records.is_alive(container_id, ifname);
        match self {
            Self::File(store) => {
                let claim = acquire(store, &pool.request, records, &alive);
                // Unless the disk failed in the middle, a claim is all or nothing.
                let claim = claim.map_err(|error| Unclaimed {
                    cleanly: !matches!(error, StoreError::Io { .. }),
                    error: error.into(),
                })?;
                Ok((claim.assigned().to_vec(), Some(claim)))
            }
            Self::Cluster { remote, .. } => {
                let deadline = patience::until(CLAIM_WAIT);
                let pod_uid = pool.pod_uid.as_deref();
                let assigned = remote.claim_with(&pool.request, pod_uid, deadline, &alive, &prepare);
                let assigned =
                    assigned.map_err(|error| Unclaimed { cleanly: error.is_clean(), error: error.into() })?;
                Ok((assigned, None))
            }
        }
    }

    /// The addresses that the attachment has in the pools of `ipam`.
    pub(crate) fn held(&self, container_id: &str, ifname: &str, ipam: &Ipam) -> Result<Vec<IpNet>, Error> {
        match self {
            Self::File(store) => Ok(store.held(container_id, ifname, ipam)?),
            Self::Cluster { remote, .. } => {
                Ok(remote.held(container_id, ifname, ipam, patience::until(QUESTION_WAIT))?)
            }
        }
    }

    /// State of every range of `ipam`, in order.
    pub(crate) fn usage(&self, ipam: &Ipam) -> Result<Vec<Usage>, Error> {
        match self {
            Self::File(store) => Ok(store.usage(ipam)?),
            Self::Cluster { remote, .. } => Ok(remote.usage(ipam, patience::until(QUESTION_WAIT))?),
        }
    }

    /// Gives the attachment's addresses back.
    ///
    /// What cannot be taken back now is left as a tombstone, which the next operation on the store, or the agent,
    /// replays: DEL must not keep a pod from ending because a disk, a lock or the cluster is in a bad way.
    fn release(&self, container_id: &str, ifname: &str, patience: &Patience) -> Result<(), Error> {
        let entombed = match self {
            Self::File(store) => {
                match store.release_or_entomb(container_id, ifname, patience::until(LOCK_WAIT))? {
                    file::Released::Done(_) => None,
                    file::Released::Entombed(cause) => Some(chain(&cause)),
                }
            }
            Self::Cluster { remote, .. } => match patience.release(remote, container_id, ifname)? {
                remote::Released::Done(_) => None,
                remote::Released::Entombed(cause) => Some(chain(&cause)),
            },
        };
        if let Some(cause) = entombed {
            tracing::warn!("addresses of {container_id} {ifname} will be released later: {cause}");
        }
        Ok(())
    }
}

/// Makes the directory of tombstones. A claim does not wait for a disk that does not answer: a process makes it later.
fn prepare(directory: &Path) -> Result<(), StoreError> {
    match writer::prepare(directory, DISK_WAIT) {
        Err(late) if late.kind() == ErrorKind::TimedOut => {
            tracing::warn!("make {}: {late}; a process waits for it", directory.display());
            Ok(())
        }
        made => {
            let path = directory.to_owned();
            made.map_err(|source| StoreError::Io { attempt: "create directory", path, source })
        }
    }
}

/// Claims, if need be after the entries of attachments that are gone were taken back: a node that lost its runtime calls no DEL.
fn acquire(
    store: &FileStore,
    request: &Request,
    records: &Records,
    alive: &dyn Fn(&str, &str) -> bool,
) -> Result<Claim, StoreError> {
    let deadline = patience::until(LOCK_WAIT);
    let full = match store.acquire(request, deadline, alive) {
        Err(full @ StoreError::Exhausted(_)) => full,
        outcome => return outcome,
    };
    let pools = store.related(request)?;
    // All others wait for the lock meanwhile.
    let gone =
        |container_id: &str, ifname: &str| Instant::now() < deadline && records.is_gone(container_id, ifname);
    let taken = match store.take_back(&pools, deadline, &gone) {
        Ok(taken) if !taken.is_empty() => taken,
        _ => return Err(full),
    };
    tracing::warn!(
        "the range was full; took back {} addresses of attachments whose namespace and link are gone, such as {} of {}",
        taken.len(),
        taken[0].address,
        taken[0]
    );
    store.acquire(request, deadline, alive)
}

impl Patience {
    pub(crate) fn new() -> Self {
        Self(Cell::new(RELEASE_WAIT))
    }

    /// Releases in the cluster. Only time that came to nothing is counted: an agent that does its work may do much of it.
    fn release(
        &self,
        remote: &RemoteStore,
        container_id: &str,
        ifname: &str,
    ) -> Result<remote::Released, Error> {
        let began = Instant::now();
        let deadline = patience::until(self.0.get());
        let released = remote.release_or(container_id, ifname, deadline, |directory, tombstone| {
            let written = writer::entomb(directory, tombstone, DISK_WAIT);
            let path = directory.to_owned();
            written.map_err(|source| StoreError::Io { attempt: "write tombstone in", path, source })
        });
        if !matches!(released, Ok(remote::Released::Done(_))) {
            self.0.set(self.0.get().saturating_sub(began.elapsed()));
        }
        Ok(released?)
    }
}

/// Gives back what a record says was claimed. Nothing else is looked at: the configuration may be stripped, or another.
pub(crate) fn release_recorded(
    intent: &AddressingIntent,
    data_dir: &Path,
    container_id: &str,
    ifname: &str,
    patience: &Patience,
) -> Result<(), Error> {
    let store = match intent {
        AddressingIntent::Pool => Store::file(data_dir),
        // An earlier release let a network name any socket.
        AddressingIntent::Cluster { socket } => match places::require("agentSocket", socket) {
            Ok(()) => Store::cluster(socket, data_dir),
            Err(refused) => {
                tracing::warn!("{refused}; the agent at {AGENT_SOCKET} is asked");
                Store::cluster(Path::new(AGENT_SOCKET), data_dir)
            }
        },
        AddressingIntent::None | AddressingIntent::Delegated { .. } => return Ok(()),
    };
    store.release(container_id, ifname, patience)
}

/// Gives back whatever the attachment has, where no record tells in which store. The configuration may name no ipam,
/// or another than ADD's did; only what it says clearly keeps the agent from being asked.
pub(crate) fn release_unrecorded(
    essentials: &Essentials,
    container_id: &str,
    ifname: &str,
    patience: &Patience,
) -> Vec<Error> {
    let Essentials { data_dir, agent_socket, .. } = essentials;
    let mut failures = Vec::new();
    failures.extend(Store::file(data_dir).release(container_id, ifname, patience).err());
    let elsewhere = essentials.says_file || matches!(essentials.ipam, IpamKind::Delegated(_));
    if !elsewhere && may_be_in_cluster(essentials) {
        failures.extend(Store::cluster(agent_socket, data_dir).release(container_id, ifname, patience).err());
    }
    failures
}

/// Whether addresses of this host or of the cluster may ever have been given to attachments here.
pub(crate) fn is_used(essentials: &Essentials) -> bool {
    run_dir(&essentials.data_dir).join("pools").is_dir() || may_be_in_cluster(essentials)
}

/// Whether the agent may have given addresses to attachments here. A directory that is refused is not asked, so the agent is.
fn may_be_in_cluster(essentials: &Essentials) -> bool {
    cluster_tombstones(&essentials.data_dir).is_dir()
        || (essentials.refused.is_some() && essentials.agent_socket.exists())
}

/// Made by the first claim that reached an agent.
fn cluster_tombstones(data_dir: &Path) -> PathBuf {
    data_dir.join("cluster-tombstones")
}

impl PoolAddressing {
    /// Whether an ADD may claim with this: the cluster's entries name a pod, and those that do not would never be given
    /// back, by us or by whereabouts.
    pub(crate) fn require_pod(&self) -> Result<(), Error> {
        match self.store {
            Store::Cluster { .. } if self.request.owner.pod.is_none() => Err(Error::new(
                Code::InvalidEnvironment,
                "CNI_ARGS: K8S_POD_NAMESPACE and K8S_POD_NAME are missing; the cluster's pools need them to name the \
                 holder of an address",
            )
            .with_details("\"datastore\": \"file\" keeps pools on this host, for runtimes without pods")),
            _ => Ok(()),
        }
    }
}
