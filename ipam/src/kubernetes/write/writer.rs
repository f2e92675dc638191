//! Writing to one pool: one request at a time, and what came up meanwhile goes into the next one together.
//!
//! The server changes an object for one writer after the other. A hundred claims with a request each would queue there,
//! collide and come again; together they are a handful of requests. Pools do not wait for each other.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use octavia_bridge_cluster::{ApiError, Limit};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use crate::address::bits;
use crate::pool::{Allocation, Pool};

use super::change::{Change, ChangeState, forget_managers};
use super::deadline::Deadline;
use super::job::{Job, Written, answer, open_changes, sort_out};
use super::queue::Rivals;
use crate::kubernetes::api::object::{POOLS, Stored, new_pool};
use crate::kubernetes::error::Error;
use crate::kubernetes::memory::pool::CachedPool;
use crate::kubernetes::memory::view::sound;
use crate::kubernetes::{Shared, lock};

/// Changes in one request. The server takes 10,000 operations.
const BATCH: usize = 500;
/// Longest time that a request waits for claims that are on their way to it.
const GATHERING: Duration = Duration::from_secs(2);
/// How far apart nodes that met keep their requests, for each job of a request: others have as many.
const STAGGER: Duration = Duration::from_millis(10);
const LONGEST_STAGGER: Duration = Duration::from_millis(600);
/// After a pause of this length nothing is known of how busy the server is.
const CALM: Duration = Duration::from_secs(1);
/// So many refusals in a row that the pool, read again, does not explain.
const UNEXPLAINED: u32 = 4;

/// The pool, and the jobs for it.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    name: String,
    subnet: IpNet,
    jobs: mpsc::UnboundedReceiver<Job>,
    /// Taken in and not yet begun.
    waiting: VecDeque<Job>,
    /// How long the last request took that was done.
    took: Duration,
    rivals: Arc<Rivals>,
}

impl Writer {
    /// Begins to write to one pool; ends when the sender is dropped.
    pub(crate) fn begin(
        shared: Arc<Shared>,
        name: String,
        subnet: IpNet,
        rivals: Arc<Rivals>,
    ) -> mpsc::UnboundedSender<Job> {
        let (sender, jobs) = mpsc::unbounded_channel();
        let (waiting, took) = (VecDeque::new(), Duration::ZERO);
        let writer = Self { shared, name, subnet, jobs, waiting, took, rivals };
        tokio::spawn(writer.run());
        sender
    }

    async fn run(mut self) {
        loop {
            let first = match self.waiting.pop_front() {
                Some(job) => job,
                None => {
                    let idle = Instant::now();
                    let Some(job) = self.jobs.recv().await else { return };
                    if idle.elapsed() >= CALM {
                        self.took = Duration::ZERO;
                    }
                    job
                }
            };
            self.write(vec![first]).await;
        }
    }

    /// Writes a batch until every job in it has its answer.
    async fn write(&mut self, mut batch: Vec<Job>) {
        let mut within = Deadline::until(batch[0].deadline);
        let (mut conflicts, mut unexplained) = (0, 0);
        self.gather(&mut batch, &mut within).await;
        if self.rivals.are_at_work() {
            let theirs = (self.took * 2).max(STAGGER * batch.len() as u32);
            sleep(self.shared.jitter.below(theirs.min(LONGEST_STAGGER))).await;
        }
        loop {
            self.join(&mut batch, &mut within);
            if !self.can_judge(&batch)
                && let Err(unreadable) = self.shared.read_pool(&self.name, &within).await
            {
                return self.fail(batch, &unreadable);
            }
            let pool = match self.pool() {
                Ok(pool) => pool,
                Err(corrupt) => return self.fail(batch, &corrupt),
            };
            batch = sort_out(batch, pool.as_deref());
            if batch.is_empty() {
                return;
            }
            let (sent, jobs) = (Instant::now(), batch.len());
            let error = match self.request(&batch, pool.as_deref(), within.request()).await {
                Ok(stored) => {
                    self.took = sent.elapsed();
                    let changes: Vec<(IpAddr, &Change)> = open_changes(&batch, pool.as_deref()).collect();
                    // Else the cache would copy all entries before it changes these.
                    drop(pool);
                    lock(&self.shared.cache).pools.patched(stored, changes.into_iter());
                    batch.into_iter().for_each(|job| answer(job, Written::Done));
                    return;
                }
                Err(error) => error,
            };
            let refused = match error.code() {
                Some(409) => true,
                // Without a pool 404 says that the API knows no pools at all, and 422 that this one is none.
                Some(404 | 422) => pool.is_some(),
                _ => false,
            };
            let pause = if refused {
                within.note_answer();
                conflicts += 1;
                within.conflict(conflicts, &self.shared.jitter)
            } else {
                within.pause(sent, &error, &self.shared.jitter)
            };
            let Some(pause) = pause else { return self.fail(batch, &error.into()) };
            sleep(pause).await;
            if error.code() == Some(429) {
                continue;
            }
            // The answer does not say which of the changes failed: the pool does.
            if let Err(unreadable) = self.shared.read_pool(&self.name, &within).await {
                return self.fail(batch, &unreadable);
            }
            // What became of changes in a damaged pool is not known: they fail, neither done nor lost.
            batch = match self.pool() {
                Ok(pool) => sort_out(batch, pool.as_deref()),
                Err(corrupt) => return self.fail(batch, &corrupt),
            };
            let is_unexplained = matches!(error.code(), Some(404 | 422)) && batch.len() == jobs;
            unexplained = if is_unexplained { unexplained + 1 } else { 0 };
            if unexplained == UNEXPLAINED {
                return self.fail(batch, &error.into());
            }
        }
    }

