//! The pools of the file store, which one host has for itself.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use octavia_bridge_ipam::allocate;
use octavia_bridge_ipam::causes::chain;
use octavia_bridge_ipam::conf::places::{run_dir, run_dirs};
use octavia_bridge_ipam::file::{FileStore, Tombstones};
use octavia_bridge_ipam::pool::Pool as Document;
use octavia_bridge_ipam::range::Range;
use octavia_bridge_ipam::state_file;
use octavia_bridge_ipam::wire::Attachment;

use super::report::{Holder, Pool, Report, State};
use super::say;
use crate::attachments::Sandboxes;

/// How long a plugin may hold the lock of the pools.
const LOCK_WAIT: Duration = Duration::from_secs(30);

/// What the documents and the plugin's records say. Nothing is locked: each document is replaced as a whole.
pub(super) fn report(data_dir: &Path) -> anyhow::Result<Report> {
    // What an older release left is where it was until the plugin runs for the first time.
    let places = run_dirs(data_dir);
    let place = places.iter().find(|place| place.join("pools").is_dir()).unwrap_or(&places[0]);
    let directory = place.join("pools");
    let attempt = || format!("read the pools in {}", directory.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&directory).with_context(attempt)? {
        let name = entry.with_context(attempt)?.file_name();
        // Drafts of a write under way, and the lock, have other names.
        let name = name.to_str().and_then(|name| name.strip_suffix(".json"));
        names.extend(name.filter(|name| !name.starts_with('.')).map(str::to_owned));
    }
    names.sort();
    let waiting = Tombstones::new(place.join("tombstones")).list()?;
    let sandboxes = Sandboxes::under(data_dir);
    let mut report = Report {
        source: directory.display().to_string(),
        remedy: "The next ADD or DEL frees them.",
        pools: Vec::new(),
        without_pool: Vec::new(),
        alone: Vec::new(),
    };
    for name in names {
        let path = directory.join(format!("{name}.json"));
        let text = state_file::read(&path, state_file::LONGEST).map_err(|error| error.to_string());
        let parsed = text.and_then(|text| Document::parse(&name, &text).map_err(|error| error.to_string()));
        let (fill, holders) = match parsed {
            Err(why) => (Err(why), Vec::new()),
            Ok(document) => {
                let whole = Range::new(document.subnet(), None, None, Vec::new());
                let capacity =
                    whole.map_or(0, |(range, _)| allocate::usage(&range, "", [].iter(), &[]).capacity);
                let holders = document.holders().map(|held| {
                    let owner = Attachment { container_id: held.id.clone(), ifname: held.ifname.clone() };
                    let waits =
                        waiting.iter().any(|stone| stone.id == held.id && stone.ifname == held.ifname);
                    let (state, why) = match sandboxes.standing(&owner) {
                        _ if waits => {
                            (State::Gone, Some("its release is pending; the next ADD or DEL performs it"))
                        }
                        Some(_) => (State::Lives, None),
                        None => (State::Unknown, Some("no record says that its network namespace exists")),
                    };
                    Holder {
                        address: held.address.to_string(),
                        pod: held.pod,
                        interface: held.ifname,
                        container: held.id,
                        node: None,
                        since: None,
                        state,
                        why: why.map(str::to_owned),
                        remark: None,
                    }
                });
                (Ok((document.subnet(), document.len() as u128, capacity)), holders.collect())
            }
        };
        report.pools.push(Pool { name, fill, ranges: Vec::new(), holders });
    }
    Ok(report)
}

/// Frees the addresses of attachments that are provably gone: neither namespace nor host end is on this node.
pub(super) fn repair(data_dir: &Path, dry_run: bool) -> anyhow::Result<ExitCode> {
    let run_dir = run_dir(data_dir);
    let store = FileStore::new(run_dir.join("pools"), run_dir.join("tombstones"));
    let sandboxes = Sandboxes::under(data_dir);
    let gone = |container_id: &str, ifname: &str| {
        sandboxes.is_gone(&Attachment { container_id: container_id.to_owned(), ifname: ifname.to_owned() })
    };
    let mut found = 0;
    let mut failed = false;
    for name in store.names()? {
        let dead = match dry_run {
            true => dead_in(&run_dir.join("pools").join(format!("{name}.json")), &name, &gone),
            false => {
                let taken = store.take_back(&[name], Instant::now() + LOCK_WAIT, &gone);
                taken.map_err(|error| chain(&error))
            }
        };
        match dead {
            Ok(dead) => {
                found += dead.len();
                for holder in dead {
                    let done = if dry_run { "would free" } else { "freed" };
                    say(
                        dry_run,
                        &format!(
                            "{done}: {} of {holder}: its namespace and its link are gone",
                            holder.address
                        ),
                    )?;
                }
            }
            Err(why) => {
                failed = true;
                say(dry_run, &why)?;
            }
        }
    }
    if found == 0 {
        say(dry_run, "nothing to repair")?;
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Those of a pool that are gone.
fn dead_in(
    path: &Path,
    name: &str,
    gone: &dyn Fn(&str, &str) -> bool,
) -> Result<Vec<octavia_bridge_ipam::request::Holder>, String> {
    let text = state_file::read(path, state_file::LONGEST).map_err(|error| error.to_string());
    let pool = text.and_then(|text| Document::parse(name, &text).map_err(|error| error.to_string()));
    let pool = pool.map_err(|why| format!("{}: {why}", path.display()))?;
    Ok(pool.holders().filter(|holder| gone(&holder.id, &holder.ifname)).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use serde_json::json;

    use super::*;

    #[test]
    fn a_host_s_own_pools_are_shown_with_what_the_records_say() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for directory in ["pools", "attachments", "tombstones"] {
            fs::create_dir(path(directory)).unwrap();
        }
        let entry = |id: &str| json!({ "id": id, "podref": format!("a/{id}"), "ifname": "net1" });
        let pool = json!({
            "apiVersion": "whereabouts.cni.cncf.io/v1alpha1", "kind": "IPPool",
            "metadata": { "name": "10.0.0.0-24" },
            "spec": { "range": "10.0.0.0/24", "allocations": {
                "1": entry("stands"), "2": entry("unknown"), "3": entry("waits"),
            } },
        });
        fs::write(path("pools/10.0.0.0-24.json"), pool.to_string()).unwrap();
        fs::write(path("pools/10.1.0.0-24.json"), "{").unwrap();
        fs::write(path("pools/.lock"), "").unwrap();
        fs::write(path("tombstones/waits@net1"), "").unwrap();
        symlink("/proc/self/ns/net", path("netns")).unwrap();
        let there = fs::metadata(path("netns")).unwrap();
        let netns = json!({ "path": path("netns"), "device": there.dev(), "inode": there.ino() });
        let record = json!({ "version": 1, "containerId": "stands", "ifname": "net1", "netns": netns });
        fs::write(path("attachments/stands@net1.jsonl"), format!("{record}\n")).unwrap();
        let report = report(dir.path()).unwrap();
        let states: Vec<(&str, State)> =
            report.pools[0].holders.iter().map(|holder| (holder.pod.as_str(), holder.state)).collect();
        assert_eq!(
            states,
            [("a/stands", State::Lives), ("a/unknown", State::Unknown), ("a/waits", State::Gone)]
        );
        let damaged = report.pools[1].fill.as_ref().unwrap_err();
        assert!(damaged.contains("EOF"), "{damaged}");
        let text = report.text();
        assert!(text.contains("10.0.0.0-24: 3 addresses of 10.0.0.0/24 in use"), "{text}");
    }
}
