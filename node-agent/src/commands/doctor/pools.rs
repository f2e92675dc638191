//! The plugin's pools on this host: documents that can be read, and releases that are still to be done.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use octavia_bridge_ipam::conf::places::run_dirs;
use octavia_bridge_ipam::file::Tombstones;
use octavia_bridge_ipam::pool::Pool;
use octavia_bridge_ipam::state_file;

use super::{Finding, counted};

const CHECK: &str = "pools";

pub(super) fn look(data_dir: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (mut pools, mut addresses) = (0, 0);
    let mut paths = Vec::new();
    let mut stones = Vec::new();
    // What an older release left is where it was until the plugin runs for the first time.
    for place in run_dirs(data_dir) {
        let directory = place.join("pools");
        match listed(&directory) {
            Ok(listed) => paths.extend(listed),
            Err(cause) => return vec![unreadable(&directory, &cause)],
        }
        match Tombstones::new(place.join("tombstones")).list() {
            Ok(listed) => stones.extend(listed),
            Err(error) => findings.push(unreadable(&place.join("tombstones"), &error)),
        }
    }
    for path in paths {
        // Drafts of a write under way, and the lock, have other names.
        let name =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".json"));
        let Some(name) = name.filter(|name| !name.starts_with('.')) else { continue };
        match state_file::read(&path, state_file::LONGEST)
            .map_err(|cause| cause.to_string())
            .and_then(|text| Pool::parse(name, &text).map_err(|cause| cause.to_string()))
        {
            Ok(pool) => (pools, addresses) = (pools + 1, addresses + pool.len()),
            Err(why) => findings.push(unreadable(&path, &why)),
        }
    }
    if !stones.is_empty() {
        let owners: Vec<String> =
            stones.iter().take(3).map(|stone| format!("{} {}", stone.id, stone.ifname)).collect();
        let more = if stones.len() > owners.len() { " …" } else { "" };
        let text = format!("{} pending: {}{more}", counted(stones.len(), "release"), owners.join(", "));
        findings.push(Finding::warn(
            CHECK,
            text,
            "the next ADD or DEL releases them; see the plugin's log for why the DEL failed",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            CHECK,
            format!("{} with {} in use", counted(pools, "pool"), counted(addresses, "address")),
        ));
    }
    findings
}

fn listed(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    match fs::read_dir(directory) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => {}
        entries => {
            for entry in entries? {
                paths.push(entry?.path());
            }
        }
    }
    Ok(paths)
}

fn unreadable(path: &Path, cause: &dyn std::fmt::Display) -> Finding {
    let remedy = "repair the pool by hand, or remove it once no pod uses it; until then ADDs fail";
    Finding::fail(CHECK, format!("{}: {cause}", path.display()), remedy)
}
