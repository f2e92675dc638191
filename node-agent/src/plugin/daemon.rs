//! The plugin in its directory while the daemon runs: what others remove or replace is noticed and restored.

use std::path::{Path, PathBuf};
use std::time::Duration;

use octavia_bridge_ipam::causes::chain;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tokio::time::{sleep, timeout};

use super::file::{Stamp, stamp};
use super::{Error, Installation, Look};
use crate::health::{Health, Line, Report};

/// How often to look whether anything has changed: a few requests for a file's status, and nothing is read.
const POLL: Duration = Duration::from_secs(2);
/// Pause before what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How long a stopping agent waits for the disk.
const LAST: Duration = Duration::from_secs(5);

/// A task at work.
#[derive(Debug)]
pub(crate) struct Running {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    /// Ends it when what it has begun is done, so that no other agent finds a file half written. A disk that does not answer is
    /// not waited for.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        match timeout(LAST, self.task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("installing the plugin ended badly: {error}"),
            Err(_) => tracing::warn!("stopping while the plugin is still being installed"),
        }
    }
}

/// Installs, and keeps it so. What fails is tried again: links are kept all the same.
pub(crate) fn start(installation: Installation, health: &Health) -> Running {
    let reporter = Reporter::new(&installation.bin_dir, health);
    let (stop, stopped) = watch::channel(false);
    Running { stop, task: tokio::spawn(keep(installation, reporter, stopped)) }
}

async fn keep(installation: Installation, mut reporter: Reporter, mut stopped: watch::Receiver<bool>) {
    loop {
        let looking = installation.clone();
        // Bringing files to the disk takes its time, for which no other part may wait.
        let result = match spawn_blocking(move || looking.reconcile()).await {
            Ok(result) => result,
            Err(panic) => return reporter.ended(&panic),
        };
        reporter.report(&installation, &result);
        let changed = async {
            match &result {
                Ok(look) if !look.fails() => change(&look.seen).await,
                _ => sleep(RETRY).await,
            }
        };
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => return,
            () = changed => {}
        }
    }
}

/// Waits until a place is not as it was seen.
async fn change(seen: &[(PathBuf, Stamp)]) {
    loop {
        let places = seen.to_owned();
        let same = move || places.iter().all(|(path, was)| stamp(path) == *was);
        // As slow as the disk of that directory.
        if !spawn_blocking(same).await.is_ok_and(|same| same) {
            return;
        }
        sleep(POLL).await;
    }
}

/// Reports how the plugin stands.
struct Reporter {
    report: Report,
    /// 1 for each name under which the plugin is in its directory.
    installed: Family<[(&'static str, String); 1], Gauge>,
    writes: Counter,
    /// Said once, not at every look.
    said: Vec<String>,
}

impl Reporter {
    fn new(bin_dir: &Path, health: &Health) -> Self {
        let metrics = &health.metrics;
        Self {
            report: health.readiness.part("plugin", &format!("not in {} yet", bin_dir.display())),
            installed: metrics.add(
                "plugin_installed",
                "1 if the plugin directory holds this agent's plugin under that name",
                Family::default(),
            ),
            writes: metrics.add(
                "plugin_writes",
                "Files written into the plugin directory because they were missing, changed, or of another version",
                Counter::default(),
            ),
            said: Vec::new(),
        }
    }

    fn report(&mut self, installation: &Installation, result: &Result<Look, Error>) {
        let mut lines = Vec::new();
        match result {
            Ok(look) => {
                for line in look.done() {
                    tracing::info!("{line}");
                }
                self.writes.inc_by(look.written.len() as u64);
                let stands = look.stands.iter().map(|name| (name, true));
                for (name, is) in stands.chain(look.lacks.iter().map(|(name, _)| (name, false))) {
                    self.installed.get_or_create(&[("name", name.clone())]).set(is.into());
                }
                if !look.stands.is_empty() {
                    let bin_dir = installation.bin_dir.display();
                    lines.push(Line::Well(format!("in {bin_dir}: {}", look.stands.join(", "))));
                }
                lines.extend(look.complaints().into_iter().map(Line::Missing));
                lines.extend(look.notes.iter().cloned().map(Line::Note));
            }
            Err(error) => {
                for name in &installation.asked_for {
                    self.installed.get_or_create(&[("name", name.clone())]).set(0);
                }
                lines.push(Line::Missing(chain(error)));
            }
        }
        let remarks = lines.iter().filter_map(|line| match line {
            Line::Well(_) => None,
            Line::Note(what) | Line::Missing(what) | Line::Amiss(what) => Some(what.clone()),
        });
        let remarks: Vec<String> = remarks.collect();
        if remarks != self.said {
            for remark in &remarks {
                tracing::warn!("plugin: {remark}");
            }
            self.said = remarks;
        }
        self.report.set(lines);
    }

    fn ended(&self, panic: &JoinError) {
        let why = format!("the agent no longer keeps the plugin installed: {panic}; restart the agent");
        tracing::error!("{why}");
        self.report.set(vec![Line::Missing(why)]);
    }
}
