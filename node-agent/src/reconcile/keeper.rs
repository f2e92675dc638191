//! The loop that keeps the links: it reads, plans and repairs whenever something may have changed.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use octavia_bridge_ipam::causes::chain;
use octavia_bridge_netlink::{Event, EventGroups, Events, Netlink};
use tokio::sync::Notify;
use tokio::sync::watch::Sender;
use tokio::time::{Instant, sleep_until, timeout};

use super::disk::Disk;
use super::fights::Fights;
use super::files::Files;
use super::marks::Marks;
use super::ports::Ports;
use super::refusals::Refusals;
use super::standing::{Looked, Standing};
use super::supervisor::Job;
use super::wanted::{Wanted, chosen};
use super::watch::Watch;
use crate::cluster::policies::{self, Outcome, Part};
use crate::node::apply::Targets;
use crate::node::desired::Desired;
use crate::node::plan::Step;
use crate::node::state::{CutOffs, Kept, NotInForce, State};
use crate::node::{nmstate_lock, recovery, source};

/// Events come in bursts, several to one change: how long to let one pass before reading.
const BURST: Duration = Duration::from_millis(3);
/// A burst that does not end is looked at all the same.
const LONGEST_BURST: Duration = Duration::from_millis(20);
/// Pause before what failed is tried again.
pub(super) const RETRY: Duration = Duration::from_secs(5);
/// Longest time that a look with all it leads to may take. What was begun by then is taken back as after a kill.
const LONGEST_LOOK: Duration = Duration::from_secs(150);
/// Receive buffer for events, in bytes: room for the start of a few hundred pods.
const EVENT_BUFFER: u32 = 1 << 20;

/// What the daemon keeps in mind between two looks.
pub(super) struct Keeper<'a> {
    pub(super) job: &'a Job,
    pub(super) state: &'a State,
    pub(super) netlink: &'a Netlink,
    pub(super) targets: Targets,
    pub(super) wanted: Wanted,
    /// The documents of what is wanted now.
    pub(super) texts: Kept,
    /// The same as it was read.
    pub(super) desired: Desired,
    /// What each policy of the cluster asks for.
    pub(super) parts: BTreeMap<String, Part>,
    /// Policies of the cluster that are no part of what is desired, and why.
    pub(super) refused: BTreeMap<String, String>,
    /// The same, for the plugin.
    pub(super) not_in_force: Vec<NotInForce>,
    /// What the last process knew of that, as long as the API has not told.
    pub(super) told_before: Vec<NotInForce>,
    /// Parts of what is wanted that could not be brought about, for the plugin.
    pub(super) failing: Vec<NotInForce>,
    /// Until when some of them are not tried again.
    pub(super) held_until: Option<Instant>,
    /// Why new files were left out, as the log says it.
    pub(super) left_out: Option<String>,
    /// What is not tried again by itself.
    pub(super) cut_offs: CutOffs,
    /// What was in force as a whole last, in this process or an earlier one.
    pub(super) texts_in_force: Kept,
    /// The same as it was read.
    pub(super) in_force: Desired,
    /// Where to tell what became of the policies.
    pub(super) outcome: Option<Sender<Option<Outcome>>>,
    /// Whom to tell that something has changed.
    pub(super) changes: Option<Arc<Notify>>,
    /// Nothing that an earlier process, or this one, had to leave half done is left.
    pub(super) recovered: bool,
    /// The plugin knows of the bridges that are kept.
    pub(super) promised: bool,
    pub(super) watch: Watch,
    pub(super) fights: Fights,
    /// Groups that are not tried for a while.
    pub(super) refusals: Refusals,
    /// Said once, not at every look.
    pub(super) told: Vec<String>,
    pub(super) standing: Standing,
    pub(super) ports: Ports,
    pub(super) disk: Disk,
    pub(super) marks: Marks,
    /// What people have to know of the last change, also while later looks have nothing to do.
    pub(super) left: Vec<String>,
    /// Links that no policy names any more, in words.
    pub(super) unkept: Vec<String>,
    /// When all links of the node were looked at last.
    pub(super) noted_at: Option<Instant>,
}

