//! The way to the server for what concerns one pool: a writer, and a bounded number of requests beside it.
//!
//! Every request under way is a connection, and memory. A hundred claims at once share a few; those of another pool
//! have their own and wait for none of them.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::change::Change;
use super::job::{Job, Written};
use super::writer::Writer;
use crate::kubernetes::error::Error;
use crate::kubernetes::{Shared, lock};

/// Requests under way beside the writer's.
const BESIDE: usize = 8;
/// For so long others are thought to be at work in a pool where one of them was faster.
const RIVALRY: Duration = Duration::from_secs(1);

/// A queue that no operation has used for so long ends, with its writer: pools come and go.
const KEPT: Duration = Duration::from_secs(60);

/// The way for what concerns one pool.
pub(crate) struct Queue {
    gate: Gate,
    rivals: Arc<Rivals>,
    subnet: IpNet,
    jobs: mpsc::UnboundedSender<Job>,
    used: Mutex<Instant>,
}

impl Queue {
    pub(crate) fn new(shared: Arc<Shared>, name: String, subnet: IpNet) -> Self {
        let rivals = Arc::<Rivals>::default();
        let jobs = Writer::begin(shared.clone(), name, subnet, rivals.clone());
        Self { gate: Gate::new(shared), rivals, subnet, jobs, used: Mutex::new(Instant::now()) }
    }

    /// An operation needs it now.
    pub(crate) fn touch(&self) {
        *lock(&self.used) = Instant::now();
    }

    /// Whether nothing that it remembers is of use any more.
    pub(crate) fn is_old(&self) -> bool {
        lock(&self.used).elapsed() >= KEPT
    }

    /// Those on other nodes who write to this pool.
    pub(crate) fn rivals(&self) -> &Rivals {
        &self.rivals
    }

    /// For requests beside the writer's.
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Has `changes` written, all or none.
    pub(crate) async fn write(&self, changes: Vec<(IpAddr, Change)>, deadline: Instant) -> Written {
        // Entries are written by their offset in the subnet: an address outside of it has none.
        if let Some((address, _)) = changes.iter().find(|(address, _)| !self.subnet.contains(address)) {
            let why = format!("{address} is outside the pool's subnet {}", self.subnet);
            return Written::Failed(Error::Unsupported(why));
        }
        let (reply, written) = oneshot::channel();
        // The writer goes only with the store.
        let ended = || Written::Failed(late("waiting for other requests to the API"));
        match self.jobs.send(Job { changes, deadline, reply }) {
            Ok(()) => written.await.unwrap_or_else(|_| ended()),
            Err(_) => ended(),
        }
    }
}

/// What is known of others who write to one pool.
#[derive(Debug, Default)]
pub(crate) struct Rivals {
    /// When one of them was last faster.
    faster: Mutex<Option<Instant>>,
}

impl Rivals {
    /// One of them was faster.
    pub(crate) fn note(&self) {
        *lock(&self.faster) = Some(Instant::now());
    }

    /// Whether there are any at the moment.
    pub(crate) fn are_at_work(&self) -> bool {
        lock(&self.faster).is_some_and(|last| last.elapsed() < RIVALRY)
    }

    /// Whether one was faster since then.
    pub(crate) fn were_met_since(&self, then: Instant) -> bool {
        lock(&self.faster).is_some_and(|last| last >= then)
    }
}

/// Bounds how many requests are under way.
pub(crate) struct Gate {
    shared: Arc<Shared>,
    permits: Semaphore,
}

impl Gate {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, permits: Semaphore::new(BESIDE) }
    }

    /// Waits for a permit. Fails at once when another request finds that the server is away.
    ///
    /// # Errors
    /// What that one found; [`Error::Late`].
    pub(crate) async fn enter(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, Error> {
        let late = || late("waiting for other requests to the API");
        self.shared.unless_away(self.permits.acquire(), deadline, late).await?.map_err(|_| late())
    }
}

impl Shared {
    /// Waits for `turn`, unless another request finds meanwhile that the server is away.
    ///
    /// # Errors
    /// What that one found; `late` at the deadline.
    pub(crate) async fn unless_away<T>(
        &self,
        turn: impl Future<Output = T>,
        deadline: Instant,
        late: impl Fn() -> Error,
    ) -> Result<T, Error> {
        let since = Instant::now();
        let mut trouble = self.trouble.subscribe();
        tokio::select! {
            // Who finds that it is away ends the turn of that one, too.
            biased;
            found = trouble.wait_for(|found| found.as_ref().is_some_and(|(at, _)| *at >= since)) => {
                match found.as_deref() {
                    Ok(Some((_, error))) => Err(Error::Api(error.clone())),
                    _ => Err(late()),
                }
            }
            turn = turn => Ok(turn),
            () = sleep_until(deadline) => Err(late()),
        }
    }
}

fn late(attempt: &str) -> Error {
    Error::Late { attempt: attempt.into() }
}
