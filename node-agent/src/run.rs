//! The daemon: what drifts is put right, until somebody says stop.

mod apart;
mod backoff;
mod files;
mod standing;
mod wanted;
mod watch;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use octavia_bridge_netlink::{Event, EventGroups, Events, Netlink};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch::Sender;
use tokio::time::{Instant, sleep_until, timeout};

use crate::apply::{self, Goal, Targets, chain};
use crate::cli::{Cli, Cluster, Input, Plugin, Safety};
use crate::desired::Desired;
use crate::health::{self, Bind, Due, Health};
use crate::install::{self, Installation};
use crate::policies::{self, Outcome, Part};
use crate::state::{Bridges, Kept, State};
use crate::{broker, rival, verbs};
use backoff::BackOff;
use files::Files;
use standing::{Looked, Standing};
use wanted::{Wanted, chosen};
use watch::Watch;

/// Events come in bursts, several to one change: how long to let one pass before reading.
const BURST: Duration = Duration::from_millis(3);
/// A burst that does not end is looked at all the same.
const LONGEST_BURST: Duration = Duration::from_millis(20);
/// Pause before what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Receive buffer for events, in bytes: room for the start of a few hundred pods.
const EVENT_BUFFER: u32 = 1 << 20;

/// What the daemon keeps in mind between two looks.
struct Keeper<'a> {
    cli: &'a Cli,
    state: &'a State,
    netlink: &'a Netlink,
    targets: Targets,
    wanted: Wanted,
    kept: Kept,
    desired: Desired,
    /// What each policy of the cluster asks for.
    parts: BTreeMap<String, Part>,
    /// Policies of the cluster that are no part of what is desired, and why.
    refused: BTreeMap<String, String>,
    /// Until when some of them are not tried again.
    held_until: Option<Instant>,
    /// What was in force as a whole last, in this process or an earlier one.
    good: Kept,
    /// Where to tell what became of the policies.
    outcome: Option<Sender<Option<Outcome>>>,
    /// Nothing that an earlier process, or this one, had to leave half done is left.
    recovered: bool,
    /// The plugin knows of the bridges that are kept.
    promised: bool,
    watch: Watch,
    backoff: BackOff,
    /// Said once, not at every look.
    told: Vec<String>,
    standing: Standing,
}

/// Keeps the desired state until SIGTERM or SIGINT, and the plugin in its folder if there is one, and serves plugins beside
/// that if `cluster` says so. Links stay as they are.
///
/// # Errors
/// Wrong input at the start, and a netlink socket that fails. What cannot be reached now is no error: it
/// is tried again.
pub(crate) async fn run(
    cli: &Cli,
    input: &Input,
    safety: &Safety,
    cluster: &Cluster,
    plugin: Option<(&Path, &Plugin)>,
    health_bind: Bind,
    interval: u64,
) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut reload = signal(SignalKind::hangup())?;
    let state = State::lock(&cli.state_dir)?;
    let health = Arc::new(Health::default());
    health.metrics.collect(Due(health.pulse.clone()));
    let standing = Standing::new(&health);
    let installing = match plugin {
        Some((folder, plugin)) => {
            let installation = Installation::new(folder, plugin, state.directory())?;
            Some(install::start(installation, &health))
        }
        None => None,
    };
    let broker =
        if cluster.cluster { Some(broker::start(cluster, &cli.state_dir, &health).await?) } else { None };
    if let Bind::At(address) = health_bind {
        tokio::spawn(health::serve(address, health.clone()));
    }
    // Files first: a change while they are read is seen later.
    let mut files = Files::new(&input.files);
    let (wanted, fault) = Wanted::begin(input, &state, cluster.cluster)?;
    let netlink = Netlink::open().await?;
    let groups = EventGroups { receive_buffer: Some(EVENT_BUFFER), ..EventGroups::ALL };
    // Before the first reading, so that no change falls between the two.
    let mut events = netlink.events(groups).await.context("listen for changes")?;
    let mut following = broker.as_ref().map(|broker| {
        let (api, node) = broker.api.clone();
        policies::start(api, node, &cli.nmstate_lock, &health)
    });
    let mut keeper = Keeper {
        recovered: false,
        promised: false,
        watch: Watch::default(),
        targets: Targets(safety.reach.clone()),
        backoff: BackOff::default(),
        told: Vec::new(),
        standing,
        cli,
        state: &state,
        netlink: &netlink,
        wanted,
        kept: Kept::default(),
        desired: Desired::default(),
        parts: BTreeMap::new(),
        refused: BTreeMap::new(),
        held_until: None,
        good: verbs::kept_last(&state)?.unwrap_or_default(),
        outcome: following.as_ref().map(|following| following.outcome.clone()),
    };
    let interval = Duration::from_secs(interval);
    keeper.begin().await?;
    if let Some(fault) = fault {
        keeper.wrong_files(fault);
    }
    if keeper.desired.is_empty() {
        tracing::info!("no desired state was applied, so no links are kept");
    }
    loop {
        health.pulse.works();
        let pause = keeper.look().await.unwrap_or(interval);
        let wake = Instant::now() + pause.min(interval);
        health.pulse.sleeps_until(wake);
        let not_before = keeper.backoff.not_before().unwrap_or_else(Instant::now);
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = reload.recv() => keeper.reload(input, cluster.cluster).await?,
            () = files.changed() => keeper.reload(input, cluster.cluster).await?,
            chosen = chosen(&mut following) => keeper.choose(chosen).await?,
            woken = keeper.relevant(&mut events, not_before) => woken?,
            () = sleep_until(wake) => {}
        }
    }
    tracing::info!("stopping; every link stays");
    if let Some(broker) = broker {
        broker.stop().await;
    }
    if let Some(installing) = installing {
        installing.stop().await;
    }
    Ok(ExitCode::SUCCESS)
}

