//! Which store has the addresses of this node's attachments.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::path::Path;

use octavia_bridge_ipam::state_file;
use serde::Deserialize;

use super::Sandboxes;
use super::record::listed;

/// What is read of a record, in bytes: these are looked at every two seconds. Only a delegated plugin's configuration makes a first
/// line longer.
const START: u64 = 64 << 10;
/// What stands before that configuration. Within a text, its quotes would be escaped.
const DELEGATED: &[u8] = br#""addressing":{"delegated":{"#;

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
        listed(&self.0).any(|(path, ..)| may_be_of_cluster(&path))
    }
}

fn may_be_of_cluster(path: &Path) -> bool {
    let Ok(start) = read_start(path) else { return true };
    match start.iter().position(|byte| *byte == b'\n') {
        Some(end) => serde_json::from_slice::<Elsewhere>(&start[..end]).is_err(),
        // A torn line was written by an ADD that asked nobody yet.
        None if (start.len() as u64) < START => false,
        None => !start.windows(DELEGATED.len()).any(|part| part == DELEGATED),
    }
}

fn read_start(path: &Path) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    state_file::open(path, OpenOptions::new().read(true))?.take(START).read_to_end(&mut start)?;
    Ok(start)
}

#[cfg(test)]
mod tests {
    use std::fs;

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

    #[test]
    fn of_a_long_record_only_the_start_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let sandboxes = Sandboxes::under(dir.path());
        let records = dir.path().join("attachments");
        fs::create_dir(&records).unwrap();
        // No file may be read whole that has as many bytes.
        let sparse = |start: &str| {
            let path = records.join("c1@net1.jsonl");
            fs::write(&path, start).unwrap();
            let file = OpenOptions::new().append(true).open(&path).unwrap();
            file.set_len(state_file::LONGEST + 1).unwrap();
            sandboxes.use_cluster()
        };
        let delegated = r#""addressing":{"delegated":{"program":"host-local","config":""#;
        assert!(!sparse(&format!("{{\"version\":1,{delegated}")));
        assert!(sparse(&format!("{{\"version\":1,\"network\":{delegated:?},")), "within a text");
        assert!(!sparse("{\"version\":1,\"addressing\":\"pool\"}\n"));
        assert!(sparse("{\"version\":1,\"addressing\":{\"cluster\":{}}}\n"));
    }
}
