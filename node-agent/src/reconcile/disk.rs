//! What is kept for the next boot, and what the plugin is told, brought to the disk beside the work on the links: a disk may
//! take seconds, or answer no more at all, and repair does not wait for it.

use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use octavia_bridge_ipam::causes::chain;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout};

use super::keeper::RETRY;
use super::supervisor::Job;
use crate::node::apply::{Done, Goal, Journal};
use crate::node::state::{CutOffs, Error, Kept, State};

/// How long an agent that ends waits for the disk.
const LAST: Duration = Duration::from_secs(10);
/// How long a new policy waits until the plugin is told of it, before what is in force goes on without it.
const TELLING: Duration = Duration::from_secs(2);

/// What is to be on the disk.
#[derive(Debug, Clone, Default, PartialEq)]
struct Wanted {
    /// A state, or none; nothing as long as none was reached.
    kept: Option<Option<Kept>>,
    cut_offs: Option<CutOffs>,
}

/// How it went, and what was found beside.
#[derive(Debug)]
struct Outcome {
    kept: Result<(), Error>,
    cut_offs: Result<(), Error>,
    /// The plugin is told so still.
    is_told: bool,
    /// Files that could not be used.
    aside: Vec<PathBuf>,
}

/// The plugin on its way to being told something, or that no bridge is kept.
struct Telling {
    text: Option<Vec<u8>>,
    task: JoinHandle<Result<(), Error>>,
    /// It was waited for already.
    is_late: bool,
}

/// What the plugin was to be told, and how that went.
type Answer = (Option<Vec<u8>>, Result<(), Error>);

/// The disk as the loop sees it.
pub(super) struct Disk {
    job: Arc<Job>,
    wanted: Wanted,
    /// What was written last, without a failure.
    written: Wanted,
    /// What the plugin was told, and whether others have damaged that since.
    told: Option<Vec<u8>>,
    is_untold: bool,
    telling: Option<Telling>,
    /// How a telling went that ended when nobody waited for it.
    answer: Option<Answer>,
    task: Option<(Wanted, JoinHandle<Outcome>)>,
    /// Why the last attempt failed, and when.
    failed: Option<(String, Instant)>,
    /// When the file was last compared: others may have damaged it since.
    compared: Option<Instant>,
    aside: Vec<PathBuf>,
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
            telling: None,
            answer: None,
            task: None,
            failed: None,
            compared: None,
            aside: Vec::new(),
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

    /// Tells the plugin this, or that no bridge is kept. Waits for a moment; then it goes on beside the work on the links.
    ///
    /// # Errors
    /// Those of writing, and that it is not done yet.
    pub(super) async fn tell(&mut self, text: Option<Vec<u8>>) -> Result<(), Error> {
        loop {
            if let Some((told, result)) = self.answer.take()
                && told == text
            {
                if result.is_ok() {
                    self.told = told;
                }
                return result;
            }
            let telling = self.telling.get_or_insert_with(|| {
                let (job, text) = (self.job.clone(), text.clone());
                let told = text.clone();
                let task = spawn_blocking(move || job.state.promise_text(told.as_deref()));
                Telling { text, task, is_late: false }
            });
            let patience = if telling.is_late { Duration::ZERO } else { TELLING };
            telling.is_late = true;
            if timeout(patience, self.heard()).await.is_err() {
                let attempt = "tell the plugin which bridges are kept".to_owned();
                let late = format!("not done within {} s; it goes on", TELLING.as_secs());
                return Err(Error::Io { attempt, source: io::Error::new(io::ErrorKind::TimedOut, late) });
            }
        }
    }

    /// Waits until the plugin is told what it is being told. May be given up at any time.
    async fn heard(&mut self) {
        let Some(telling) = &mut self.telling else { return std::future::pending().await };
        let result = (&mut telling.task).await;
        self.was_heard(result);
    }

    fn was_heard(&mut self, result: Result<Result<(), Error>, JoinError>) {
        let result = result.unwrap_or_else(|panic| Err(Error::panicked(&panic)));
        self.answer = self.telling.take().map(|telling| (telling.text, result));
    }

    /// Files of ours that could not be used, as they were found last.
    pub(super) fn aside(&self) -> &[PathBuf] {
        &self.aside
    }

    /// An earlier process has left this complete, and its journal.
    pub(super) fn recovers(&mut self, goal: Goal, journal: Journal) {
        // What this process has reached since is newer.
        if self.wanted.kept.is_none() {
            self.wanted.kept = Some(match goal {
                Goal::Keep(kept) => Some(kept),
                Goal::Forget => None,
            });
        }
        let done = Done::left(journal);
        match self.pending {
            Some(_) => drop(done.end()),
            None => self.follows(done),
        }
        self.begin();
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
        let is_old = self.compared.is_none_or(|at| now >= at + self.job.interval);
        let due = self.wanted != self.written || is_old;
        if self.task.is_some() || waits || !due {
            return;
        }
        let (job, wanted) = (self.job.clone(), self.wanted.clone());
        let new_cut_offs = wanted.cut_offs != self.written.cut_offs;
        let told = self.told.clone();
        // One that cannot be written is none of the other's.
        let write = move |wanted: Wanted| Outcome {
            kept: wanted.kept.map_or(Ok(()), |kept| job.state.bring(kept.as_ref())),
            cut_offs: wanted
                .cut_offs
                .filter(|_| new_cut_offs)
                .map_or(Ok(()), |cut_offs| job.state.write_cut_offs(&cut_offs)),
            is_told: told.is_none_or(|told| job.state.tells(&told)),
            aside: State::put_aside(&job.state_dir),
        };
        self.compared = Some(now);
        self.task = Some((wanted.clone(), spawn_blocking(move || write(wanted))));
    }

    /// Waits until something that is under way is done. May be given up at any time.
    pub(super) async fn done(&mut self) {
        let (task, telling) = (&mut self.task, &mut self.telling);
        let written = async {
            match task {
                Some((_, task)) => task.await,
                None => std::future::pending().await,
            }
        };
        let heard = async {
            match telling {
                Some(telling) => (&mut telling.task).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            outcome = written => self.ended(outcome),
            result = heard => self.was_heard(result),
        }
    }

    /// Waits until what is being written is written. May be given up at any time.
    async fn written(&mut self) {
        let Some((_, task)) = &mut self.task else { return std::future::pending().await };
        let outcome = task.await;
        self.ended(outcome);
    }

    fn ended(&mut self, outcome: Result<Outcome, JoinError>) {
        let Some((wanted, _)) = self.task.take() else { return };
        let mut failed = Vec::new();
        match outcome {
            Ok(Outcome { kept, cut_offs, is_told, aside }) => {
                match kept {
                    Ok(()) => self.written.kept = wanted.kept,
                    Err(error) => failed.push(chain(&error)),
                }
                match cut_offs {
                    Ok(()) => self.written.cut_offs = wanted.cut_offs,
                    Err(error) => failed.push(chain(&error)),
                }
                (self.is_untold, self.aside) = (!is_told, aside);
                if self.written.kept == self.wanted.kept
                    && let Some(done) = self.pending.take()
                {
                    drop(done.end());
                }
            }
            Err(panic) => failed.push(chain(&Error::panicked(&panic))),
        }
        self.failed = (!failed.is_empty()).then(|| (failed.join("; "), Instant::now()));
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
                self.written().await;
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
