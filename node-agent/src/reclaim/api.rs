//! What reclaim asks of the API server beside the pools: pods, nodes, and one lease.

use std::sync::Arc;
use std::time::Duration;

use futures_util::AsyncBufRead;
use kube::Client;
use kube::client::Body;
use octavia_bridge_ipam::kubernetes::{ApiError, Why, ask};
use serde_json::Value;
use tokio::time::timeout;

use super::pod::{Event, Page, Pod, PodRef, RawPod};

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
        // The server makes `next` of URL-safe base64.
        let next = if next.is_empty() { String::new() } else { format!("&continue={next}") };
        let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{node}&limit={PAGE}{next}");
        self.send("list", of_node(node), get(path), Page::read).await
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
}