    /// Waits for claims of this node that are on their way to the pool, for as long as the last request took, and longer
    /// where rivals were met.
    ///
    /// The server makes the changes of all nodes one after the other: of ten patches that it has at once nine are worked out
    /// in vain, and again, and which of them comes through is chance. So a request that took long was one of many, and
    /// fewer and larger ones are sooner done, here and elsewhere. A claim that is alone waits for nobody.
    async fn gather(&mut self, batch: &mut Vec<Job>, within: &mut Deadline) {
        let shared = self.shared.clone();
        let longest = if self.rivals.are_at_work() { GATHERING } else { self.took.min(GATHERING) };
        let until = Instant::now() + longest;
        loop {
            // Those who have their answer may not have gone yet.
            let pending_ended = shared.pending_ended.notified();
            self.join(batch, within);
            let jobs = batch.iter().chain(&self.waiting);
            if jobs.flat_map(Job::addresses).count() >= lock(&self.shared.pending).count(&self.name) {
                return;
            }
            tokio::select! {
                job = self.jobs.recv() => match job {
                    Some(job) => self.waiting.push_back(job),
                    None => return,
                },
                () = pending_ended => {}
                () = sleep_until(until) => return,
            }
        }
    }

    /// Adds what waits to a batch, as far as it goes into one request. A sandbox' release and the takeover of its entry
    /// by the next one can both be done, but not both in one.
    fn join(&mut self, batch: &mut Vec<Job>, within: &mut Deadline) {
        while let Ok(job) = self.jobs.try_recv() {
            self.waiting.push_back(job);
        }
        let mut touched: BTreeSet<IpAddr> = batch.iter().flat_map(Job::addresses).collect();
        for job in std::mem::take(&mut self.waiting) {
            if touched.len() < BATCH && job.addresses().all(|address| !touched.contains(&address)) {
                touched.extend(job.addresses());
                within.extend(job.deadline);
                batch.push(job);
            } else {
                self.waiting.push_back(job);
            }
        }
    }

    /// One request for all changes that are still to be made.
    async fn request(
        &self,
        batch: &[Job],
        pool: Option<&Pool>,
        within: Limit,
    ) -> Result<Stored<CachedPool>, ApiError> {
        let open = open_changes(batch, pool);
        let base = bits(self.subnet.addr());
        let offset = |address: IpAddr| bits(address) - base;
        let api = &self.shared.api;
        if pool.is_some() {
            let (mut text, mut operations) = (String::from("["), vec![forget_managers()]);
            for (address, change) in open {
                // As text at once: as values they take ten times as much.
                change.write(offset(address), &mut operations);
                operations.drain(..).for_each(|operation| text.push_str(&format!("{operation},")));
            }
            text.pop();
            text.push(']');
            let before = lock(&self.shared.cache).pools.sure_version(&self.name);
            let stored = api.patch(&self.name, text, within).await?;
            // What was changed just now is younger than what was known of it, unless the server went back.
            if let Some(before) = before {
                api.cluster().revisions().note(POOLS, stored.version.0, before.0);
            }
            return Ok(stored);
        }
        let added = open.filter_map(|(address, change)| match change {
            Change::Add(new) => Some((offset(address), new)),
            // Without a pool there is nothing to take or to remove.
            Change::Take { .. } | Change::Remove(_) => None,
        });
        let entries: Vec<(u128, &Allocation)> = added.collect();
        api.create(&self.name, &new_pool(&self.name, self.subnet, &entries), within).await
    }

    /// Answers all jobs; if the server is away also those that came meanwhile, which would only find the same.
    fn fail(&mut self, batch: Vec<Job>, error: &Error) {
        for job in batch {
            answer(job, Written::Failed(error.clone()));
        }
        match error {
            Error::Api(cause) if cause.is_passing() => self.shared.report_if_away(cause),
            _ => return,
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        while let Ok(job) = self.jobs.try_recv() {
            waiting.push_back(job);
        }
        waiting.into_iter().for_each(|job| answer(job, Written::Failed(error.clone())));
    }

    /// Whether what is known of the pool is enough to say what has become of these changes. Of a pool that others have
    /// changed since only this can be said: that a change may be tried.
    fn can_judge(&self, batch: &[Job]) -> bool {
        let cache = lock(&self.shared.cache);
        let Some(pool) = cache.pools.get(&self.name) else { return true };
        let Some(known) = pool.sound() else { return pool.known.is_some() && pool.is_current() };
        let mut changes = batch.iter().flat_map(|job| &job.changes);
        pool.is_current()
            || changes.all(|(address, change)| change.state(*address, Some(known)) == ChangeState::Open)
    }

    /// The pool as it is known; `None` if there is none.
    fn pool(&self) -> Result<Option<Arc<Pool>>, Error> {
        let cache = lock(&self.shared.cache);
        let pool = sound(&cache, &self.name, self.subnet, &self.shared.api)?;
        if pool.is_none() && cache.pools.get(&self.name).is_some() {
            let pool = self.shared.api.describe::<CachedPool>(&self.name);
            return Err(Error::Late { attempt: format!("reading {pool}") });
        }
        Ok(pool)
    }
}
