//! What reclaim asks of the API server beside the pools: pods, nodes, and one lease.
//!
//! Pods are read whole and kept in a few words: the rest of them, some ten kilobytes each, is skipped while reading.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::AsyncBufRead;
use kube::Client;
use kube::client::Body;
use octavia_bridge_ipam::kubernetes::{ApiError, Why, ask};
use octavia_bridge_ipam::name::is_object_name;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::time::timeout;

/// How long a request may take: nobody waits for these.
const REQUEST: Duration = Duration::from_secs(10);
/// A server ends a watch after this long by itself, so that no connection is used for ever.
const WATCH_SECONDS: u64 = 290;
/// Pods in one page. Each is some ten kilobytes on the way.
const PAGE: usize = 25;

/// A way to the server.
#[derive(Clone)]
pub(crate) struct Api {
    client: Client,
    server: Arc<str>,
}

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

    fn parts(&self) -> (&str, &str) {
        self.0.split_once('/').unwrap_or_default()
    }

    fn path(&self) -> String {
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
    /// The phase that it never leaves: `Succeeded` or `Failed`.
    pub(crate) ended: Option<Box<str>>,
    /// The API's image of a pod that kubelet has from a file. That pod's own uid, which plugins are told, is another one.
    pub(crate) mirror: bool,
}

/// One line of a watch.
pub(crate) enum Event {
    Put(Pod, String),
    Deleted(Pod, String),
    Bookmark(String),
    /// Nothing more comes; HTTP status and reason.
    Failed(u16, String),
}

/// One page of this node's pods, from which version to watch, and where the next page begins.
pub(crate) struct Page {
    pub(crate) pods: Vec<Pod>,
    pub(crate) version: String,
    pub(crate) next: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawPod {
    metadata: Metadata,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Metadata {
    namespace: String,
    name: String,
    uid: String,
    resource_version: String,
    #[serde(rename = "continue")]
    next: String,
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

impl RawPod {
    fn pod(self) -> (Pod, String) {
        let Metadata { namespace, name, uid, resource_version, annotations, .. } = self.metadata;
        let ended = matches!(self.status.phase.as_str(), "Succeeded" | "Failed");
        let pod = Pod {
            podref: format!("{namespace}/{name}"),
            uid: uid.into(),
            ended: ended.then(|| self.status.phase.into()),
            mirror: annotations.is_some_and(|annotations| annotations.mirror.is_some()),
        };
        (pod, resource_version)
    }
}

impl Event {
    fn read(line: &str) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Line<'a> {
            #[serde(rename = "type")]
            kind: &'a str,
            #[serde(borrow)]
            object: &'a serde_json::value::RawValue,
        }
        #[derive(Deserialize)]
        struct Mark {
            metadata: Metadata,
        }
        #[derive(Deserialize)]
        struct Refusal {
            code: u16,
            #[serde(default)]
            message: String,
        }
        let Line { kind, object } = serde_json::from_str(line)?;
        let object = object.get();
        Ok(match kind {
            "BOOKMARK" => Self::Bookmark(serde_json::from_str::<Mark>(object)?.metadata.resource_version),
            "ERROR" => {
                let Refusal { code, message } = serde_json::from_str(object)?;
                Self::Failed(code, message)
            }
            _ => {
                let (pod, version) = serde_json::from_str::<RawPod>(object)?.pod();
                if kind == "DELETED" { Self::Deleted(pod, version) } else { Self::Put(pod, version) }
            }
        })
    }
}

impl Api {
    /// `server` is its URL, for messages.
    pub(crate) fn new(client: Client, server: &str) -> Self {
        Self { client, server: server.into() }
    }

    /// The pod of this name as it is now; `None` if there is none.
    pub(crate) async fn pod(&self, podref: &PodRef) -> Result<Option<Pod>, ApiError> {
        let read = |text: &str| Ok(serde_json::from_str::<RawPod>(text)?.pod().0);
        let answer = self.send("read", format!("pods {podref}"), get(podref.path()), read).await;
        found("pods", podref.parts().1, answer)
    }

    /// Whether the API knows this node, whose name must be valid.
    pub(crate) async fn has_node(&self, node: &str) -> Result<bool, ApiError> {
        let path = format!("/api/v1/nodes/{node}");
        let answer = self.send("read", format!("nodes {node}"), get(path), |_| Ok(())).await;
        Ok(found("nodes", node, answer)?.is_some())
    }

    /// One page of a node's pods; `next` is empty for the first.
    pub(super) async fn pods(&self, node: &str, next: &str) -> Result<Page, ApiError> {
        #[derive(Deserialize)]
        struct List {
            metadata: Metadata,
            items: Vec<RawPod>,
        }
        // The server makes `next` of URL-safe base64.
        let next = if next.is_empty() { String::new() } else { format!("&continue={next}") };
        let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{node}&limit={PAGE}{next}");
        let read = |text: &str| {
            let List { metadata, items } = serde_json::from_str(text)?;
            let pods = items.into_iter().map(|item| item.pod().0).collect();
            Ok(Page { pods, version: metadata.resource_version, next: metadata.next })
        };
        self.send("list", of_node(node), get(path), read).await
    }

    /// What changes among a node's pods after `version`, a line each, see [`Self::event`].
    pub(super) async fn watch(
        &self,
        node: &str,
        version: &str,
    ) -> Result<impl AsyncBufRead + use<>, ApiError> {
        let path = format!(
            "/api/v1/pods?fieldSelector=spec.nodeName%3D{node}&watch=1&allowWatchBookmarks=true\
             &timeoutSeconds={WATCH_SECONDS}&resourceVersion={version}"
        );
        let request = get(path).map(|_| Vec::new());
        let opened = timeout(REQUEST, self.client.request_stream(request)).await;
        let opened = opened.map_err(|_| Why::Silent(REQUEST)).and_then(|opened| opened.map_err(Why::from));
        opened.map_err(|why| self.failed("watch", of_node(node), why))
    }

