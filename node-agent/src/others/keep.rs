//! The files while the daemon runs: written when the policy gets other links, or when a file is not as it should be.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use octavia_bridge_ipam::visible::visible;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::Other;
use crate::health::{Health, Line, Report};
use crate::node::nmstate_lock;
use crate::plugin::write_text;

/// Between two looks at the files.
const ROUND: Duration = Duration::from_secs(60);
/// The same while kubernetes-nmstate runs on the node.
const STOOD_DOWN: Duration = Duration::from_secs(5);

/// Where `run` writes them.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Other programs")]
pub(crate) struct Places {
    /// Directory of NetworkManager configuration files; write the file that marks the policy's VLAN interfaces, bridges and
    /// VRFs as unmanaged, and keep it up to date [default: do not write it]
    #[arg(long, value_name = "DIR", env = "NETWORK_MANAGER_DIR")]
    network_manager_dir: Option<PathBuf>,
    /// The same for systemd-networkd, pods' ports included.
    #[arg(long, value_name = "DIR", env = "NETWORKD_DIR")]
    networkd_dir: Option<PathBuf>,
}

/// Begins to keep the files for the links that it is told of. None are there until a policy is known; then the files of
/// before stay. None is written while kubernetes-nmstate holds its lock: it configures the links through NetworkManager.
pub(crate) fn start(
    places: &Places,
    nmstate_lock: &Path,
    made: watch::Receiver<Vec<String>>,
    health: &Health,
) -> Option<JoinHandle<()>> {
    let mut files = Vec::new();
    for (other, directory) in
        [(Other::NetworkManager, &places.network_manager_dir), (Other::Networkd, &places.networkd_dir)]
    {
        // Empty, as a variable of a pod may be, is none.
        files.extend(
            directory
                .clone()
                .filter(|path| !path.as_os_str().is_empty())
                .map(|path| (other, other.path(&path))),
        );
    }
    if files.is_empty() {
        return None;
    }
    let report = health.readiness.side_part("others");
    Some(tokio::spawn(keep(files, nmstate_lock.to_owned(), made, report)))
}

async fn keep(
    files: Vec<(Other, PathBuf)>,
    lock: PathBuf,
    mut made: watch::Receiver<Vec<String>>,
    report: Report,
) {
    let mut said = Vec::new();
    loop {
        let names = made.borrow_and_update().clone();
        let mut pause = ROUND;
        if nmstate_lock::stand_down(&lock).is_err() {
            pause = STOOD_DOWN;
        } else if !names.is_empty() {
            let files = files.clone();
            // Which waits for the disk.
            let notes = spawn_blocking(move || write(&files, &names)).await.unwrap_or_default();
            if notes != said {
                for note in &notes {
                    tracing::warn!("{}", visible(note));
                }
                said.clone_from(&notes);
            }
            report.set(notes.into_iter().map(Line::Note).collect());
        }
        // The agent is ending.
        if let Ok(Err(_)) = timeout(pause, made.changed()).await {
            return;
        }
    }
}

/// Writes those that are not as they should be. Returns what cannot be written.
fn write(files: &[(Other, PathBuf)], names: &[String]) -> Vec<String> {
    let mut notes = Vec::new();
    for (other, path) in files {
        let written = other.text(names).and_then(|text| {
            if std::fs::read(path).is_ok_and(|now| now == text.as_bytes()) {
                return Ok(false);
            }
            write_text(path, &text)?;
            Ok(true)
        });
        match written {
            Ok(true) => tracing::info!("{} is written, and takes effect {}", path.display(), other.when()),
            Ok(false) => {}
            Err(error) => notes.push(format!("cannot tell {} which links to leave: {error:#}", other.name())),
        }
    }
    notes
}
