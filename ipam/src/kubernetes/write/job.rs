//! What one operation wants written to a pool, and what has become of it.

use std::net::IpAddr;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::change::{Change, ChangeState};
use crate::kubernetes::error::Error;
use crate::pool::Pool;

/// Changes that one operation wants made, all of them or none.
pub(crate) struct Job {
    pub(crate) changes: Vec<(IpAddr, Change)>,
    pub(crate) deadline: Instant,
    pub(crate) reply: oneshot::Sender<Written>,
}

impl Job {
    /// The addresses that it is about.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.changes.iter().map(|(address, _)| *address)
    }
}

/// What has become of a job.
#[derive(Debug, Clone)]
pub(crate) enum Written {
    /// All is as the job wanted it.
    Done,
    /// These entries are somebody else's.
    Lost(Vec<IpAddr>),
    /// It could not be done, or nobody knows whether it was.
    Failed(Error),
}

/// The changes that are still to be made.
pub(super) fn open_changes<'a>(
    batch: &'a [Job],
    pool: Option<&Pool>,
) -> impl Iterator<Item = (IpAddr, &'a Change)> {
    let changes = batch.iter().flat_map(|job| &job.changes).map(|(address, change)| (*address, change));
    changes.filter(move |(address, change)| change.state(*address, pool) == ChangeState::Open)
}

/// Answers the jobs that are done, those that lost, and those whose time is over; returns the others.
pub(super) fn sort_out(batch: Vec<Job>, pool: Option<&Pool>) -> Vec<Job> {
    let now = Instant::now();
    let mut rest = Vec::new();
    for mut job in batch {
        let mut lost = Vec::new();
        let mut open = false;
        for (address, change) in &mut job.changes {
            change.adapt(*address, pool);
            match change.state(*address, pool) {
                ChangeState::Done => {}
                ChangeState::Open => open = true,
                ChangeState::Lost => lost.push(*address),
            }
        }
        if !lost.is_empty() {
            answer(job, Written::Lost(lost));
        } else if !open {
            answer(job, Written::Done);
        } else if job.deadline <= now {
            let error = Error::Late { attempt: "writing to the pool".into() };
            answer(job, Written::Failed(error));
        } else {
            rest.push(job);
        }
    }
    rest
}

/// An operation that no longer waits, as when its plugin's time is over, reads the pool when it is undone.
pub(super) fn answer(job: Job, written: Written) {
    job.reply.send(written).ok();
}
