//! Everything a node and its pods hold, as sorted lines that can be compared.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use serde_json::Value;

use crate::{Namespace, Node, Pod};

/// Switches the plugin may touch besides links: what a pod with IPv6 switched off needs, and forwarding.
const SYSCTLS: [&str; 5] = [
    "ipv4/ip_forward",
    "ipv6/conf/all/forwarding",
    "ipv6/conf/all/disable_ipv6",
    "ipv6/conf/default/disable_ipv6",
    "ipv6/conf/lo/disable_ipv6",
];

/// A node's namespace, some pods' namespaces and the plugin's files at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    lines: BTreeSet<String>,
}

impl Snapshot {
    pub(crate) fn take(node: &Node, pods: &[&Pod]) -> Self {
        let mut lines = BTreeSet::new();
        namespace_lines("node", node, &mut lines);
        for pod in pods {
            namespace_lines(pod.container_id(), pod, &mut lines);
        }
        file_lines(&node.data_dir(), Path::new(""), &mut lines);
        file_lines(node.run_dir(), Path::new(""), &mut lines);
        Self { lines }
    }

    /// Asserts that nothing was left behind and nothing is missing.
    #[track_caller]
    pub fn assert_same_as(&self, before: &Self) {
        let difference = self.difference_from(before);
        assert!(difference.is_empty(), "differs from before:\n{}", difference.join("\n"));
    }

    /// Lines that are new, with `+`, and lines that are missing, with `-`.
    pub fn difference_from(&self, before: &Self) -> Vec<String> {
        let added = self.lines.difference(&before.lines).map(|line| format!("+ {line}"));
        let missing = before.lines.difference(&self.lines).map(|line| format!("- {line}"));
        added.chain(missing).collect()
    }
}

fn namespace_lines(owner: &str, namespace: &Namespace, lines: &mut BTreeSet<String>) {
    for link in namespace.links() {
        lines.insert(format!("{owner}: {}", link.line()));
        for address in link.addresses() {
            lines.insert(format!("{owner}: address {address} on {}", link.name()));
        }
    }
    for route in namespace.routes() {
        lines.insert(format!("{owner}: {}", route.line()));
    }
    for key in SYSCTLS {
        let value = namespace.sysctl(key).unwrap_or_default();
        lines.insert(format!("{owner}: sysctl {key} = {value}"));
    }
}

/// Files below `root` that mean something. Locks and empty folders mean nothing, nor does a pool without allocations, or the word that
/// nothing is left to move from disk.
fn file_lines(root: &Path, below: &Path, lines: &mut BTreeSet<String>) {
    let folder = root.join(below);
    let Ok(entries) = fs::read_dir(&folder) else { return };
    for entry in entries {
        let entry = entry.unwrap_or_else(|e| panic!("list {}: {e}", folder.display()));
        let path = below.join(entry.file_name());
        let kind = entry.file_type().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        if kind.is_dir() {
            file_lines(root, &path, lines);
            continue;
        }
        // An agent's sockets are no files that a plugin leaves.
        if entry.file_name().to_string_lossy().ends_with(".lock")
            || path.ends_with(".lock/moved")
            || kind.is_socket()
        {
            continue;
        }
        let bytes = fs::read(entry.path()).unwrap_or_else(|e| panic!("read {}: {e}", path.display()));
        let text = String::from_utf8_lossy(&bytes).into_owned();
        match serde_json::from_str::<Value>(&text) {
            Ok(document) if document["kind"] == "IPPool" => {
                let allocations = &document["spec"]["allocations"];
                for (offset, holder) in allocations.as_object().into_iter().flatten() {
                    lines.insert(format!("file {}: {offset} held by {holder}", path.display()));
                }
            }
            _ => {
                lines.insert(format!("file {}: {text:?}", path.display()));
            }
        }
    }
}
