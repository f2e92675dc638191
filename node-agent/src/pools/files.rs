//! The pools of the file store, which one host has for itself.

use std::fs;
use std::path::Path;

use anyhow::Context;
use octavia_bridge_ipam::allocate;
use octavia_bridge_ipam::file::Tombstones;
use octavia_bridge_ipam::pool::Pool as Document;
use octavia_bridge_ipam::range::Range;
use octavia_bridge_ipam::wire::Attachment;

use super::report::{Holder, Pool, Report, State};
use crate::reclaim::Sandboxes;

/// What the documents and the plugin's records say. Nothing is locked: each document is replaced as a whole.
pub(super) fn report(data_dir: &Path) -> anyhow::Result<Report> {
    let folder = data_dir.join("pools");
    let attempt = || format!("read the pools in {}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(attempt)? {
        let name = entry.with_context(attempt)?.file_name();
        // Drafts of a write under way, and the lock, have other names.
        let name = name.to_str().and_then(|name| name.strip_suffix(".json"));
        names.extend(name.filter(|name| !name.starts_with('.')).map(str::to_owned));
    }
    names.sort();
    let waiting = Tombstones::new(data_dir.join("tombstones")).list()?;
    let sandboxes = Sandboxes::under(data_dir);
    let mut report = Report { source: folder.display().to_string(), pools: Vec::new(), alone: Vec::new() };
    for name in names {
        let text = fs::read(folder.join(format!("{name}.json"))).map_err(|error| error.to_string());
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
                        _ if waits => (State::Gone, Some("its release waits; the next ADD or DEL does it")),
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
