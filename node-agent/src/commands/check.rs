//! `check`: what octavia-operator will make of Octavia's network definition, before pods and Neutron show it.

mod cluster;
mod input;
mod report;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use octavia_bridge_ipam::octavia::{Surroundings, review};
use serde_json::json;

use self::input::{Objects, PREDICTABLE, Subject};
use self::report::Report;
use super::output::{print_json, print_text};
use crate::node::desired::documents;
use crate::node::source;

/// Status when a definition is wrong, or there is none.
const WRONG: u8 = 3;

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// File with the definition, or - for standard input; may hold policies and the `ConfigMap` octavia-hmport-map, too;
    /// repeatable [default: the cluster's definitions]
    #[arg(short, long = "file", value_name = "FILE", conflicts_with = "kubeconfig")]
    files: Vec<PathBuf>,
    /// Path to a kubeconfig [default: the pod's service account]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Number of nodes that run Octavia's pods [default: unknown, and a cluster's nodes only lead to warnings]
    #[arg(long, value_name = "NUMBER")]
    nodes: Option<u64>,
    /// The range's former `range_end`, if it grew [default: derived from the predictable addresses in use]
    #[arg(long, value_name = "ADDRESS")]
    former_range_end: Option<IpAddr>,
    /// Print machine-readable JSON.
    #[arg(long)]
    json: bool,
}

/// Reviews the definitions and prints what was found.
///
/// # Errors
/// Input that cannot be read or has no definition, and the API server's.
pub(crate) async fn check(options: &Check) -> anyhow::Result<ExitCode> {
    let mut objects = Objects::default();
    if options.files.is_empty() {
        cluster::read(options.kubeconfig.as_deref(), &mut objects).await?;
    } else {
        for path in &options.files {
            read_file(path, &mut objects)?;
        }
    }
    let subjects = objects.subjects();
    if subjects.is_empty() && !options.files.is_empty() {
        let text = format!("{}; name a file that has one", objects.nothing("the input"));
        return Err(source::Error::Unusable(text).into());
    }
    let mut reports = Vec::new();
    for subject in subjects {
        reports.push(report(subject, &objects, options));
    }
    if options.json {
        let definitions: Vec<_> = reports.iter().map(Report::json).collect();
        print_json(json!({ "definitions": definitions }))?;
    } else if reports.is_empty() {
        print_text(&objects.nothing("the cluster"))?;
    } else {
        print_text(&report::text(&reports))?;
    }
    let is_wrong = reports.is_empty() || reports.iter().any(Report::is_wrong);
    Ok(if is_wrong { ExitCode::from(WRONG) } else { ExitCode::SUCCESS })
}

fn read_file(path: &Path, objects: &mut Objects) -> Result<(), source::Error> {
    let text = source::text(path)?;
    let unusable = |error| source::Error::Unusable(format!("{}: {error}", text.origin));
    for document in documents(&text.yaml).map_err(unusable)? {
        objects.add(&document);
    }
    Ok(())
}

fn report(subject: &Subject, objects: &Objects, options: &Check) -> Report {
    let predictable_in_use = objects.predictable_in_use(&subject.namespace).unwrap_or_else(|| {
        let name = subject.title();
        tracing::warn!(
            "{name} does not say its namespace, and several have a ConfigMap {PREDICTABLE}; none is looked at"
        );
        Vec::new()
    });
    let surroundings = Surroundings {
        bridges: objects.bridges.clone(),
        nodes: options.nodes.map(u128::from),
        cluster_nodes: objects.nodes,
        former_range_end: options.former_range_end,
        predictable_in_use,
    };
    Report { name: subject.title(), review: review(&subject.definition, &surroundings) }
}
