//! What the agent tells the plugin of the node's policies.
//!
//! The agent writes `agent/bridges.json` in its state directory before it acts on a policy, and removes it with the policy:
//! `{"version": 1, "policy": "octavia.yaml", "bridges": {"octbr": ["enp6s0.24"]}, "links": ["enp6s0", "enp6s0.24", "octbr"],
//! "vlans": {"enp6s0.24": "enp6s0"}}`: each bridge with its uplinks, the names of all links that the policy speaks of, and what its
//! VLANs stand on. A bridge of such a name, made for a pod before the NIC or the VLAN is there, would stand in the policy's way. An
//! older agent says nothing of links and VLANs. Bridges of policies that the agent could not bring about are there, too, and
//! `not_in_force` says why: a pod on a bridge without its uplink would be attached to an island.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;

use octavia_bridge_ipam::state_file;
use serde::Deserialize;

use crate::protocol::{Code, Error};

/// The only layout of the file so far.
const VERSION: u64 = 1;
/// Of the file, in bytes. The names of a thousand interfaces with their ports have a tenth of it.
const LONGEST: u64 = 8 << 20;

#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(Default))]
pub(super) struct Document {
    pub(super) policy: String,
    pub(super) bridges: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub(super) links: BTreeSet<String>,
    /// What the policy's VLANs stand on. An older agent says nothing of it.
    pub(super) vlans: Option<BTreeMap<String, String>>,
    /// From which of several policies each bridge is.
    #[serde(default)]
    pub(super) origins: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) not_in_force: Vec<NotInForce>,
}

/// A policy that the agent could not bring about.
#[derive(Debug, Deserialize)]
pub(super) struct NotInForce {
    pub(super) policy: String,
    pub(super) why: String,
    pub(super) bridges: BTreeMap<String, Vec<String>>,
}

/// Reads the file; `None` if there is none. What it says must not be guessed: without a policy's word this plugin would
/// make the bridge.
///
/// # Errors
/// Code 11 for a file that cannot be read.
pub(super) fn read(path: &Path) -> Result<Option<Document>, Error> {
    let unusable = |why: String| {
        Error::new(
            Code::TryAgainLater,
            format!("cannot read which bridges the node's policy names: {}: {why}", path.display()),
        )
        .with_details("octavia-bridge-agent rewrites the file when it starts")
    };
    let text = match state_file::read(path, LONGEST) {
        Ok(text) => text,
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(unusable(cause.to_string())),
    };
    let value: serde_json::Value =
        serde_json::from_slice(&text).map_err(|cause| unusable(cause.to_string()))?;
    match value["version"].as_u64() {
        Some(VERSION) => {}
        Some(other) => {
            return Err(unusable(format!(
                "version {other}, and this plugin knows {VERSION}; install the plugin that came with the agent"
            )));
        }
        None => return Err(unusable("no version".into())),
    }
    serde_json::from_value(value).map(Some).map_err(|cause| unusable(cause.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_understood_is_refused_and_a_missing_file_is_no_policy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bridges.json");
        assert!(read(&path).unwrap().is_none());
        for (text, why) in [
            ("", "EOF"),
            (r#"{"version":1,"policy":"p","bri"#, "EOF"),
            (r#"{"policy":"p","bridges":{}}"#, "no version"),
            (r#"{"version":2,"policy":"p","bridges":{}}"#, "version 2, and this plugin knows 1"),
            (r#"{"version":1,"policy":"p"}"#, "missing field `bridges`"),
            (r#"{"version":1,"policy":"p","bridges":{"octbr":"enp6s0"}}"#, "expected a sequence"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = read(&path).unwrap_err();
            assert_eq!(error.code, Code::TryAgainLater);
            assert!(error.msg.contains(why) && error.msg.contains("bridges.json"), "{text}: {error}");
        }
        // A later agent may add keys within the same version.
        let text = r#"{"version":1,"policy":"p","more":1,"bridges":{"octbr":["enp6s0.24"]}}"#;
        std::fs::write(&path, text).unwrap();
        let document = read(&path).unwrap().unwrap();
        assert_eq!(document.bridges["octbr"], ["enp6s0.24"]);
        assert!(document.links.is_empty(), "of an older agent");
    }
}
