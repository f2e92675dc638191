//! `status`: how every node stands, in a line each.
//!
//! From a workstation out of objects that the API server has, so that it also answers for a node that is away. On a node without
//! a kubeconfig the agent itself is asked, over its socket.

mod cluster;
mod judge;
mod local;

use std::process::ExitCode;

use octavia_bridge_ipam::visible::lines;
use serde::Serialize;
use serde_json::json;

use super::cli::Status;
use super::output::{print_json, print_text};

/// How the cluster, or one node, stands.
#[derive(Debug, Default, PartialEq, Eq)]
struct Overview {
    nodes: Vec<Row>,
    /// What concerns no single node.
    cluster: Vec<String>,
    /// The same, where something is wrong.
    wrong: Vec<String>,
}

/// One node.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Row {
    node: String,
    /// The agent's; `None` if it has not said so.
    version: Option<String>,
    /// Policies that are in force, and all that select the node; `None` where that is not known.
    policies: Option<(usize, usize)>,
    /// Interfaces in the node's state.
    interfaces: Option<usize>,
    wrong: Vec<String>,
    notes: Vec<String>,
}

/// Prints it. The status is 1 if something is wrong.
///
/// # Errors
/// The API server, or the agent, does not answer.
pub(crate) async fn status(options: &Status) -> anyhow::Result<ExitCode> {
    let overview = match &options.kubeconfig {
        Some(kubeconfig) => cluster::look(kubeconfig, options).await?,
        None => local::look(options).await?,
    };
    if options.json {
        let Overview { nodes, cluster, wrong } = &overview;
        print_json(json!({ "nodes": nodes, "cluster": cluster, "wrong": wrong }))?;
    } else {
        print_text(&lines(&overview.table()))?;
    }
    Ok(if overview.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Overview {
    fn is_well(&self) -> bool {
        self.wrong.is_empty() && self.nodes.iter().all(|row| row.wrong.is_empty())
    }

    fn table(&self) -> Vec<String> {
        let mut cells = vec![["NODE", "AGENT", "POLICIES", "LINKS", "STATUS"].map(str::to_owned)];
        for row in &self.nodes {
            let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
            let mut texts = row.wrong.clone();
            if texts.is_empty() && row.version.is_some() {
                texts.push("ok".into());
            }
            for note in &row.notes {
                texts.push(format!("note: {note}"));
            }
            cells.push([
                row.node.clone(),
                or_dash(row.version.clone()),
                or_dash(row.policies.map(|(done, all)| format!("{done}/{all}"))),
                or_dash(row.interfaces.map(|number| number.to_string())),
                texts.join("; "),
            ]);
        }
        let mut widths = [0; 4];
        for row in &cells {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.len());
            }
        }
        let [node, agent, policies, links] = widths;
        let mut table = Vec::new();
        for [a, b, c, d, text] in &cells {
            table.push(format!("{a:node$}  {b:agent$}  {c:policies$}  {d:links$}  {text}"));
        }
        table.extend(self.cluster.iter().cloned());
        table.extend(self.wrong.iter().map(|text| format!("wrong: {text}")));
        table
    }
}
