//! The plugin's pools on this host: documents that can be read, and releases that are still to be done.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use octavia_bridge_ipam::file::Tombstones;
use octavia_bridge_ipam::pool::Pool;
use octavia_bridge_ipam::state_file;

use super::{Finding, counted};

const CHECK: &str = "pools";

pub(super) fn look(data_dir: &Path) -> Vec<Finding> {
    let directory = data_dir.join("pools");
    let mut findings = Vec::new();
    let (mut pools, mut addresses) = (0, 0);
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries.collect(),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Vec::new(),
        Err(cause) => return vec![unreadable(&directory, &cause)],
    };
    for entry in entries {
        let path = match entry {
            Ok(entry) => entry.path(),
            Err(cause) => return vec![unreadable(&directory, &cause)],
        };
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
    match Tombstones::new(data_dir.join("tombstones")).list() {
        Ok(stones) if stones.is_empty() => {}
        Ok(stones) => {
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
        Err(error) => findings.push(unreadable(&data_dir.join("tombstones"), &error)),
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            CHECK,
            format!("{} with {} in use", counted(pools, "pool"), counted(addresses, "address")),
        ));
    }
    findings
}

fn unreadable(path: &Path, cause: &dyn std::fmt::Display) -> Finding {
    let remedy = "repair the pool by hand, or remove it once no pod uses it; until then ADDs fail";
    Finding::fail(CHECK, format!("{}: {cause}", path.display()), remedy)
}
