//! The pools of the file store, which one host has for itself.

use std::fs;
use std::path::Path;

use anyhow::Context;
use octavia_bridge_ipam::allocate;
use octavia_bridge_ipam::file::Tombstones;
use octavia_bridge_ipam::pool::Pool as Document;
use octavia_bridge_ipam::range::Range;
use octavia_bridge_ipam::state_file;
use octavia_bridge_ipam::wire::Attachment;

use super::report::{Holder, Pool, Report, State};
use crate::cluster::reclaim::Sandboxes;

/// What the documents and the plugin's records say. Nothing is locked: each document is replaced as a whole.
pub(super) fn report(data_dir: &Path) -> anyhow::Result<Report> {
    let directory = data_dir.join("pools");
    let attempt = || format!("read the pools in {}", directory.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&directory).with_context(attempt)? {
        let name = entry.with_context(attempt)?.file_name();
        // Drafts of a write under way, and the lock, have other names.
        let name = name.to_str().and_then(|name| name.strip_suffix(".json"));
        names.extend(name.filter(|name| !name.starts_with('.')).map(str::to_owned));
    }
    names.sort();
    let waiting = Tombstones::new(data_dir.join("tombstones")).list()?;
    let sandboxes = Sandboxes::under(data_dir);
    let mut report = Report {
        source: directory.display().to_string(),
        remedy: "The next ADD or DEL frees them.",
        pools: Vec::new(),
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
        report.pools.push(Pool { name, fill, holders });
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

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
        let there = fs::metadata(dir.path()).unwrap();
        let netns = json!({ "path": dir.path(), "device": there.dev(), "inode": there.ino() });
        let record = json!({ "version": 1, "netns": netns });
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
        assert!(text.contains("10.0.0.0-24: 3 of 254 addresses of 10.0.0.0/24 in use"), "{text}");
    }
}
