//! Reads what the API server has of the agents and their nodes.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use http::Method;
use k8s_openapi::jiff::Timestamp;
use octavia_bridge_cluster::api::request;
use octavia_bridge_cluster::{Api, ApiError, Content, Limit};
use serde_json::Value;

use super::Overview;
use super::judge::Objects;
use crate::cluster::broker::client;
use crate::commands::cli::Status;
use crate::commands::list::list;
use crate::commands::networks;
use crate::health::{Metrics, Requests};

const LIMIT: Limit = Limit::of(Duration::from_secs(20));
/// The agents' `DaemonSet`.
const AGENTS: &str = "fieldSelector=metadata.name%3Doctavia-bridge-agent";
/// The label of its pods. Any pod may have it, so more is asked of them.
const PODS: &str = "labelSelector=app.kubernetes.io%2Fname%3Doctavia-bridge-agent";

pub(super) async fn look(kubeconfig: &Path, options: &Status) -> anyhow::Result<Overview> {
    let (config, server) = client::configuration(Some(kubeconfig)).await?;
    let client = client::connect(&config, &Requests::new(&Metrics::default(), &server))?;
    let api = Api::new(client, &server);
    let nmstate = "/apis/nmstate.io/v1beta1";
    let pools =
        format!("/apis/whereabouts.cni.cncf.io/v1alpha1/namespaces/{}/ippools", options.pool_namespace);
    let namespace = match &options.agent_namespace {
        Some(namespace) => Some(namespace.clone()),
        None => {
            namespace(&api).await.context("find the agents' namespace, which --agent-namespace may name")?
        }
    };
    // Tenants cannot write there. They could name and label their own objects like the agents.
    let (daemon_sets, pods) = match &namespace {
        Some(name) => (
            list(&api, &format!("/apis/apps/v1/namespaces/{name}/daemonsets"), AGENTS, false).await?,
            list(&api, &format!("/api/v1/namespaces/{name}/pods"), PODS, false).await?,
        ),
        None => (Vec::new(), Vec::new()),
    };
    let objects = Objects {
        namespace,
        nodes: list(&api, "/api/v1/nodes", "", true).await?,
        states: list(&api, &format!("{nmstate}/nodenetworkstates"), "", false).await?,
        enactments: list(&api, &format!("{nmstate}/nodenetworkconfigurationenactments"), "", false).await?,
        daemon_sets,
        pods,
        pools: list(&api, &pools, "", false).await?,
        ranges: networks::ranges(&api).await,
    };
    let mut overview = objects.judge(Timestamp::now());
    if let Some(name) = &options.node {
        overview.nodes.retain(|row| row.node == *name);
        anyhow::ensure!(!overview.nodes.is_empty(), "{server} has no node {name}");
    }
    Ok(overview)
}

/// Where the service account lives that has the agents' permissions; `None` if the server has no such binding.
async fn namespace(api: &Api) -> Result<Option<String>, ApiError> {
    let path = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/octavia-bridge-agent";
    let request = request(Method::GET, path);
    let what = "ClusterRoleBinding octavia-bridge-agent";
    let binding: Value = match api.send("get", what, request, LIMIT, Value::read).await {
        Err(error) if error.is_absent() => return Ok(None),
        binding => binding?,
    };
    for subject in binding["subjects"].as_array().into_iter().flatten() {
        if subject["kind"] == "ServiceAccount" && subject["name"] == "octavia-bridge-agent" {
            return Ok(subject["namespace"].as_str().map(str::to_owned));
        }
    }
    Ok(None)
}
