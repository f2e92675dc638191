//! The daemon: it starts every part of the agent, and ends them when it is told to stop.
//!
//! Two threads, and neither waits for the other. This one serves: plugins that ask for addresses, probes, signals. The
//! other one keeps the links, and reads for that what others have written: files, policies, the kernel's tables, its own
//! journal. A panic there ends that thread alone, which then begins anew; a panic here ends the process.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use super::cli::{Cli, Run};
use crate::cluster::broker;
use crate::health::{self, Due, Health, Line};
use crate::node::apply::Targets;
use crate::node::state::State;
use crate::others;
use crate::plugin::{self, Installation};
use crate::reconcile::{self, Job, PortsTold, Standing};
use crate::signals;

/// How long a stopping agent waits for the links: a change that could cut the node off takes ten seconds.
const LAST: Duration = Duration::from_secs(15);

/// Keeps the desired state until SIGTERM or SIGINT, and the plugin in its directory if there is one, and serves plugins beside
/// that if `cluster` says so. Links stay as they are.
///
/// # Errors
/// Another agent at work; no broker; without a cluster wrong input at the start, and a netlink socket that fails. What
/// cannot be reached now is not an error: it is tried again.
pub(crate) async fn run(cli: &Cli, options: &Run) -> anyhow::Result<ExitCode> {
    let Run { input, safety, keeping, cluster, cni_bin_dir, plugin, others, health: endpoints } = options;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut reload = signal(SignalKind::hangup())?;
    signals::hold_hangup(false);
    let state = State::lock(&cli.state_dir)?;
    let health = Arc::new(Health::default());
    health.metrics.collect(Due(health.pulse.clone()));
    let standing = Standing::new(&health);
    let ports = PortsTold::new(&health);
    let installing = match cni_bin_dir {
        Some(bin_dir) => {
            let installation = Installation::new(bin_dir, plugin, state.directory())?;
            Some(plugin::start(installation, &health))
        }
        None => None,
    };
    let broker =
        if cluster.cluster { Some(broker::start(cluster, &cli.state_dir, &health).await?) } else { None };
    health::serve(endpoints, &health);
    let api = broker.as_ref().map(|broker| {
        // Pods are served whatever becomes of the links, so those are not a reason to restart.
        health.pulse.is_not_vital();
        health.readiness.serves_pods();
        let policies = health.readiness.side_part("policies");
        policies.set(vec![Line::Amiss("not read yet".into())]);
        (broker.api.clone(), policies)
    });
    let server = broker.as_ref().and_then(|broker| broker.api.endpoint());
    let pulse = health.pulse.clone();
    health.readiness.ask("links", move || reconcile::overdue(&pulse));
    let made = tokio::sync::watch::Sender::default();
    let telling = others::start(others, &cli.nmstate_lock, made.subscribe(), &health);
    let job = Arc::new(Job {
        state,
        state_dir: cli.state_dir.clone(),
        nmstate_lock: cli.nmstate_lock.clone(),
        input: input.clone(),
        targets: Targets::named(&safety.reach).and_server(server),
        interval: keeping.interval,
        api,
        standing,
        ports,
        leave_ports: keeping.leave_pod_ports,
        made,
        health,
        stop: tokio::sync::watch::Sender::new(false),
        reload: tokio::sync::Notify::new(),
    });
    let mut links = tokio::spawn(reconcile::keep(job.clone()));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = reload.recv() => job.reload.notify_one(),
            ended = &mut links => return ended?.map(|()| ExitCode::SUCCESS),
        }
    }
    tracing::info!("stopping; every link stays");
    job.stop.send_replace(true);
    if let Some(broker) = broker {
        broker.stop().await;
    }
    if let Some(installing) = installing {
        installing.stop().await;
    }
    // What it has begun to write appears whole or not at all.
    if let Some(telling) = telling {
        telling.abort();
    }
    match timeout(LAST, links).await {
        Ok(ended) => ended??,
        Err(_) => tracing::warn!(
            "stopping while the links are still worked at; the next start takes back what is half done"
        ),
    }
    Ok(ExitCode::SUCCESS)
}
