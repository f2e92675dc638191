//! The verbs that end: plan, apply, show, remove.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use octavia_bridge_netlink::Netlink;
use serde_json::json;

use crate::apply::{self, Targets};
use crate::cli::{Cli, Input, Safety};
use crate::desired::{Desired, Interface, State as Wanted};
use crate::marker;
use crate::observed;
use crate::plan::{Missing, Plan};
use crate::state::State;
use crate::{rival, show, source};

/// Status of `plan --check` when there is something to do.
const DIFFERS: u8 = 3;

/// Something has to appear before the desired state can be reached; nothing was touched.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub(crate) struct Incomplete(Vec<Missing>);

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} does not exist", self.of, self.awaits)
    }
}

pub(crate) async fn plan(cli: &Cli, input: &Input, as_json: bool, check: bool) -> anyhow::Result<ExitCode> {
    // Planning needs the state directory only for what is kept there.
    let state = if input.files.is_empty() { Some(State::lock(&cli.state_dir)?) } else { None };
    let desired = source::desired(&source::texts(input, state.as_ref())?)?;
    let netlink = Netlink::open().await?;
    let plan = apply::plan_now(&netlink, &desired).await?;
    if as_json {
        let Plan { steps, missing, warnings, cuts } = &plan;
        let left_alone = &desired.left_alone;
        let value = json!({
            "steps": steps, "missing": missing, "warnings": warnings, "cuts": cuts, "leftAlone": left_alone
        });
        print(&format!("{value:#}"))?;
    } else {
        print(&in_words(&desired, &plan))?;
    }
    let differs = !plan.steps.is_empty() || !plan.missing.is_empty();
    Ok(if check && differs { ExitCode::from(DIFFERS) } else { ExitCode::SUCCESS })
}

fn in_words(desired: &Desired, plan: &Plan) -> String {
    let mut lines: Vec<String> = plan.steps.iter().map(|planned| planned.apply.to_string()).collect();
    if plan.steps.is_empty() {
        lines.push("nothing to do".into());
    }
    lines.extend(plan.missing.iter().map(|missing| format!("waits: {missing}")));
    lines.extend(plan.cuts.iter().map(|step| format!("could cut the node off, and will be checked: {step}")));
    lines.extend(plan.warnings.iter().map(|text| format!("warning: {text}")));
    lines.extend(desired.left_alone.iter().map(|text| format!("left alone: {text}")));
    lines.join("\n")
}

pub(crate) async fn apply(cli: &Cli, input: &Input, safety: &Safety) -> anyhow::Result<ExitCode> {
    // Standard input is read before the lock is taken: it may be long in coming.
    let named = if input.files.is_empty() { None } else { Some(source::texts(input, None)?) };
    if let Some(kept) = &named {
        source::desired(kept)?;
    }
    rival::stand_down(&cli.nmstate_lock)?;
    let state = State::lock(&cli.state_dir)?;
    let netlink = Netlink::open().await?;
    recover(&netlink, &state).await?;
    let kept = named.map_or_else(|| source::texts(input, Some(&state)), Ok)?;
    let desired = source::desired(&kept)?;
    let plan = apply::plan_now(&netlink, &desired).await?;
    if !plan.missing.is_empty() {
        return Err(Incomplete(plan.missing).into());
    }
    warn(&desired, &plan);
    carry_out(&netlink, &state, &desired, plan, safety).await?;
    state.keep(&kept)?;
    Ok(ExitCode::SUCCESS)
}

async fn carry_out(
    netlink: &Netlink,
    state: &State,
    desired: &Desired,
    plan: Plan,
    safety: &Safety,
) -> anyhow::Result<()> {
    let targets = Targets(safety.reach.clone());
    let done = apply::carry_out(netlink, desired, plan, &targets, Some(state.directory())).await?;
    let mut lines: Vec<String> = done.iter().map(|planned| planned.apply.to_string()).collect();
    if done.is_empty() {
        lines.push("nothing to do".into());
    }
    print(&lines.join("\n"))
}

pub(crate) async fn recover(netlink: &Netlink, state: &State) -> anyhow::Result<()> {
    let steps = apply::recover(netlink, state.directory()).await?;
    if steps > 0 {
        tracing::warn!("an earlier process was killed half-way; its {steps} steps were taken back");
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
        print(&format!("{state:#}"))?;
    } else {
        print(serde_saphyr::to_string(&state)?.trim_end())?;
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
    if let Some(kept) = state.kept()?
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
    carry_out(&netlink, &state, &desired, plan, safety).await?;
    state.forget()?;
    Ok(ExitCode::SUCCESS)
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
fn print(text: &str) -> anyhow::Result<()> {
    writeln!(io::stdout().lock(), "{text}").context("write to standard output")
}
