//! What the state directory holds for pods that are still attached, and its removal when it holds nothing.
//!
//! The plugin's DEL goes by the records: without them it would not know what to take away, and addresses would be lost. A
//! record whose attachment is gone, because the node lost its pods without a DEL, is no reason to keep the directory.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context;
use octavia_bridge_ipam::conf::places::{run_dir, run_dirs};
use octavia_bridge_ipam::file::Tombstones;
use octavia_bridge_ipam::pool::{Allocation, Pool};
use octavia_bridge_ipam::state_file;

use crate::attachments;
use crate::attachments::record::{ENDING, FOLDER};
use crate::node::state::State;

/// Everything that plugin and agent write in the state directory, and the plugin in its run directory.
const DIRECTORIES: [&str; 5] = [FOLDER, "pools", "tombstones", "cluster-tombstones", "agent"];
/// The plugin's locks, in the run directory.
const LOCKS: [&str; 3] = ["takeover.lock", "log.lock", "directory.lock"];
/// Names in a message, of however many.
const NAMED: usize = 5;

/// What is still needed there, and what ends that; nothing if the directory may go.
///
/// # Errors
/// What cannot be read.
pub(super) fn needed(state_dir: &Path) -> anyhow::Result<Vec<String>> {
    let mut needed = Vec::new();
    let (mut attached, mut dead) = (Vec::new(), BTreeSet::new());
    for records in run_dirs(state_dir).iter().map(|directory| directory.join(FOLDER)) {
        for name in names(&records, ENDING)? {
            let path = records.join(format!("{name}{ENDING}"));
            let lives = name.split_once('@').is_none_or(|(id, ifname)| attachments::lives(&path, id, ifname));
            if lives {
                attached.push(name);
            } else {
                dead.insert(name);
            }
        }
    }
    if !attached.is_empty() {
        needed.push(format!(
            "{} attachments are alive ({}): the plugin needs their records to detach the pods; delete the pods first",
            attached.len(),
            some(&attached)
        ));
    }
    for (directory, who) in
        [("tombstones", "the next ADD or DEL"), ("cluster-tombstones", "an agent in the cluster")]
    {
        let mut waiting = 0;
        for place in run_dirs(state_dir) {
            waiting += Tombstones::new(place.join(directory)).list()?.len();
        }
        if waiting > 0 {
            needed.push(format!(
                "{waiting} releases of addresses are pending in {directory}: {who} performs them"
            ));
        }
    }
    for pools in run_dirs(state_dir).iter().map(|directory| directory.join("pools")) {
        for name in names(&pools, ".json")? {
            let path = pools.join(format!("{name}.json"));
            let text = state_file::read(&path, state_file::LONGEST)
                .with_context(|| format!("read {}", path.display()))?;
            let pool = Pool::parse(&name, &text)?;
            // One without a record may be anybody's.
            let is_dead = |held: &Allocation| {
                held.ifname().is_some_and(|ifname| dead.contains(&format!("{}@{ifname}", held.id())))
            };
            let held = pool.iter().filter(|(_, held)| !is_dead(held)).count();
            if held > 0 {
                needed.push(format!(
                    "{held} addresses of pool {name} are in use: `octavia-bridge-agent pools --data-dir {}` lists the pods",
                    state_dir.display()
                ));
            }
        }
    }
    if State::peek(state_dir)?.is_some() {
        needed
            .push("a policy is kept: `octavia-bridge-agent remove` deletes its links and forgets it".into());
    }
    Ok(needed)
}

/// Removes what plugin and agent have written; what else is there stays. Returns what became of the directory.
///
/// # Errors
/// Those of removing.
pub(super) fn remove(state_dir: &Path) -> anyhow::Result<String> {
    let mut paths = vec![State::journal_folder(state_dir)];
    for place in run_dirs(state_dir) {
        paths.extend(DIRECTORIES.iter().map(|directory| place.join(directory)));
    }
    for path in paths {
        match fs::remove_dir_all(&path) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => {
                return Err(cause).with_context(|| format!("remove {}", path.display()));
            }
            _ => {}
        }
    }
    let run_dir = run_dir(state_dir);
    // Sockets of an agent may be there, and what is not there is removed already.
    for lock in LOCKS {
        fs::remove_file(run_dir.join(lock)).ok();
    }
    fs::remove_dir(&run_dir).ok();
    let shown = state_dir.display();
    Ok(match fs::remove_dir(state_dir) {
        Ok(()) => format!("{shown}: removed"),
        // Other files, or a mount.
        Err(cause) => {
            format!("{shown}: removed octavia-bridge's files; the directory itself stays: {cause}")
        }
    })
}

/// Names of the files in a directory that end so, without that. Drafts and locks begin with a dot.
fn names(directory: &Path, ending: &str) -> anyhow::Result<Vec<String>> {
    let attempt = || format!("list {}", directory.display());
    let entries = match fs::read_dir(directory) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(attempt)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.with_context(attempt)?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(ending).filter(|name| !name.starts_with('.')).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

fn some(names: &[String]) -> String {
    let more = if names.len() > NAMED { ", …" } else { "" };
    format!("{}{more}", names[..names.len().min(NAMED)].join(", "))
}
