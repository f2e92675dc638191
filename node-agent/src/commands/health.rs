//! Asks the agent that runs on this node, as kubelet's probes do.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use tokio::time::timeout;

use super::output::print_text;
use crate::health::{DEADLINE, Question, exchange};

/// Asks the agent at `path`, and prints what it says.
///
/// # Errors
/// No answer.
pub(crate) async fn ask(question: Question, path: &Path) -> anyhow::Result<ExitCode> {
    let attempt = || format!("ask the agent on {} whether it is {}", path.display(), question.word());
    let (so, text) = match timeout(DEADLINE, exchange(question, path)).await {
        Ok(answer) => answer.with_context(attempt)?,
        Err(_) => anyhow::bail!("{}: no answer within {} s", attempt(), DEADLINE.as_secs()),
    };
    print_text(text.trim_end())?;
    Ok(if so { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
