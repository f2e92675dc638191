//! Which store has the addresses of this node's attachments.

use std::fs;
use std::path::Path;

use octavia_bridge_ipam::state_file;
use serde::Deserialize;

use super::Sandboxes;
use super::record::ENDING;

/// A record's first line whose attachment has no addresses of the cluster.
#[derive(Deserialize)]
struct Elsewhere {
    #[serde(rename = "addressing")]
    _addressing: Addressing,
}

/// The others of the plugin's `AddressingIntent`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Addressing {
    None,
    Pool,
    Delegated {},
}

impl Sandboxes {
    /// Whether an attachment may have addresses of the cluster. Those of a network with other addresses, or none, have not, and an
    /// agent whose node has no other networks need not know the cluster's pools.
    pub(crate) fn use_cluster(&self) -> bool {
        for entry in self.0.iter().flat_map(fs::read_dir).flatten().flatten() {
            let path = entry.path();
            if path.to_string_lossy().ends_with(ENDING) && may_be_of_cluster(&path) {
                return true;
            }
        }
        false
    }
}

fn may_be_of_cluster(path: &Path) -> bool {
    let Ok(text) = state_file::read(path, state_file::LONGEST) else { return true };
    // A torn line was written by an ADD that asked nobody yet.
    let Some(end) = text.iter().position(|byte| *byte == b'\n') else { return false };
    serde_json::from_slice::<Elsewhere>(&text[..end]).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_records_of_the_cluster_and_strange_ones_need_its_pools() {
        let dir = tempfile::tempdir().unwrap();
        let sandboxes = Sandboxes::under(dir.path());
        assert!(!sandboxes.use_cluster(), "no records");
        let records = dir.path().join("attachments");
        fs::create_dir(&records).unwrap();
        for (addressing, expected) in [
            (r#""none""#, false),
            (r#""pool""#, false),
            (r#"{"delegated":{"program":"host-local","config":"{}"}}"#, false),
            (r#"{"cluster":{"socket":"/run/octavia-bridge/agent.sock"}}"#, true),
            (r#""another""#, true),
        ] {
            let line = format!("{{\"version\":1,\"addressing\":{addressing},\"netns\":null}}\n");
            fs::write(records.join("c1@net1.jsonl"), line).unwrap();
            assert_eq!(sandboxes.use_cluster(), expected, "{addressing}");
        }
        fs::write(records.join("c1@net1.jsonl"), "{}\n").unwrap();
        assert!(sandboxes.use_cluster(), "not understood");
        fs::write(records.join("c1@net1.jsonl"), "{\"version\":1,").unwrap();
        assert!(!sandboxes.use_cluster(), "torn");
    }
}
