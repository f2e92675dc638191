//! The steps to the desired state, printed and not taken.

use std::process::ExitCode;

use octavia_bridge_ipam::visible;
use octavia_bridge_netlink::Netlink;
use serde_json::json;

use super::cli::Cli;
use super::output::{print_json, print_text};
use super::remove::own_ports;
use crate::node::apply::Error;
use crate::node::desired::Desired;
use crate::node::observed::{Scope, read_scope};
use crate::node::plan::{self, Plan};
use crate::node::source::{self, Input};
use crate::node::state::State;
use crate::node::unkept;
use crate::node::witness::Witness;

/// Status of `plan --check` when there is something to do.
const DIFFERS: u8 = 3;

pub(crate) async fn plan(cli: &Cli, input: &Input, as_json: bool, check: bool) -> anyhow::Result<ExitCode> {
    // Without the lock, beside a running agent. A file that is not understood is left where it is: this verb does nothing.
    let last = State::peek(&cli.state_dir);
    let before = last.as_ref().ok().cloned().flatten();
    let kept = if input.files.is_empty() { last? } else { None };
    let mut desired = source::desired(&source::texts(input, kept)?)?;
    let netlink = Netlink::open().await?;
    let links = netlink.links().await?;
    let (witness, doubt) = match State::peek_witness(&cli.state_dir) {
        Ok(witness) => (witness, None),
        Err(why) => (Witness::default(), Some(why)),
    };
    desired.own_ports = own_ports(&netlink, before.as_ref(), witness.ports(&links)).await;
    let scope = Scope { whole: true, ..plan::scope(&desired) };
    let mut observed = read_scope(&netlink, &scope).await.map_err(Error::Observe)?;
    witness.lend(&links, &mut observed);
    let mut plan = plan::plan(&desired, &observed).map_err(Error::Conflicts)?;
    plan.warnings.extend(unkept::among(&links, &desired, unkept::NOT_THIS));
    plan.warnings.extend(witness.notes(&links));
    plan.warnings.extend(doubt);
    if as_json {
        let Plan { steps, missing, warnings, undescribed, cuts, names: _ } = &plan;
        let left_alone = &desired.left_alone;
        print_json(json!({
            "steps": steps, "missing": missing, "warnings": warnings, "undescribed": undescribed, "cuts": cuts, "left-alone": left_alone
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
    if !plan.undescribed.is_empty() {
        lines.push(format!(
            "description not written, because this program did not make the link: {}",
            plan.undescribed.join(", ")
        ));
    }
    lines.extend(desired.left_alone.iter().map(|text| format!("left alone: {text}")));
    visible::lines(&lines)
}
