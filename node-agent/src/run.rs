//! The daemon: what drifts is put right, until somebody says stop.

mod backoff;
mod standing;
mod watch;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use octavia_bridge_netlink::{Event, EventGroups, Events, Netlink};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until, timeout};

use crate::apply::{self, Goal, Targets, chain};
use crate::cli::{Cli, Cluster, Input, Safety};
use crate::desired::Desired;
use crate::health::{self, Bind, Health};
use crate::plan;
use crate::state::{Bridges, Kept, State};
use crate::{broker, rival, source, verbs};
use backoff::BackOff;
use standing::{Looked, Standing};
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
    kept: Kept,
    desired: Desired,
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

/// Keeps the desired state until SIGTERM or SIGINT, and serves plugins beside that if `cluster` says so. Links stay as
/// they are.
///
/// # Errors
/// Wrong input at the start, and a netlink socket that fails. What cannot be reached now is no error: it
/// is tried again.
pub(crate) async fn run(
    cli: &Cli,
    input: &Input,
    safety: &Safety,
    cluster: &Cluster,
    health_bind: Bind,
    interval: u64,
) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut reload = signal(SignalKind::hangup())?;
    let state = State::lock(&cli.state_dir)?;
    let health = Arc::new(Health::default());
    let standing = Standing::new(&health);
    let broker =
        if cluster.cluster { Some(broker::start(cluster, &cli.state_dir, &health).await?) } else { None };
    if let Bind::At(address) = health_bind {
        tokio::spawn(health::serve(address, health.clone()));
    }
    let (kept, broker) = match (source::texts(input, Some(&state)), broker) {
        // An agent that only serves plugins, until it is started anew.
        (Err(error), Some(broker)) if source::is_nothing_kept(&error) => {
            tracing::info!("no desired state was applied, so no links are kept");
            standing.nothing();
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            broker.stop().await;
            return Ok(ExitCode::SUCCESS);
        }
        (kept, broker) => (kept?, broker),
    };
    let netlink = Netlink::open().await?;
    let groups = EventGroups { receive_buffer: Some(EVENT_BUFFER), ..EventGroups::ALL };
    // Before the first reading, so that no change falls between the two.
    let mut events = netlink.events(groups).await.context("listen for changes")?;
    let desired = source::desired(&kept)?;
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
        kept,
        desired,
    };
    let interval = Duration::from_secs(interval);
    keeper.begin().await?;
    loop {
        health.pulse.works();
        let pause = keeper.look().await.unwrap_or(interval);
        let wake = Instant::now() + pause.min(interval);
        health.pulse.sleeps_until(wake);
        let not_before = keeper.backoff.not_before().unwrap_or_else(Instant::now);
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = reload.recv() => keeper.reload(input).await?,
            woken = keeper.relevant(&mut events, not_before) => woken?,
            () = sleep_until(wake) => {}
        }
    }
    tracing::info!("stopping; every link stays");
    if let Some(broker) = broker {
        broker.stop().await;
    }
    Ok(ExitCode::SUCCESS)
}

impl Keeper<'_> {
    /// Begins to keep what is desired now.
    async fn begin(&mut self) -> anyhow::Result<()> {
        tracing::info!("keeping {} interfaces", self.desired.interfaces.len());
        for text in &self.desired.left_alone {
            tracing::info!("left alone: {text}");
        }
        self.find_links().await
    }

    async fn find_links(&mut self) -> anyhow::Result<()> {
        let names = plan::scope(&self.desired).names;
        self.watch.set(self.netlink, names).await.context("find the links that are kept")
    }

    /// Reads, plans and repairs. Returns when to look again if not all is well.
    async fn look(&mut self) -> Option<Duration> {
        if let Err(rival) = rival::stand_down(&self.cli.nmstate_lock) {
            self.standing.stood_down(rival.to_string());
            self.say(vec![rival.to_string()]);
            return Some(RETRY);
        }
        let started = Instant::now();
        let result = self.repair().await;
        match result {
            Ok(looked) => {
                self.standing.looked(&looked, started.elapsed(), self.desired.interfaces.len());
                let Looked { steps, waits, warnings } = looked;
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
                self.say(waits.into_iter().map(|what| format!("waiting: {what}")).chain(warnings).collect());
                None
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
        let plan = apply::plan_now(self.netlink, &self.desired).await?;
        let waits = plan.missing.iter().map(ToString::to_string).collect();
        let warnings = plan.warnings.clone();
        let goal = plan.missing.is_empty().then(|| Goal::Keep(self.kept.clone()));
        // With a journal as in `apply`: killed on its way to a state that was never kept, the next start, which may
        // know only the kept one, would not know what of the other to take away.
        let journal = self.state.directory();
        let done = apply::carry_out(self.netlink, &self.desired, plan, &self.targets, journal, goal.as_ref())
            .await?;
        if goal.is_some()
            && let Err(error) = self.state.keep(&self.kept)
        {
            tracing::warn!("{}", chain(&error));
        }
        let steps = done.end()?.iter().map(|planned| planned.apply.to_string()).collect();
        Ok(Looked { steps, waits, warnings })
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

    /// Reads the files again. Wrong ones change nothing.
    async fn reload(&mut self, input: &Input) -> anyhow::Result<()> {
        let read =
            source::texts(input, Some(self.state)).and_then(|kept| Ok((source::desired(&kept)?, kept)));
        match read {
            Ok((desired, kept)) => {
                tracing::info!("read the desired state again");
                (self.desired, self.kept) = (desired, kept);
                self.promised = false;
                self.standing.begins();
                self.begin().await
            }
            Err(error) => {
                tracing::error!("the desired state stays as it was: {error:#}");
                Ok(())
            }
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
