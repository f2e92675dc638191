//! `pools`: which pod has which address, which addresses are leaked, and their repair by hand.
//!
//! The agents repair by themselves. This is for administrators who want to see why an address is not free, and for
//! addresses that no agent is responsible for any more.

mod census;
mod files;
mod repair;
mod report;

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use octavia_bridge_cluster as cluster;
use octavia_bridge_ipam::file::Tombstones;
use octavia_bridge_ipam::kubernetes::{Settings, Store};
use tokio::time::Instant;

use super::cli::{Cli, Pools, PoolsAct, PoolsPlace};
use super::networks;
use super::output::{print, print_json, print_text, tell};
use crate::attachments::Sandboxes;
use crate::cluster::broker::client;
use crate::cluster::pending::Pending;
use crate::cluster::reclaim::{ReclaimApi, Repairer};
use crate::health::{Metrics, Requests};

/// How long the first reading may take.
const READING: Duration = Duration::from_secs(20);

pub(crate) async fn pools(cli: &Cli, options: &Pools) -> anyhow::Result<ExitCode> {
    if let Some(PoolsAct::Repair { dry_run, reclaim_grace }) = &options.act {
        if let Some(directory) = &options.data_dir {
            return files::repair(directory, *dry_run);
        }
        let (repairer, _) = connect(cli, &options.place).await?;
        return repair::repair(&repairer, &options.place, *reclaim_grace, *dry_run).await;
    }
    let report = match &options.data_dir {
        Some(directory) => files::report(directory)?,
        None => {
            let (repairer, api) = connect(cli, &options.place).await?;
            let source = format!("ippools in {}", options.place.pool_namespace);
            let mut report = census::take(&repairer).await.report(source, &repairer.store.pools());
            report.add_ranges(&repairer.store, &networks::ranges(&api).await);
            report
        }
    };
    if options.json {
        print_json(report.json())?;
    } else {
        print_text(&report.text())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a line of a repair, which goes on whether anybody reads of it or not; for a dry run it is all there is.
fn say(dry_run: bool, line: &str) -> anyhow::Result<()> {
    if dry_run {
        return print(line);
    }
    tell(line);
    Ok(())
}

/// The pools of the cluster, read.
async fn connect(cli: &Cli, place: &PoolsPlace) -> anyhow::Result<(Repairer, cluster::Api)> {
    let (config, server) = client::configuration(place.kubeconfig.as_deref()).await?;
    let client = client::connect(&config, &Requests::new(&Metrics::default(), &server))?;
    let api = cluster::Api::new(client, &server);
    let (namespace, node) = (place.pool_namespace.clone(), place.node_name.clone().unwrap_or_default());
    let store = Store::new(api.clone(), Settings { namespace, node, seed: None })?;
    let deadline = Instant::now() + READING;
    store.synced(deadline).await.context("read the pools")?;
    store.keep_up(true, &HashSet::new(), Duration::ZERO, deadline).await.context("read the pools")?;
    let sandboxes = Sandboxes::under(&cli.state_dir);
    let pending = Pending::new(Tombstones::new(cli.state_dir.join("cluster-tombstones")));
    Ok((Repairer { store, api: ReclaimApi::new(api.clone()), sandboxes, pending }, api))
}
