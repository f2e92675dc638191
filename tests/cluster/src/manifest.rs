//! Manifests as `kubectl apply` takes them.

use serde_json::Value;

use crate::Access;

impl Access {
    /// Makes the objects of a manifest, one or more YAML documents, exist as they are written there.
    ///
    /// # Panics
    /// When the text is no manifest, or the server refuses one.
    #[track_caller]
    pub fn apply(&self, manifest: &str) {
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(manifest).unwrap_or_else(|e| panic!("a manifest: {e}\n{manifest}"));
        for object in documents.iter().filter(|object| !object.is_null()) {
            let path = format!("{}?fieldManager=tests&force=true", self.path_of(object));
            let answer = self.call("APPLY", &path, Some(object));
            assert!(matches!(answer.status, 200 | 201), "apply {path}: {}", answer.body);
        }
    }

    /// Where an object is, by what it says of itself and what the server says of its kind.
    ///
    /// # Panics
    /// When it lacks apiVersion, kind or name, or the server does not know the kind.
    pub fn path_of(&self, object: &Value) -> String {
        let text = |pointer: &str| {
            let value = object.pointer(pointer).and_then(Value::as_str);
            value.unwrap_or_else(|| panic!("no {pointer} in {object}"))
        };
        let (api_version, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
        let root = if api_version.contains('/') { "apis" } else { "api" };
        let group = format!("/{root}/{api_version}");
        let kinds = self.get(&group);
        let described = kinds["resources"].as_array().into_iter().flatten().find(|resource| {
            // Subresources such as pods/status are listed with the kind of their owner.
            resource["kind"] == kind && resource["name"].as_str().is_some_and(|name| !name.contains('/'))
        });
        let described = described.unwrap_or_else(|| panic!("the server knows no {kind} of {api_version}"));
        let plural = described["name"].as_str().unwrap_or_default();
        if described["namespaced"] == true {
            let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str);
            format!("{group}/namespaces/{}/{plural}/{name}", namespace.unwrap_or(self.namespace()))
        } else {
            format!("{group}/{plural}/{name}")
        }
    }
}
