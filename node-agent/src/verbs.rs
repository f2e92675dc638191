//! The verbs that end: plan, apply, show, remove.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use octavia_bridge_ipam::visible;
use octavia_bridge_netlink::Netlink;
use serde_json::json;

use crate::apply::{self, Goal, LeftBehind, Targets, chain};
use crate::cli::{Cli, Input, Safety};
use crate::desired::{Desired, Interface, State as Wanted};
use crate::marker;
use crate::observed;
use crate::plan::{Missing, Plan, Planned};
use crate::state::{Bridges, Kept, State};
use crate::{rival, show, source};

/// Status of `plan --check` when there is something to do.
const DIFFERS: u8 = 3;

/// Something has to appear before the desired state can be reached; nothing was touched.
#[derive(Debug, thiserror::Error)]
#[error("{}", visible::lines(.0))]
pub(crate) struct Incomplete(Vec<Missing>);

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} does not exist", self.of, self.awaits)
    }
}

pub(crate) async fn plan(cli: &Cli, input: &Input, as_json: bool, check: bool) -> anyhow::Result<ExitCode> {
    // Planning needs the state directory only for what is kept there.
    let state = if input.files.is_empty() { Some(State::lock(&cli.state_dir)?) } else { None };
    // One that is not understood is left where it is: this verb does nothing.
    let kept = state.as_ref().map(|_| State::peek(&cli.state_dir)).transpose()?.flatten();
    let desired = source::desired(&source::texts(input, kept)?)?;
    let netlink = Netlink::open().await?;
    let plan = apply::plan_now(&netlink, &desired).await?;
    if as_json {
        let Plan { steps, missing, warnings, cuts } = &plan;
        let left_alone = &desired.left_alone;
        let value = json!({
            "steps": steps, "missing": missing, "warnings": warnings, "cuts": cuts, "leftAlone": left_alone
        });
        print_text(&format!("{value:#}"))?;
    } else {
        print_text(&in_words(&desired, &plan))?;
    }
    let differs = !plan.steps.is_empty() || !plan.missing.is_empty();
    Ok(if check && differs { ExitCode::from(DIFFERS) } else { ExitCode::SUCCESS })
}

fn in_words(desired: &Desired, plan: &Plan) -> String {
    let mut lines: Vec<String> = plan.steps.iter().map(|planned| planned.apply.to_string()).collect();
    if plan.steps.is_empty() && plan.missing.is_empty() {
        lines.push("nothing to do".into());
    }
    lines.extend(plan.missing.iter().map(|missing| format!("waits: {missing}")));
    lines.extend(
        plan.cuts.iter().map(|step| format!("could disconnect the node, checked after the change: {step}")),
    );
    lines.extend(plan.warnings.iter().map(|text| format!("warning: {text}")));
    lines.extend(desired.left_alone.iter().map(|text| format!("left alone: {text}")));
    visible::lines(&lines)
}

pub(crate) async fn apply(cli: &Cli, input: &Input, safety: &Safety) -> anyhow::Result<ExitCode> {
    // Standard input is read before the lock is taken: it may be long in coming.
    let named = if input.files.is_empty() { None } else { Some(read(input, None)?) };
    rival::stand_down(&cli.nmstate_lock)?;
    let state = State::lock(&cli.state_dir)?;
    let netlink = Netlink::open().await?;
    recover(&netlink, &state).await?;
    let named = named.map_or_else(|| read(input, Some(&state)), Ok);
    let applied = async { bring_about(&netlink, &state, named?, safety).await }.await;
    if applied.is_err() {
        promise_kept(&state);
    }
    applied
}

fn read(input: &Input, state: Option<&State>) -> anyhow::Result<(Kept, Desired)> {
    let kept = source::texts(input, state.and_then(State::kept))?;
    let desired = source::desired(&kept)?;
    Ok((kept, desired))
}

async fn bring_about(
    netlink: &Netlink,
    state: &State,
    (kept, desired): (Kept, Desired),
    safety: &Safety,
) -> anyhow::Result<ExitCode> {
    // Before the first look: a bridge that the plugin makes on its own is seen here, or not made.
    state.promise(&Bridges::of(&desired, &kept))?;
    let plan = apply::plan_now(netlink, &desired).await?;
    if !plan.missing.is_empty() {
        return Err(Incomplete(plan.missing).into());
    }
    warn(&desired, &plan);
    let draft = state.draft(&kept)?;
    let targets = Targets(safety.reach.clone());
    let goal = Goal::Keep(kept);
    match apply::carry_out(netlink, &desired, plan, &targets, state.directory(), Some(&goal)).await {
        Ok(done) => {
            state.publish(draft)?;
            tell(&done.end()?)
        }
        Err(error) => {
            if let Err(left) = state.discard(draft) {
                tracing::warn!("{}", chain(&left));
            }
            Err(error.into())
        }
    }
}

/// After a change that failed the plugin has to go by the policy before it again.
pub(crate) fn promise_kept(state: &State) {
    let promised = || -> anyhow::Result<()> {
        match state.kept() {
            Some(kept) => state.promise(&Bridges::of(&source::desired(&kept)?, &kept))?,
            None => state.promise_nothing()?,
        }
        Ok(())
    };
    if let Err(error) = promised() {
        tracing::warn!("the plugin still follows the failed policy: {}", chain(&*error));
    }
}

