//! What `daemonset/rbac` has an administrator install.

use std::fs;
use std::path::Path;

use serde_json::Value;

/// Its objects, in the order of its kustomization.
///
/// # Panics
/// When a file is missing or is no manifest.
pub fn shipped_rights() -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../daemonset/rbac");
    let documents = |name: &str| -> Vec<Value> {
        let file = folder.join(name);
        let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("read {}: {e}", file.display()));
        serde_saphyr::from_multiple(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
    };
    let kustomization = documents("kustomization.yaml").remove(0);
    let files = kustomization["resources"].as_array().expect("a kustomization lists its resources");
    files.iter().flat_map(|file| documents(file.as_str().expect("a file's name"))).collect()
}
