//! The command line's options for the cluster.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::seconds;

/// The part of `run` that follows the cluster's policies, and serves plugins with addresses of its pools.
#[derive(Debug, Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct Cluster {
    /// Apply the cluster's `NodeNetworkConfigurationPolicy` objects to this node, beside the files, and allocate pods'
    /// addresses in the Kubernetes API.
    #[arg(long)]
    pub(crate) cluster: bool,
    /// Path to a kubeconfig [default: the pod's service account]
    #[arg(long, value_name = "FILE", requires = "cluster")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// This node's name in the Kubernetes API; --cluster requires it.
    #[arg(long, value_name = "NAME", env = "NODE_NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) node_name: Option<String>,
    /// Namespace of the `IPPool` objects.
    #[arg(long, value_name = "NAMESPACE", env = "WHEREABOUTS_NAMESPACE", default_value = "kube-system")]
    pub(crate) pool_namespace: String,
    /// Unix socket on which the agent serves plugins.
    #[arg(long, value_name = "FILE", default_value = "/run/octavia-bridge/agent.sock")]
    pub(crate) socket: PathBuf,
    /// Seconds between the disappearance of a pod and the release of its address.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds::parse)]
    pub(crate) reclaim_grace: Duration,
}
