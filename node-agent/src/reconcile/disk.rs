//! What is kept for the next boot, brought to the disk beside the work on the links: a disk may take seconds, or answer no
//! more at all, and repair never waits for it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use octavia_bridge_ipam::causes::chain;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout};

use super::keeper::RETRY;
use super::supervisor::Job;
use crate::node::apply::Done;
use crate::node::state::{CutOffs, Error, Kept};

/// How long an agent that ends waits for the disk.
const LAST: Duration = Duration::from_secs(10);

/// What is to be on the disk.
#[derive(Debug, Clone, Default, PartialEq)]
struct Wanted {
    /// A state, or none; nothing as long as none was reached.
    kept: Option<Option<Kept>>,
    cut_offs: Option<CutOffs>,
}

/// The disk as the loop sees it.
pub(super) struct Disk {
    job: Arc<Job>,
    wanted: Wanted,
    /// What was written last, without a failure.
    written: Wanted,
    /// What the plugin was told, and whether others have damaged that since.
    told: Option<Vec<u8>>,
    is_untold: bool,
    /// It tells whether the plugin is told so still.
    task: Option<(Wanted, JoinHandle<Result<bool, Error>>)>,
    /// Why the last attempt failed, and when.
    failed: Option<(String, Instant)>,
    /// When the file was last compared: others may have damaged it since.
    compared: Instant,
    /// What was done for a state that is not on the disk yet. Its journal says so to the next process.
    pending: Option<Done>,
}

impl Disk {
    pub(super) fn new(job: Arc<Job>) -> Self {
        Self {
            job,
            wanted: Wanted::default(),
            written: Wanted::default(),
            told: None,
            is_untold: false,
            task: None,
            failed: None,
            compared: Instant::now(),
            pending: None,
        }
    }

    /// This state was reached, or nothing is wanted any more.
    pub(super) fn keep(&mut self, kept: Option<&Kept>) {
        if self.wanted.kept.as_ref().map(Option::as_ref) != Some(kept) {
            self.wanted.kept = Some(kept.cloned());
        }
        self.begin();
    }

    /// These are not tried again.
    pub(super) fn keep_cut_offs(&mut self, cut_offs: &CutOffs) {
        self.wanted.cut_offs = Some(cut_offs.clone());
        self.begin();
    }

    /// The plugin was told this, or that no bridge is kept.
    pub(super) fn told(&mut self, text: Option<Vec<u8>>) {
        self.told = text;
    }

    /// Whether the plugin has to be told again.
    pub(super) fn is_untold(&mut self) -> bool {
        std::mem::take(&mut self.is_untold)
    }

    /// The journal of earlier steps ends with the first of others, or with their recovery: there is one file.
    pub(super) fn begins_steps(&mut self) {
        self.pending = None;
    }

    /// The steps for the state that is wanted are done.
    pub(super) fn follows(&mut self, done: Done) {
        match self.written.kept == self.wanted.kept {
            true => drop(done.end()),
            false => self.pending = Some(done),
        }
    }

    /// Begins to write if there is something to write.
    pub(super) fn begin(&mut self) {
        let now = Instant::now();
        let waits = self.failed.as_ref().is_some_and(|(_, at)| now < *at + RETRY);
        let due = self.wanted != self.written || now >= self.compared + self.job.interval;
        if self.task.is_some() || waits || !due {
            return;
        }
        let (job, wanted) = (self.job.clone(), self.wanted.clone());
        let new_cut_offs = wanted.cut_offs != self.written.cut_offs;
        let told = self.told.clone();
        let write = move |wanted: Wanted| {
            if let Some(cut_offs) = wanted.cut_offs.filter(|_| new_cut_offs) {
                job.state.write_cut_offs(&cut_offs)?;
            }
            if let Some(kept) = wanted.kept {
                job.state.bring(kept.as_ref())?;
            }
            Ok(told.is_none_or(|told| job.state.tells(&told)))
        };
        self.compared = now;
        self.task = Some((wanted.clone(), spawn_blocking(move || write(wanted))));
    }

    /// Waits until what is under way is written. May be given up at any time.
    pub(super) async fn done(&mut self) {
        let Some((_, task)) = &mut self.task else { return std::future::pending().await };
        let result = task.await.unwrap_or_else(|panic| Err(Error::panicked(&panic)));
        let Some((wanted, _)) = self.task.take() else { return };
        match result {
            Ok(is_told) => {
                self.failed = None;
                self.is_untold = !is_told;
                self.written = wanted;
                if self.written.kept == self.wanted.kept
                    && let Some(done) = self.pending.take()
                {
                    drop(done.end());
                }
            }
            Err(error) => self.failed = Some((chain(&error), Instant::now())),
        }
        self.begin();
    }

    /// What is not on the disk, and why.
    pub(super) fn complaint(&self) -> Option<String> {
        let (why, _) = self.failed.as_ref()?;
        Some(match self.written.kept == self.wanted.kept {
            true => why.clone(),
            false => format!("the policy is in force but not kept for the next boot: {why}"),
        })
    }

    /// When to try again what failed.
    pub(super) fn again(&self) -> Option<Duration> {
        self.failed.as_ref().map(|(_, at)| (*at + RETRY).saturating_duration_since(Instant::now()))
    }

    /// The agent ends: waits some time for the disk.
    pub(super) async fn finish(&mut self) {
        let done = async {
            while self.task.is_some() {
                self.done().await;
            }
        };
        if timeout(LAST, pin!(done)).await.is_err() {
            tracing::warn!(
                "the disk has not answered for {} s; what is not on it yet is lost",
                LAST.as_secs()
            );
        }
    }
}
