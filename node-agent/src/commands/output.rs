//! The one place that writes to standard output, and what several commands print.

use std::io::{self, Write};

use anyhow::Context;
use octavia_bridge_ipam::visible;
use serde_json::Value;

use crate::node::desired::Desired;
use crate::node::plan::{Plan, Planned};

/// Version of the JSON that `plan`, `status`, `doctor`, `check` and `pools` print. A key that is added keeps it; one that is removed, or that
/// gets another meaning, changes it. `show` prints nmstate's own format, which has none.
const FORMAT: u32 = 1;

/// Prints `value`, an object, for programs.
pub(crate) fn print_json(mut value: Value) -> anyhow::Result<()> {
    value["version"] = FORMAT.into();
    print_text(&format!("{value:#}"))
}

/// Prints one line, whatever names and words of others it has.
pub(crate) fn print(line: &str) -> anyhow::Result<()> {
    print_text(&visible::visible(line))
}

/// Prints a text whose lines are this program's.
pub(crate) fn print_text(text: &str) -> anyhow::Result<()> {
    writeln!(io::stdout().lock(), "{text}").context("write to standard output")
}

/// Prints what was done. It is done, whether anybody reads of it or not.
pub(super) fn print_steps(done: &[Planned]) {
    let mut lines: Vec<String> = done.iter().map(|planned| planned.apply.to_string()).collect();
    if done.is_empty() {
        lines.push("nothing to do".into());
    }
    warn_unless(print_text(&visible::lines(&lines)));
}

/// Prints a line of a command that goes on, whether anybody reads of it or not.
pub(super) fn tell(line: &str) {
    warn_unless(print(line));
}

fn warn_unless(printed: anyhow::Result<()>) {
    if let Err(error) = printed {
        tracing::warn!("{error:#}");
    }
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
