//! The steps to the desired state, printed and not taken.

use std::process::ExitCode;

use octavia_bridge_ipam::visible;
use octavia_bridge_netlink::Netlink;
use serde_json::json;

use super::cli::Cli;
use super::output::{print_json, print_text};
use crate::node::apply;
use crate::node::desired::Desired;
use crate::node::plan::Plan;
use crate::node::source::{self, Input};
use crate::node::state::State;
use crate::node::unkept;

/// Status of `plan --check` when there is something to do.
const DIFFERS: u8 = 3;

pub(crate) async fn plan(cli: &Cli, input: &Input, as_json: bool, check: bool) -> anyhow::Result<ExitCode> {
    // Planning needs the state directory only for what is kept there.
    let state = if input.files.is_empty() { Some(State::lock(&cli.state_dir)?) } else { None };
    // One that is not understood is left where it is: this verb does nothing.
    let kept = state.as_ref().map(|_| State::peek(&cli.state_dir)).transpose()?.flatten();
    let desired = source::desired(&source::texts(input, kept)?)?;
    let netlink = Netlink::open().await?;
    let mut plan = apply::plan_now(&netlink, &desired).await?;
    plan.warnings.extend(unkept::notes(&netlink, &desired, unkept::NOT_THIS).await?);
    if as_json {
        let Plan { steps, missing, warnings, cuts, names: _ } = &plan;
        let left_alone = &desired.left_alone;
        print_json(json!({
            "steps": steps, "missing": missing, "warnings": warnings, "cuts": cuts, "left-alone": left_alone
        }))?;
    } else {
        print_text(&in_words(&desired, &plan))?;
    }
    let differs = !plan.steps.is_empty() || !plan.missing.is_empty();
    Ok(if check && differs { ExitCode::from(DIFFERS) } else { ExitCode::SUCCESS })
}

fn in_words(desired: &Desired, plan: &Plan) -> String {
    let mut lines = plan.in_words();
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