fn tell(done: &[Planned]) -> anyhow::Result<ExitCode> {
    let mut lines: Vec<String> = done.iter().map(|planned| planned.apply.to_string()).collect();
    if done.is_empty() {
        lines.push("nothing to do".into());
    }
    print_text(&visible::lines(&lines))?;
    Ok(ExitCode::SUCCESS)
}

/// What is kept, or will be when [`recover`] is done.
pub(crate) fn kept_last(state: &State) -> Option<Kept> {
    match apply::left_behind(state.directory()).and_then(|left| left.reached) {
        Some(Goal::Keep(kept)) => Some(kept),
        Some(Goal::Forget) => None,
        None => state.kept(),
    }
}

/// Settles what a process that was killed has left: steps half-way are taken back, steps complete are not. A process that
/// dies of it is the last to try.
pub(crate) async fn recover(netlink: &Netlink, state: &State) -> anyhow::Result<()> {
    let Some(mut left) = apply::left_behind(state.directory()) else { return Ok(()) };
    left.begins();
    match settle(netlink, state, &left).await {
        Ok(()) => Ok(left.journal.end().map_err(apply::Error::Journal)?),
        Err(error) => {
            left.failed();
            Err(error)
        }
    }
}

async fn settle(netlink: &Netlink, state: &State, left: &LeftBehind) -> anyhow::Result<()> {
    match &left.reached {
        Some(Goal::Keep(kept)) => state.keep(kept)?,
        Some(Goal::Forget) => state.forget()?,
        None if left.begun.is_empty() => {}
        None => {
            apply::take_back(netlink, &left.begun).await?;
            let number = left.begun.len();
            tracing::warn!("an earlier process was killed half-way; its {number} steps were taken back");
        }
    }
    Ok(())
}

/// What people should know and nothing fails by.
pub(crate) fn warn(desired: &Desired, plan: &Plan) {
    for text in &plan.warnings {
        tracing::warn!("{text}");
    }
    for text in &desired.left_alone {
        tracing::info!("left alone: {text}");
    }
}

pub(crate) async fn show(as_json: bool) -> anyhow::Result<ExitCode> {
    let netlink = Netlink::open().await?;
    let observed = observed::read(&netlink).await.context("read the present state")?;
    let state = show::state(&observed);
    if as_json {
        print_text(&format!("{state:#}"))?;
    } else {
        print_text(&visible::lines(&serde_saphyr::to_string(&state)?.lines().collect::<Vec<_>>()))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn remove(cli: &Cli, safety: &Safety) -> anyhow::Result<ExitCode> {
    rival::stand_down(&cli.nmstate_lock)?;
    let state = State::lock(&cli.state_dir)?;
    let netlink = Netlink::open().await?;
    recover(&netlink, &state).await?;
    let observed = observed::read(&netlink).await.context("read the present state")?;
    let ours = observed.links.iter().filter(|(_, link)| link.is_ours());
    let mut desired =
        Desired { interfaces: ours.map(|(name, _)| absent(name)).collect(), ..Desired::default() };
    // Ports that the kept policy attached are not a stranger's.
    if let Some(kept) = state.kept()
        && let Ok(before) = source::desired(&kept)
    {
        let mut ports: Vec<String> = before.interfaces.iter().flat_map(Interface::ports).cloned().collect();
        ports.retain(|port| !desired.interfaces.iter().any(|entry| entry.name == *port));
        ports.sort();
        ports.dedup();
        desired
            .interfaces
            .extend(ports.iter().map(|port| Interface { state: Wanted::Ignore, ..absent(port) }));
    }
    desired.routes = observed.routes.iter().filter(|route| route.is_ours()).flat_map(absent_route).collect();
    let plan = apply::plan_now(&netlink, &desired).await?;
    warn(&desired, &plan);
    let targets = Targets(safety.reach.clone());
    let goal = Some(&Goal::Forget);
    let done = apply::carry_out(&netlink, &desired, plan, &targets, state.directory(), goal).await?;
    // The plugin last: until then it does not make anew what is being deleted.
    state.forget()?;
    tell(&done.end()?)
}

fn absent(name: &str) -> Interface {
    Interface {
        name: name.to_owned(),
        kind: None,
        state: Wanted::Absent,
        description: None,
        mtu: None,
        mac: None,
        ipv4: None,
        ipv6: None,
    }
}

fn absent_route(route: &observed::Route) -> Vec<crate::desired::Route> {
    debug_assert_eq!(route.protocol, marker::ROUTE_PROTOCOL);
    let entry = |hop: &observed::Hop| crate::desired::Route {
        absent: true,
        destination: Some(route.destination),
        gateway: hop.gateway,
        interface: Some(hop.link.clone()),
        metric: Some(route.metric),
        table: Some(route.table),
        weight: None,
    };
    route.hops.iter().map(entry).collect()
}

/// The one place that writes to standard output.
/// Prints one line, whatever names and words of others it has.
pub(crate) fn print(line: &str) -> anyhow::Result<()> {
    print_text(&visible::visible(line))
}

/// Prints a text whose lines are this program's.
pub(crate) fn print_text(text: &str) -> anyhow::Result<()> {
    writeln!(io::stdout().lock(), "{text}").context("write to standard output")
}
