//! What reclaim asks of the API server beside the pools: pods, nodes, and one lease.

use std::time::Duration;

use http::Method;
use octavia_bridge_cluster::api::{request, request_with};
use octavia_bridge_cluster::{self as cluster, ApiError, Content, Limit, Why};
use serde_json::Value;

use super::pod::{Pod, PodRef};

/// How long a request may take: no pod waits for these.
const LIMIT: Limit = Limit::of(Duration::from_secs(10));
const JSON: &str = "application/json";

/// A way to the server.
#[derive(Clone)]
pub(crate) struct ReclaimApi(cluster::Api);

impl ReclaimApi {
    pub(crate) fn new(api: cluster::Api) -> Self {
        Self(api)
    }

    /// The pod of this name as it is now; `None` if there is none.
    pub(crate) async fn pod(&self, podref: &PodRef) -> Result<Option<Pod>, ApiError> {
        let request = request(Method::GET, &podref.path());
        let answer = self.0.send("read", format!("pods {podref}"), request, LIMIT, Pod::read).await;
        found("pods", podref.parts().1, answer)
    }

    /// Whether the API knows this node, whose name must be valid.
    pub(crate) async fn has_node(&self, node: &str) -> Result<bool, ApiError> {
        let request = request(Method::GET, &format!("/api/v1/nodes/{node}"));
        let answer = self.0.send("read", format!("nodes {node}"), request, LIMIT, |_| Ok(())).await;
        Ok(found("nodes", node, answer)?.is_some())
    }

    /// The lease as it is now; `None` if there is none.
    pub(super) async fn lease(&self, namespace: &str, name: &str) -> Result<Option<Value>, ApiError> {
        let request = request(Method::GET, &format!("{}/{name}", leases(namespace)));
        let answer =
            self.0.send("read", format!("leases {namespace}/{name}"), request, LIMIT, Value::read).await;
        found("leases.coordination.k8s.io", name, answer)
    }

    /// Replaces a lease, if it is still the version that `lease` names.
    pub(super) async fn update_lease(
        &self,
        namespace: &str,
        name: &str,
        lease: &Value,
    ) -> Result<Value, ApiError> {
        let request =
            request_with(Method::PUT, &format!("{}/{name}", leases(namespace)), JSON, lease.to_string());
        self.0.send("update", format!("leases {namespace}/{name}"), request, LIMIT, Value::read).await
    }
}

fn leases(namespace: &str) -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases")
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
