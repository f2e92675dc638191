//! The custom resources of `daemonset/crds`, as an administrator would install them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, thread};

use serde_json::Value;

use crate::Access;

/// How long a new definition may take until its objects can be written.
const DEADLINE: Duration = Duration::from_secs(60);

/// Installs those that are missing, and waits until all are served.
pub(crate) fn install(admin: &Access) {
    let mut collections = Vec::new();
    for file in files() {
        let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("read {}: {e}", file.display()));
        let definition: Value =
            serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let name = definition["metadata"]["name"]
            .as_str()
            .unwrap_or_else(|| panic!("no name in {}", file.display()));
        let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}");
        // On somebody's own server, whereabouts' or an operator's stays as it is.
        if admin.call("GET", &path, None).status == 404 {
            admin.apply(&text);
        }
        let spec = &definition["spec"];
        for version in spec["versions"].as_array().into_iter().flatten() {
            let words = [&spec["group"], &version["name"], &spec["names"]["plural"]];
            let [group, version, plural] = words.map(|word| word.as_str().unwrap_or_default());
            collections.push(format!("/apis/{group}/{version}/{plural}?limit=1"));
        }
    }
    let started = Instant::now();
    for collection in collections {
        // 404 while the server has not noticed, 429 while it prepares the storage of a new kind.
        while let Some(answer) =
            Some(admin.call("GET", &collection, None)).filter(|answer| answer.status != 200)
        {
            assert!(started.elapsed() < DEADLINE, "{collection} is not served: {}", answer.body);
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The definitions, which lie in a folder for each project that they are of, beside its kustomization.
fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../daemonset/crds");
    let entries = |folder: &Path| -> Vec<PathBuf> {
        let read = fs::read_dir(folder).unwrap_or_else(|e| panic!("read {}: {e}", folder.display()));
        read.map(|entry| entry.expect("read the folder of definitions").path()).collect()
    };
    let projects = entries(&folder).into_iter().filter(|path| path.is_dir());
    let mut files: Vec<PathBuf> = projects.flat_map(|project| entries(&project)).collect();
    files.retain(|file| file.file_name().is_some_and(|name| name != "kustomization.yaml"));
    assert!(!files.is_empty(), "no definitions in {}", folder.display());
    files
}
