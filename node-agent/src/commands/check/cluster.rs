//! The cluster's definitions, policies, nodes and predictable addresses.

use std::path::Path;
use std::time::Duration;

use http::Method;
use octavia_bridge_cluster::api::request;
use octavia_bridge_cluster::{Api, ApiError, Content, Limit};
use serde_json::{Value, json};

use super::input::{Objects, PREDICTABLE};
use crate::cluster::broker::client;
use crate::commands::list::{DEFINITIONS, list};
use crate::health::{Metrics, Requests};

/// How long a request may take.
const LIMIT: Limit = Limit::of(Duration::from_secs(10));
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
    add(objects, "NetworkAttachmentDefinition", list(&api, DEFINITIONS, "", false).await?);
    let policies = list(&api, POLICIES, "", false).await;
    if let Some(policies) = optional(policies, "bridges of definitions are not compared with policies") {
        add(objects, "NodeNetworkConfigurationPolicy", policies);
    }
    let nodes = optional(list(&api, "/api/v1/nodes", "", true).await, "nodes are not counted");
    objects.nodes = nodes.map(|nodes| nodes.len() as u128);
    for namespace in objects.namespaces() {
        let path = format!("/api/v1/namespaces/{namespace}/configmaps/{PREDICTABLE}");
        let what = format!("configmap {namespace}/{PREDICTABLE}");
        let map = api.send("read", what, request(Method::GET, &path), LIMIT, Value::read).await;
        if let Some(map) = optional(map, "addresses in use since before the range grew are not looked for") {
            objects.add(&map);
        }
    }
    Ok(())
}

/// Adds the items of a list of this kind, which need not say so each.
fn add(objects: &mut Objects, kind: &str, items: Vec<Value>) {
    for mut item in items {
        item["kind"] = json!(kind);
        objects.add(&item);
    }
}

/// The answer, `None` if there is no such object or kind. If it cannot be read, `consequence` is said.
fn optional<T>(answer: Result<T, ApiError>, consequence: &str) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer),
        Err(error) if error.is_absent() => None,
        Err(error) => {
            tracing::warn!("{consequence}: {}", error.in_words());
            None
        }
    }
}
