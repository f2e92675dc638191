//! One node, as its agent describes itself over its socket, ready or not.

use anyhow::Context;
use tokio::time::timeout;

use super::{Overview, Row};
use crate::commands::cli::Status;
use crate::health::{DEADLINE, Question, exchange};

pub(super) async fn look(options: &Status) -> anyhow::Result<Overview> {
    let path = &options.place.health_socket;
    let attempt =
        || format!("ask the agent on {}; from a workstation pass --kubeconfig FILE", path.display());
    let (_, text) = match timeout(DEADLINE, exchange(Question::Status, path)).await {
        Ok(answer) => answer.with_context(attempt)?,
        Err(_) => anyhow::bail!("{}: no answer within {} s", attempt(), DEADLINE.as_secs()),
    };
    let node = options.node.clone().unwrap_or_else(|| "this node".into());
    Ok(Overview { nodes: vec![read(node, &text)], ..Overview::default() })
}

/// The agent's answer: its version, and the lines of /readyz.
fn read(node: String, text: &str) -> Row {
    let mut row = Row { node, ..Row::default() };
    for line in text.lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (part, what) = rest.trim_start().split_once(' ').unwrap_or((rest, ""));
        let what = format!("{part}: {}", what.trim_start());
        match word {
            "agent" => row.version = Some(rest.to_owned()),
            "wait" | "warn" => row.wrong.push(what),
            "note" => row.notes.push(what),
            _ => {}
        }
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_wait_or_warn_are_wrong() {
        let text = "agent 0.1.0\nok    api      answers\nwarn  policy   octbr: no enp6s0\nnote  state    old\n\
                    wait  plugin   not installed\n";
        let row = read("worker-0".into(), text);
        assert_eq!(row.version.as_deref(), Some("0.1.0"));
        assert_eq!(row.wrong, ["policy: octbr: no enp6s0", "plugin: not installed"]);
        assert_eq!(row.notes, ["state: old"]);
    }
}
