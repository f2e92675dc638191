//! What a person would look at by hand when pods cannot reach the amphorae: one line for each, with what to do.
//!
//! Nothing is changed, and no lock is taken: it works beside a daemon.

mod agent;
mod firewall;
mod host;
mod links;
mod plugin;
mod policy;
mod pools;
mod ports;

use std::fmt;
use std::process::ExitCode;

use anyhow::Context;
use octavia_bridge_ipam::visible::lines;
use octavia_bridge_netlink::Netlink;
use serde::Serialize;
use serde_json::json;

use super::cli::{Cli, Doctor};
use super::output::{print_json, print_text};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Ok,
    /// Works, or may work, and should be looked at.
    Warn,
    /// Pods do not reach their network, or soon will not.
    Fail,
}

/// What one look has shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    /// What was looked at, in a word.
    pub(crate) check: &'static str,
    pub(crate) text: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
}

impl Finding {
    pub(crate) fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Ok, check, text: text.into(), remedy: None }
    }

    pub(crate) fn warn(check: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Warn, check, text: text.into(), remedy: Some(remedy.into()) }
    }

    pub(crate) fn fail(check: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Fail, check, text: text.into(), remedy: Some(remedy.into()) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "fail",
        };
        write!(f, "{level:<5} {:<8} {}", self.check, self.text)?;
        self.remedy.iter().try_for_each(|remedy| write!(f, "; {remedy}"))
    }
}

/// A number with its noun.
fn counted(number: usize, noun: &str) -> String {
    match (number, noun) {
        (1, _) => format!("1 {noun}"),
        (_, "address") => format!("{number} addresses"),
        _ => format!("{number} {noun}s"),
    }
}

/// Looks at everything and prints it. The status is 1 if something is wrong.
///
/// # Errors
/// Not root, no netlink socket, or the links cannot be read.
pub(crate) async fn doctor(cli: &Cli, options: &Doctor) -> anyhow::Result<ExitCode> {
    // To another user every file seems damaged or missing, and the remedies would destroy it.
    anyhow::ensure!(rustix::process::geteuid().is_root(), "run as root");
    let netlink = Netlink::open().await?;
    let seen = netlink.links().await.context("read the present links")?;
    let (mut findings, desired) = policy::look(cli, &netlink).await;
    findings.extend(policy::not_in_force(cli));
    findings.extend(policy::put_aside(cli));
    if let Some(desired) = &desired {
        findings.extend(host::kernel(desired, &seen));
        findings.extend(links::paths(desired, &seen));
        findings.extend(host::reverse_paths(desired, &seen));
        findings.extend(host::rivals(cli, options, desired, &seen));
    }
    findings.extend(policy::unkept(desired.as_ref(), &seen));
    findings.extend(policy::lost_marks(cli, &seen));
    let (of_ports, bridges) = ports::look(cli, &netlink, desired.as_ref(), &seen).await;
    findings.extend(of_ports);
    findings.extend(firewall::look(&bridges, &seen).await);
    findings.extend(agent::look(cli, options).await);
    findings.extend(pools::look(&cli.state_dir));
    findings.extend(plugin::installed(&cli.state_dir));
    findings.extend(options.plugin.as_deref().map(plugin::look));
    if options.json {
        print_json(json!({ "findings": findings }))?;
    } else {
        print_text(&lines(&findings))?;
    }
    let wrong = findings.iter().any(|finding| finding.level == Level::Fail);
    Ok(if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