/// Keeps what is wanted until told to stop.
///
/// # Errors
/// Without a cluster wrong input at the start; a netlink socket that fails. What cannot be reached now is no error: it is
/// tried again.
pub(super) async fn keep(job: &Arc<Job>) -> anyhow::Result<()> {
    job.health.pulse.works();
    let mut stopped = job.stop.subscribe();
    let in_cluster = job.api.is_some();
    // Files first: a change while they are read is seen later.
    let mut files = Files::new(&job.input.files);
    let (wanted, fault) = Wanted::begin(&job.input, &job.state, in_cluster)?;
    let netlink = Netlink::open().await?;
    let groups = EventGroups { receive_buffer: Some(EVENT_BUFFER), ..EventGroups::ALL };
    // Before the first reading, so that no change falls between the two.
    let mut events = netlink.events(groups).await.context("listen for changes")?;
    let mut following = match &job.api {
        Some((api, report)) => {
            let (requests, node) = (api.api()?, api.node.clone());
            Some(policies::start(requests, node, &job.nmstate_lock, &job.health, report.clone()))
        }
        None => None,
    };
    let texts_in_force = recovery::kept_last(&job.state).unwrap_or_default();
    let told_before = if in_cluster { refused_policies(&job.state_dir, &texts_in_force) } else { Vec::new() };
    let cut_offs = job.state.cut_offs();
    let targets = job.targets.clone().and_lost(cut_offs.lost());
    let mut keeper = Keeper {
        recovered: false,
        promised: false,
        watch: Watch::default(),
        targets,
        fights: Fights::default(),
        refusals: Refusals::default(),
        told: Vec::new(),
        standing: job.standing.clone(),
        disk: Disk::new(job.clone()),
        ports: Ports::new(job.ports.clone(), job.leave_ports),
        marks: Marks::new(&job.state),
        left: Vec::new(),
        unkept: Vec::new(),
        noted_at: None,
        job: job.as_ref(),
        state: &job.state,
        netlink: &netlink,
        wanted,
        texts: Kept::default(),
        desired: Desired::default(),
        parts: BTreeMap::new(),
        refused: BTreeMap::new(),
        not_in_force: told_before.clone(),
        told_before,
        failing: Vec::new(),
        held_until: None,
        left_out: None,
        cut_offs,
        in_force: source::desired(&texts_in_force).unwrap_or_default(),
        texts_in_force,
        outcome: following.as_ref().map(|following| following.outcome.clone()),
        changes: following.as_ref().map(|following| following.changes.clone()),
    };
    keeper.begin().await?;
    if let Some(fault) = fault {
        keeper.wrong_files(fault);
    }
    if keeper.desired.is_empty() {
        tracing::info!("no desired state was applied, so no links are kept");
    }
    loop {
        job.health.pulse.works();
        let pause = keeper.look().await.unwrap_or(job.interval);
        let wake = Instant::now() + pause.min(job.interval);
        job.health.pulse.sleeps_until(wake);
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => {
                keeper.disk.finish().await;
                return Ok(());
            }
            () = job.reload.notified() => keeper.reload(&job.input, in_cluster).await?,
            () = files.changed() => keeper.reload(&job.input, in_cluster).await?,
            chosen = chosen(&mut following) => keeper.choose(chosen?).await?,
            woken = keeper.relevant(&mut events) => woken?,
            () = sleep_until(wake) => {}
        }
    }
}

/// Whether the step changes which links the agent created, or which ports it attached.
fn changes_owners(step: &Step) -> bool {
    matches!(step, Step::Create(_) | Step::Delete(_) | Step::SetMaster { .. })
}

/// Policies of the cluster of which the last process told the plugin that they are not in force. Of files, this one knows.
fn refused_policies(state_dir: &Path, kept: &Kept) -> Vec<NotInForce> {
    let mut told = State::not_in_force(state_dir);
    if let Some(files) = kept.not_in_force(&BTreeSet::new()) {
        told.retain(|policy| policy.policy != files.policy);
    }
    told
}