    /// Understands a line of a watch.
    pub(super) fn event(&self, node: &str, line: &[u8]) -> Result<Event, ApiError> {
        let text = std::str::from_utf8(line).map_err(serde::de::Error::custom);
        text.and_then(Event::read)
            .map_err(|error| self.failed("watch", of_node(node), Why::Unreadable(error)))
    }

    /// A watch that cannot go on.
    pub(super) fn watch_failed(&self, node: &str, why: Why) -> ApiError {
        self.failed("watch", of_node(node), why)
    }

    /// The lease as it is now; `None` if there is none.
    pub(super) async fn lease(&self, namespace: &str, name: &str) -> Result<Option<Value>, ApiError> {
        let request = get(format!("{}/{name}", leases(namespace)));
        let answer = self.send("read", format!("leases {namespace}/{name}"), request, value).await;
        found("leases.coordination.k8s.io", name, answer)
    }

    /// Makes a lease, whose name must be new.
    pub(super) async fn create_lease(
        &self,
        namespace: &str,
        name: &str,
        lease: &Value,
    ) -> Result<Value, ApiError> {
        let request = json(http::Method::POST, leases(namespace), lease);
        self.send("create", format!("leases {namespace}/{name}"), request, value).await
    }

    /// Replaces a lease, if it is still the version that `lease` names.
    pub(super) async fn update_lease(
        &self,
        namespace: &str,
        name: &str,
        lease: &Value,
    ) -> Result<Value, ApiError> {
        let request = json(http::Method::PUT, format!("{}/{name}", leases(namespace)), lease);
        self.send("update", format!("leases {namespace}/{name}"), request, value).await
    }

    async fn send<R>(
        &self,
        attempt: &'static str,
        object: String,
        request: http::Request<Body>,
        read: impl FnOnce(&str) -> serde_json::Result<R>,
    ) -> Result<R, ApiError> {
        ask(&self.client, request, REQUEST, read).await.map_err(|why| self.failed(attempt, object, why))
    }

    fn failed(&self, attempt: &'static str, object: String, why: Why) -> ApiError {
        ApiError { attempt, object, server: self.server.clone(), why }
    }
}

fn of_node(node: &str) -> String {
    format!("pods of node {node}")
}

fn leases(namespace: &str) -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases")
}

fn get(path: String) -> http::Request<Body> {
    let request = http::Request::get(path).body(Body::empty());
    request.expect("names of objects are valid in a URL")
}

fn json(method: http::Method, path: String, body: &Value) -> http::Request<Body> {
    let request = http::Request::builder().method(method).uri(path);
    let request = request.header(http::header::CONTENT_TYPE, "application/json");
    request.body(body.to_string().into_bytes().into()).expect("names of objects are valid in a URL")
}

/// A document that is sent back with what was not understood of it.
fn value(text: &str) -> serde_json::Result<Value> {
    serde_json::from_str(text)
}

/// An object that does not exist is `None`, if it is the API that says so: of that very object. A load balancer or a proxy
/// on the way may answer 404 to everything, and that would be the end of every pod.
fn found<R>(resource: &str, name: &str, answer: Result<R, ApiError>) -> Result<Option<R>, ApiError> {
    match answer {
        Ok(object) => Ok(Some(object)),
        Err(error) if is_missing(&error.why, resource, name) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_missing(why: &Why, resource: &str, name: &str) -> bool {
    match why {
        Why::Refused { code: 404, message, .. } => *message == format!("{resource} \"{name}\" not found"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(text: &str) -> Pod {
        serde_json::from_str::<RawPod>(text).unwrap().pod().0
    }

    #[test]
    fn of_a_pod_is_kept_what_tells_whether_it_lives() {
        let text = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"n","uid":"u",
            "resourceVersion":"7","annotations":{"x":"y"}},"spec":{"nodeName":"w"},"status":{"phase":"Running"}}"#;
        let running = Pod { podref: "n/a".into(), uid: "u".into(), ended: None, mirror: false };
        assert_eq!(pod(text), running);
        let ended = pod(&text.replace("Running", "Failed"));
        assert_eq!(ended.ended.as_deref(), Some("Failed"));
        assert!(pod(&text.replace(r#""x""#, r#""kubernetes.io/config.mirror""#)).mirror);
        // Just created.
        assert_eq!(pod(r#"{"metadata":{"name":"a","namespace":"n","uid":"u"}}"#), running);
    }

    #[test]
    fn only_the_api_itself_says_that_something_does_not_exist() {
        let refused = |code, message: &str| Why::Refused { code, message: message.into(), retry_after: None };
        assert!(is_missing(&refused(404, "pods \"a\" not found"), "pods", "a"));
        for other in [
            refused(404, "404 page not found"),
            refused(404, ""),
            refused(404, "pods \"b\" not found"),
            refused(404, "the server could not find the requested resource"),
            refused(403, "pods \"a\" not found"),
        ] {
            assert!(!is_missing(&other, "pods", "a"), "{other}");
        }
    }

    #[test]
    fn a_pod_that_no_url_can_name_is_none() {
        assert!(PodRef::new("openstack/octavia-worker-0").is_some());
        for text in ["", "a", "a/", "/b", "a/b/c", "../../nodes", "a/b?x=y", "A/b"] {
            assert_eq!(PodRef::new(text), None, "{text}");
        }
    }
}
