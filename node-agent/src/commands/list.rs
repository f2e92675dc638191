//! Lists of the API server.

use std::time::Duration;

use http::Method;
use http::header::ACCEPT;
use octavia_bridge_cluster::api::{METADATA_LIST, request};
use octavia_bridge_cluster::{Api, ApiError, Content, Limit};
use serde_json::Value;

/// Of each page.
const LIMIT: Limit = Limit::of(Duration::from_secs(20));
/// Objects asked for at a time: a node's state is a few kilobytes.
const PAGE: usize = 500;
/// `NetworkAttachmentDefinition` objects of all namespaces.
pub(super) const DEFINITIONS: &str = "/apis/k8s.cni.cncf.io/v1/network-attachment-definitions";

/// All objects of a collection; none if the server has no such kind.
///
/// # Errors
/// The server's.
pub(super) async fn list(
    api: &Api,
    path: &str,
    selection: &str,
    metadata: bool,
) -> Result<Vec<Value>, ApiError> {
    let what = path.rsplit('/').next().unwrap_or(path);
    let mut all = Vec::new();
    let mut next = String::new();
    loop {
        let mut request = request(Method::GET, &format!("{path}?limit={PAGE}&{selection}{next}"));
        if metadata {
            request.headers_mut().insert(ACCEPT, METADATA_LIST);
        }
        let mut page: Value = match api.send("list", what, request, LIMIT, Value::read).await {
            Err(error) if error.is_absent() => return Ok(all),
            page => page?,
        };
        if let Value::Array(items) = page["items"].take() {
            all.extend(items);
        }
        match page["metadata"]["continue"].as_str() {
            Some(token) if !token.is_empty() => next = format!("&continue={token}"),
            _ => return Ok(all),
        }
    }
}