impl Keeper<'_> {
    /// Reads, plans and repairs. Returns when to look again if not all is well.
    async fn look(&mut self) -> Option<Duration> {
        self.standing.put_aside(self.disk.aside());
        if let Err(rival) = nmstate_lock::stand_down(&self.job.nmstate_lock) {
            self.standing.stood_down(rival.to_string());
            self.say(vec![rival.to_string()]);
            self.tell(Outcome::default());
            return Some(RETRY);
        }
        let started = Instant::now();
        let unmarked = self.keep_marks().await;
        let left_before = take(&mut self.left);
        let mut result = timeout(LONGEST_LOOK, self.bring_about()).await.unwrap_or_else(|_| {
            Err(anyhow!("not done within {} s; what was begun is taken back", LONGEST_LOOK.as_secs()))
        });
        if !result.as_ref().is_ok_and(|looked| !looked.steps.is_empty()) {
            self.still_left(left_before);
        }
        if let Ok(looked) = &mut result {
            looked.warnings.extend(self.untold(looked));
        }
        let failed = result.as_ref().err().map(|error| chain(&**error));
        let outcome = match (&result, &failed) {
            (Ok(looked), _) => self.outcome_of(Ok(looked)),
            (Err(_), why) => self.outcome_of(Err(why.as_deref().unwrap_or_default())),
        };
        self.tell(outcome);
        // Whatever became of the links: a bridge that is there can have its ports.
        let ports = self.keep_ports().await;
        // Which takes time where there are many links, so pods' ports come first.
        if result.as_ref().is_ok_and(|looked| looked.steps.iter().any(changes_owners)) {
            self.noted_at = None;
        }
        let notes = self.note_links().await;
        if let Ok(looked) = &mut result {
            looked.warnings.extend(unmarked);
            looked.warnings.extend(notes);
            looked.warnings.extend(self.disk.complaint());
        }
        if let Ok(looked) = &result {
            self.tell_failing(&looked.failures).await;
        }
        let links = self.report(result, started);
        self.disk.begin();
        [links, ports, self.disk.again()].into_iter().flatten().min()
    }

    /// Says what a look has shown. Returns when to look again if not all is well.
    fn report(&mut self, result: anyhow::Result<Looked>, started: Instant) -> Option<Duration> {
        match result {
            Ok(looked) => {
                self.standing.looked(&looked, &self.desired, &self.not_in_force);
                let Looked { steps, waits, warnings, failures, took: _ } = looked;
                for step in &steps {
                    tracing::info!("{step}");
                }
                if !steps.is_empty() {
                    tracing::info!("{} steps in {:?}", steps.len(), started.elapsed());
                    for (link, pause) in self.fights.repaired(Instant::now(), &steps) {
                        let last: Vec<String> = steps.iter().map(ToString::to_string).collect();
                        let last = last.join(", ");
                        tracing::warn!(
                            "something undoes what is kept here, time and again ({link}, last: {last}); waiting {pause:?}"
                        );
                    }
                }
                let again = failures.iter().map(|failure| failure.pause.unwrap_or(RETRY)).min();
                let waits = waits.iter().map(|what| format!("waiting: {what}"));
                let failed = failures.iter().map(ToString::to_string);
                let refused =
                    self.refused.iter().map(|(name, why)| format!("policy {name} is not in force: {why}"));
                self.say(waits.chain(failed).chain(warnings).chain(refused).collect());
                [self.held_for(), again].into_iter().flatten().min()
            }
            Err(error) => {
                // What was given up half-way is in the journal.
                self.recovered = false;
                self.disk.begins_steps();
                let why = chain(&*error);
                self.standing.failed(why.clone());
                self.say(vec![why]);
                Some(RETRY)
            }
        }
    }

    /// Warns, unless it has just said the same.
    pub(super) fn say(&mut self, lines: Vec<String>) {
        if lines != self.told {
            for line in &lines {
                tracing::warn!("{line}");
            }
            self.told = lines;
        }
    }

    fn see(&mut self, event: &Event) {
        self.marks.see(event);
        if let Some(changes) = &self.changes {
            changes.notify_one();
        }
    }

    /// Waits for a change that may concern us, and for the end of its burst.
    async fn relevant(&mut self, events: &mut Events) -> anyhow::Result<()> {
        let mut overrun;
        loop {
            let event = tokio::select! {
                event = events.next() => event.context("listen for changes")?,
                // What there is to say of the disk has changed.
                () = self.disk.done() => return Ok(()),
            };
            overrun = event == Event::Overrun;
            self.see(&event);
            if self.watch.concerns(&event) {
                break;
            }
        }
        let deadline = Instant::now() + LONGEST_BURST;
        while Instant::now() < deadline {
            match timeout(BURST, events.next()).await {
                // Noted, also those by which a link gets its index.
                Ok(event) => {
                    let event = event.context("listen for changes")?;
                    overrun |= event == Event::Overrun;
                    self.see(&event);
                    self.watch.concerns(&event);
                }
                Err(_) => break,
            }
        }
        if overrun {
            self.find_links().await?;
        }
        Ok(())
    }
}
