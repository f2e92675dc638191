//! The one place that writes to standard output, and what several commands print.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use octavia_bridge_ipam::visible;

use crate::node::desired::Desired;
use crate::node::plan::{Plan, Planned};

/// Prints one line, whatever names and words of others it has.
pub(crate) fn print(line: &str) -> anyhow::Result<()> {
    print_text(&visible::visible(line))
}

/// Prints a text whose lines are this program's.
pub(crate) fn print_text(text: &str) -> anyhow::Result<()> {
    writeln!(io::stdout().lock(), "{text}").context("write to standard output")
}

/// Prints what was done.
pub(super) fn print_steps(done: &[Planned]) -> anyhow::Result<ExitCode> {
    let mut lines: Vec<String> = done.iter().map(|planned| planned.apply.to_string()).collect();
    if done.is_empty() {
        lines.push("nothing to do".into());
    }
    print_text(&visible::lines(&lines))?;
    Ok(ExitCode::SUCCESS)
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
