//! Pods in the few words that are kept of them. The rest, some ten kilobytes each, is skipped while reading.

use std::fmt;

use octavia_bridge_cluster::Content;
use octavia_bridge_ipam::name::is_object_name;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// `namespace/name` of a pod, both of which can stand in a URL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PodRef(String);

impl PodRef {
    /// `None`: no pod can be called so.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let (namespace, name) = text.split_once('/')?;
        (is_object_name(namespace) && is_object_name(name)).then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn parts(&self) -> (&str, &str) {
        self.0.split_once('/').unwrap_or_default()
    }

    pub(super) fn path(&self) -> String {
        let (namespace, name) = self.parts();
        format!("/api/v1/namespaces/{namespace}/pods/{name}")
    }
}

impl fmt::Display for PodRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A pod, as far as it matters whether it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) podref: String,
    pub(crate) uid: Box<str>,
    /// Where it runs; empty before that is decided.
    pub(crate) node: Box<str>,
    /// The phase that it never leaves: `Succeeded` or `Failed`.
    pub(crate) ended: Option<Box<str>>,
    /// The API's image of a pod that kubelet has from a file. That pod's own uid, which plugins are told, is another one.
    pub(crate) mirror: bool,
}

#[derive(Deserialize)]
struct RawPod {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Metadata {
    namespace: String,
    name: String,
    uid: String,
    annotations: Option<Annotations>,
}

#[derive(Deserialize)]
struct Annotations {
    #[serde(rename = "kubernetes.io/config.mirror")]
    mirror: Option<IgnoredAny>,
}

#[derive(Deserialize, Default)]
struct Status {
    #[serde(default)]
    phase: String,
}

impl Content for Pod {
    fn read(text: &str) -> serde_json::Result<Self> {
        let RawPod { metadata: Metadata { namespace, name, uid, annotations }, spec, status } =
            serde_json::from_str(text)?;
        let ended = matches!(status.phase.as_str(), "Succeeded" | "Failed");
        Ok(Self {
            podref: format!("{namespace}/{name}"),
            uid: uid.into(),
            node: spec.node_name.into(),
            ended: ended.then(|| status.phase.into()),
            mirror: annotations.is_some_and(|annotations| annotations.mirror.is_some()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(text: &str) -> Pod {
        Pod::read(text).unwrap()
    }

    #[test]
    fn of_a_pod_is_kept_what_tells_whether_it_lives() {
        let text = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"n","uid":"u",
            "resourceVersion":"7","annotations":{"x":"y"}},"spec":{"nodeName":"w"},"status":{"phase":"Running"}}"#;
        let (podref, uid, node) = ("n/a".into(), "u".into(), "w".into());
        let running = Pod { podref, uid, node, ended: None, mirror: false };
        assert_eq!(pod(text), running);
        let ended = pod(&text.replace("Running", "Failed"));
        assert_eq!(ended.ended.as_deref(), Some("Failed"));
        assert!(pod(&text.replace(r#""x""#, r#""kubernetes.io/config.mirror""#)).mirror);
        let created = Pod { node: "".into(), ..running };
        assert_eq!(pod(r#"{"metadata":{"name":"a","namespace":"n","uid":"u"}}"#), created);
    }

    #[test]
    fn a_pod_that_no_url_can_name_is_none() {
        assert!(PodRef::new("openstack/octavia-worker-0").is_some());
        for text in ["", "a", "a/", "/b", "a/b/c", "../../nodes", "a/b?x=y", "A/b"] {
            assert_eq!(PodRef::new(text), None, "{text}");
        }
    }
}
