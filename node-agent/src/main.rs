//! `octavia-bridge-agent`: keeps a node's VLAN interfaces and bridges as a policy describes them.

mod apply;
mod broker;
mod cli;
mod desired;
mod doctor;
mod health;
mod install;
mod marker;
mod observed;
mod plan;
mod policies;
mod pools;
mod reclaim;
mod rival;
mod run;
mod show;
mod source;
mod state;
mod verbs;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Verb};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

/// Status for wrong usage and input, clap's own as well.
const WRONG_INPUT: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    // The client of the API server, and what watches by it, log each failed attempt, and do not say of what; the part of the
    // agent that asked says more, once.
    let told = Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target("kube_client", LevelFilter::OFF)
        .with_target("kube_runtime", LevelFilter::OFF);
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_target(false);
    log.finish().with(told).init();
    observed::find_settings_below(&cli.proc_sys);
    match answer(&cli) {
        Ok(status) => status,
        Err(error) => {
            tracing::error!("{error:#}");
            if error.is::<source::Error>() { ExitCode::from(WRONG_INPUT) } else { ExitCode::FAILURE }
        }
    }
}

fn answer(cli: &Cli) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match &cli.verb {
            Verb::Plan { input, json, check } => verbs::plan(cli, input, *json, *check).await,
            Verb::Apply { input, safety } => verbs::apply(cli, input, safety).await,
            Verb::Show { json } => verbs::show(*json).await,
            Verb::Remove { safety } => verbs::remove(cli, safety).await,
            Verb::Install { places, plugin } => install::install(cli, places, plugin),
            Verb::Uninstall { places, state } => install::uninstall(cli, places, *state),
            Verb::Doctor(options) => doctor::doctor(cli, options).await,
            Verb::Pools(options) => pools::pools(cli, options).await,
            Verb::Run { input, safety, cluster, cni_bin_dir, plugin, health_bind, interval } => {
                let place = cni_bin_dir.as_deref().map(|folder| (folder, plugin));
                run::run(cli, input, safety, cluster, place, *health_bind, *interval).await
            }
        }
    })
}
