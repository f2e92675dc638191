//! Reads what the API server has of the agents and their nodes.

use std::path::Path;
use std::time::Duration;

use http::Method;
use http::header::ACCEPT;
use k8s_openapi::jiff::Timestamp;
use octavia_bridge_cluster::api::{METADATA_LIST, request};
use octavia_bridge_cluster::{Api, ApiError, Content, Limit};
use serde_json::Value;

use super::Overview;
use super::judge::Objects;
use crate::cluster::broker::client;
use crate::commands::cli::Status;
use crate::health::{Metrics, Requests};

const LIMIT: Limit = Limit::of(Duration::from_secs(20));
/// Objects asked for at a time: a node's state is a few kilobytes.
const PAGE: usize = 500;
/// The label of the agents' `DaemonSet` and its pods.
const AGENTS: &str = "labelSelector=app.kubernetes.io%2Fname%3Doctavia-bridge-agent";

pub(super) async fn look(kubeconfig: &Path, options: &Status) -> anyhow::Result<Overview> {
    let (config, server) = client::configuration(Some(kubeconfig)).await?;
    let client = client::connect(&config, &Requests::new(&Metrics::default(), &server))?;
    let api = Api::new(client, &server);
    let nmstate = "/apis/nmstate.io/v1beta1";
    let pools =
        format!("/apis/whereabouts.cni.cncf.io/v1alpha1/namespaces/{}/ippools", options.pool_namespace);
    let objects = Objects {
        nodes: list(&api, "/api/v1/nodes", "", true).await?,
        states: list(&api, &format!("{nmstate}/nodenetworkstates"), "", false).await?,
        enactments: list(&api, &format!("{nmstate}/nodenetworkconfigurationenactments"), "", false).await?,
        daemon_sets: list(&api, "/apis/apps/v1/daemonsets", AGENTS, false).await?,
        pods: list(&api, "/api/v1/pods", AGENTS, false).await?,
        pools: list(&api, &pools, "", false).await?,
    };
    let mut overview = objects.judge(Timestamp::now());
    if let Some(name) = &options.node {
        overview.nodes.retain(|row| row.node == *name);
        anyhow::ensure!(!overview.nodes.is_empty(), "{server} has no node {name}");
    }
    Ok(overview)
}

/// All objects of a collection; none if the server has no such kind.
async fn list(api: &Api, path: &str, selection: &str, metadata: bool) -> Result<Vec<Value>, ApiError> {
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
