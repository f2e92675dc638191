//! The daemon: what drifts is put right, until somebody says stop.

mod backoff;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use octavia_bridge_netlink::{Event, EventGroups, Events, Netlink};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until, timeout};

use crate::apply::{self, Targets, chain};
use crate::cli::{Cli, Input, Safety};
use crate::desired::Desired;
use crate::plan::{self, Missing};
use crate::state::{Kept, State};
use crate::{rival, source, verbs};
use backoff::BackOff;

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
    names: BTreeSet<String>,
    backoff: BackOff,
    /// Said once, not at every look.
    told: Vec<String>,
}

/// Keeps the desired state until SIGTERM or SIGINT. Links stay as they are.
///
/// # Errors
/// Wrong input at the start, and a netlink socket that fails. What cannot be reached now is no error: it
/// is tried again.
pub(crate) async fn run(
    cli: &Cli,
    input: &Input,
    safety: &Safety,
    interval: u64,
) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut reload = signal(SignalKind::hangup())?;
    let state = State::lock(&cli.state_dir)?;
    let netlink = Netlink::open().await?;
    verbs::recover(&netlink, &state).await?;
    let groups = EventGroups { receive_buffer: Some(EVENT_BUFFER), ..EventGroups::ALL };
    // Before the first reading, so that no change falls between the two.
    let mut events = netlink.events(groups).await.context("listen for changes")?;
    let kept = source::texts(input, Some(&state))?;
    let desired = source::desired(&kept)?;
    let mut keeper = Keeper {
        names: plan::names(&desired),
        targets: Targets(safety.reach.clone()),
        backoff: BackOff::default(),
        told: Vec::new(),
        cli,
        state: &state,
        netlink: &netlink,
        kept,
        desired,
    };
    let interval = Duration::from_secs(interval);
    tracing::info!("keeping {} interfaces", keeper.desired.interfaces.len());
    loop {
        let pause = keeper.look().await.unwrap_or(interval);
        let wake = Instant::now() + pause.min(interval);
        let not_before = Instant::now() + keeper.backoff.pause();
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = reload.recv() => keeper.reload(input),
            woken = keeper.relevant(&mut events, not_before) => woken?,
            () = sleep_until(wake) => {}
        }
    }
    tracing::info!("stopping; every link stays");
    Ok(ExitCode::SUCCESS)
}

impl Keeper<'_> {
    /// Reads, plans and repairs. Returns when to look again if not all is well.
    async fn look(&mut self) -> Option<Duration> {
        if let Err(rival) = rival::stand_down(&self.cli.nmstate_lock) {
            self.say(vec![rival.to_string()]);
            return Some(RETRY);
        }
        let started = Instant::now();
        let result = self.repair().await;
        match result {
            Ok((steps, missing)) => {
                for step in &steps {
                    tracing::info!("{step}");
                }
                if !steps.is_empty() {
                    tracing::info!("{} steps in {:?}", steps.len(), started.elapsed());
                    if let Some(pause) = self.backoff.repaired(started) {
                        let last = steps.join(", ");
                        tracing::warn!(
                            "something undoes what is kept here, time and again (last: {last}); waiting {pause:?}"
                        );
                    }
                }
                self.say(missing.iter().map(|missing| format!("waiting: {missing}")).collect());
                None
            }
            Err(error) => {
                self.say(vec![chain(&error)]);
                Some(RETRY)
            }
        }
    }

    async fn repair(&self) -> Result<(Vec<String>, Vec<Missing>), apply::Error> {
        let plan = apply::plan_now(self.netlink, &self.desired).await?;
        let missing = plan.missing.clone();
        // No journal: what is half done when this process is killed, the next one completes, since the
        // desired state is on disk.
        let done = apply::carry_out(self.netlink, &self.desired, plan, &self.targets, None).await?;
        if missing.is_empty()
            && let Err(error) = self.state.keep(&self.kept)
        {
            tracing::warn!("{}", chain(&error));
        }
        Ok((done.iter().map(|planned| planned.apply.to_string()).collect(), missing))
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
    fn reload(&mut self, input: &Input) {
        let read =
            source::texts(input, Some(self.state)).and_then(|kept| Ok((source::desired(&kept)?, kept)));
        match read {
            Ok((desired, kept)) => {
                tracing::info!("read the desired state again");
                self.names = plan::names(&desired);
                (self.desired, self.kept) = (desired, kept);
            }
            Err(error) => tracing::error!("the desired state stays as it was: {error:#}"),
        }
    }

    /// Waits for a change that may concern us, and for the end of its burst.
    async fn relevant(&self, events: &mut Events, not_before: Instant) -> anyhow::Result<()> {
        loop {
            let event = events.next().await.context("listen for changes")?;
            if self.concerns(&event) {
                break;
            }
        }
        let deadline = Instant::now() + LONGEST_BURST;
        while Instant::now() < deadline {
            match timeout(BURST, events.next()).await {
                Ok(event) => drop(event.context("listen for changes")?),
                Err(_) => break,
            }
        }
        sleep_until(not_before).await;
        Ok(())
    }

    /// Pods' links come and go without being looked at.
    fn concerns(&self, event: &Event) -> bool {
        match event {
            Event::Link(link) => self.names.contains(&link.name),
            Event::LinkGone { name, .. } => self.names.contains(name),
            _ => true,
        }
    }
}