impl Keeper<'_> {
    /// Reads, plans and repairs. Returns when to look again if not all is well.
    async fn look(&mut self) -> Option<Duration> {
        if let Err(rival) = rival::stand_down(&self.cli.nmstate_lock) {
            self.standing.stood_down(rival.to_string());
            self.say(vec![rival.to_string()]);
            self.tell(Outcome::default());
            return Some(RETRY);
        }
        let started = Instant::now();
        let result = self.bring_about().await;
        let failed = result.as_ref().err().map(|error| chain(&**error));
        let waits = result.as_ref().map(|looked| looked.waits.as_slice()).unwrap_or_default();
        self.tell(self.outcome_of(failed.as_deref().map_or(Ok(waits), Err)));
        match result {
            Ok(looked) => {
                self.standing.looked(&looked, &self.desired);
                let Looked { steps, waits, warnings, took: _ } = looked;
                for step in &steps {
                    tracing::info!("{step}");
                }
                if !steps.is_empty() {
                    tracing::info!("{} steps in {:?}", steps.len(), started.elapsed());
                    let last = steps.join(", ");
                    if let Some(pause) = self.backoff.repaired(Instant::now(), &last) {
                        tracing::warn!(
                            "something undoes what is kept here, time and again (last: {last}); waiting {pause:?}"
                        );
                    }
                }
                let waits = waits.iter().map(|what| format!("waiting: {what}"));
                let refused =
                    self.refused.iter().map(|(name, why)| format!("policy {name} is not in force: {why}"));
                self.say(waits.chain(warnings).chain(refused).collect());
                self.held_for()
            }
            Err(error) => {
                // What could not be taken back is in the journal, and the next one would begin it anew.
                self.recovered = false;
                let why = chain(&*error);
                self.standing.failed(why.clone());
                self.say(vec![why]);
                Some(RETRY)
            }
        }
    }

    async fn repair(&mut self) -> anyhow::Result<Looked> {
        // Only now that nobody else keeps these links: taking back is changing, too.
        if !self.recovered {
            verbs::recover(self.netlink, self.state).await?;
            self.recovered = true;
        }
        // Before the first look: a bridge that the plugin makes on its own is seen here, or not made.
        if !self.promised {
            self.state.promise(&Bridges::of(&self.desired, &self.kept))?;
            self.promised = true;
        }
        let started = Instant::now();
        let plan = apply::plan_now(self.netlink, &self.desired).await?;
        let waits = plan.missing.clone();
        let warnings = plan.warnings.clone();
        let goal = plan.missing.is_empty().then(|| Goal::Keep(self.kept.clone()));
        // With nothing to keep there is nothing to bring about at the next boot either.
        let keeps = goal.is_some() && !self.desired.is_empty();
        let draft = if keeps { self.state.draft(&self.kept) } else { Ok(None) };
        // With a journal as in `apply`: killed on its way to a state that was never kept, the next start, which may
        // know only the kept one, would not know what of the other to take away.
        let journal = self.state.directory();
        let done =
            apply::carry_out(self.netlink, &self.desired, plan, &self.targets, journal, goal.as_ref()).await;
        let done = match done {
            Ok(done) => done,
            Err(error) => {
                if let Err(left) = draft.and_then(|draft| self.state.discard(draft)) {
                    tracing::warn!("{}", chain(&left));
                }
                return Err(error.into());
            }
        };
        let took = started.elapsed();
        if goal.is_some() {
            let kept = match keeps {
                true => draft.and_then(|draft| self.state.publish(draft)),
                false if self.good == self.kept => Ok(()),
                false => self.state.forget(),
            };
            if let Err(error) = kept {
                tracing::warn!("{}", chain(&error));
            }
            self.good.clone_from(&self.kept);
        }
        let steps = done.end()?.iter().map(|planned| planned.apply.to_string()).collect();
        Ok(Looked { steps, waits, warnings, took })
    }

    /// Warns, unless it has just said the same.
    fn say(&mut self, lines: Vec<String>) {
        if lines != self.told {
            for line in &lines {
                tracing::warn!("{line}");
            }
            self.told = lines;
        }
    }

    /// Waits for a change that may concern us, and for the end of its burst.
    async fn relevant(&mut self, events: &mut Events, not_before: Instant) -> anyhow::Result<()> {
        let mut overrun;
        loop {
            let event = events.next().await.context("listen for changes")?;
            overrun = event == Event::Overrun;
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
                    self.watch.concerns(&event);
                }
                Err(_) => break,
            }
        }
        if overrun {
            self.find_links().await?;
        }
        sleep_until(not_before).await;
        Ok(())
    }
}
