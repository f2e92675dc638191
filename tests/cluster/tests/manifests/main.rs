//! What `daemonset/` has administrators apply: it builds, a server takes it as it is written, and it fits the agent.

mod applying;
mod building;
mod checking;
mod monitoring;
mod pods;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use octavia_bridge_cluster_tests::{daemonset, kustomize};
use serde_json::Value;

/// What stands in `base` where an overlay's setting goes.
const PLACEHOLDER: &str = "from-settings";

/// Every folder below `daemonset/` whose kustomization is for use by itself.
fn kustomizations() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![daemonset()];
    while let Some(folder) = folders.pop() {
        let file = folder.join("kustomization.yaml");
        let is_component = || document(&file)["kind"] == "Component";
        if file.is_file() && folder != daemonset().join("base") && !is_component() {
            found.push(folder.clone());
        }
        let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("read {}: {e}", folder.display()));
        folders.extend(entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir()));
    }
    assert!(found.len() > 10, "{found:?}");
    found.sort();
    found
}

/// Those that have the agent's pods, each with its name in `daemonset/` and its `DaemonSet`.
fn with_pods() -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for folder in kustomizations() {
        let sets = build(&folder).into_iter().filter(|object| object["kind"] == "DaemonSet");
        found.extend(sets.map(|set| (name(&folder), set)));
    }
    assert!(found.len() >= 10, "{} overlays have the agent", found.len());
    found
}

/// The objects of a kustomization. It is built once.
fn build(folder: &Path) -> Vec<Value> {
    static BUILT: Mutex<BTreeMap<PathBuf, Vec<Value>>> = Mutex::new(BTreeMap::new());
    if let Some(built) = BUILT.lock().expect("nothing panics here").get(folder) {
        return built.clone();
    }
    let objects = kustomize(folder).unwrap_or_else(|e| panic!("{}: {e}", name(folder)));
    assert!(!objects.is_empty(), "{} is empty", name(folder));
    BUILT.lock().expect("nothing panics here").insert(folder.to_owned(), objects.clone());
    objects
}

fn document(file: &Path) -> Value {
    let text = fs::read_to_string(file).unwrap_or_else(|e| panic!("read {}: {e}", file.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

/// A folder's name within `daemonset/`.
fn name(folder: &Path) -> String {
    folder.strip_prefix(daemonset()).unwrap_or(folder).display().to_string()
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("no {pointer} in {value}"))
}
