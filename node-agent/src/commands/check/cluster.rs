//! The cluster's definitions, policies, nodes and predictable addresses.

use std::path::Path;
use std::time::Duration;

use http::Method;
use http::header::ACCEPT;
use octavia_bridge_cluster::api::{METADATA_LIST, request};
use octavia_bridge_cluster::{Api, ApiError, Limit};
use serde_json::{Value, json};

use super::input::{Objects, PREDICTABLE};
use crate::cluster::broker::client;
use crate::health::{Metrics, Requests};

/// How long a request may take.
const LIMIT: Limit = Limit::of(Duration::from_secs(10));
const DEFINITIONS: &str = "/apis/k8s.cni.cncf.io/v1/network-attachment-definitions";
const POLICIES: &str = "/apis/nmstate.io/v1/nodenetworkconfigurationpolicies";

/// Reads them into `objects`. What only refines the review may be unreadable; a warning says so.
///
/// # Errors
/// The definitions cannot be read.
pub(super) async fn read(kubeconfig: Option<&Path>, objects: &mut Objects) -> anyhow::Result<()> {
    let (config, server) = client::configuration(kubeconfig).await?;
    let client = client::connect(&config, &Requests::new(&Metrics::default(), &server))?;
    let api = Api::new(client, &server);
    objects.is_of_cluster = true;
    let definitions = get(&api, "list", "network-attachment-definitions", DEFINITIONS).await?;
    add_items(objects, "NetworkAttachmentDefinition", &definitions);
    let policies = get(&api, "list", "nodenetworkconfigurationpolicies", POLICIES).await;
    if let Some(policies) = optional(policies, "bridges of definitions are not compared with policies") {
        add_items(objects, "NodeNetworkConfigurationPolicy", &policies);
    }
    let nodes = optional(get(&api, "list", "nodes", "/api/v1/nodes").await, "nodes are not counted");
    objects.nodes = nodes.and_then(|nodes| nodes["items"].as_array().map(|items| items.len() as u128));
    for namespace in objects.namespaces() {
        let path = format!("/api/v1/namespaces/{namespace}/configmaps/{PREDICTABLE}");
        let map = get(&api, "read", &format!("configmap {namespace}/{PREDICTABLE}"), &path).await;
        if let Some(map) = optional(map, "addresses in use since before the range grew are not looked for") {
            objects.add(&map);
        }
    }
    Ok(())
}

async fn get(api: &Api, attempt: &'static str, object: &str, path: &str) -> Result<Value, ApiError> {
    let mut request = request(Method::GET, path);
    if object == "nodes" {
        request.headers_mut().insert(ACCEPT, METADATA_LIST);
    }
    api.send(attempt, object, request, LIMIT, |text| serde_json::from_str(text)).await
}

/// The items of a list of this kind, which need not say so each.
fn add_items(objects: &mut Objects, kind: &str, list: &Value) {
    for item in list["items"].as_array().into_iter().flatten() {
        let mut item = item.clone();
        item["kind"] = json!(kind);
        objects.add(&item);
    }
}

/// The answer, `None` if there is no such object or kind. If it cannot be read, `consequence` is said.
fn optional(answer: Result<Value, ApiError>, consequence: &str) -> Option<Value> {
    match answer {
        Ok(answer) => Some(answer),
        Err(error) if error.is_absent() => None,
        Err(error) => {
            tracing::warn!("{consequence}: {}", error.in_words());
            None
        }
    }
}
