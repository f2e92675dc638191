//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, Args, Parser, Subcommand};

use crate::desired::{Choice, Label};
use crate::health::{Bind, Question};
use crate::install::AlsoAs;

/// Longest time that can be asked for, in seconds: a year. What is added to a moment must not be more than a clock holds.
const LONGEST: u64 = 31_536_000;
/// Apart from a verb's own options.
const GLOBAL: &str = "Global options";

/// Configure a node's VLAN interfaces and bridges from nmstate YAML, and keep them so.
///
/// Exit status: 0 success, 1 failure, 2 wrong usage or input, 3 the node differs from the desired state (plan --check).
#[derive(Debug, Parser)]
#[command(name = "octavia-bridge-agent", version)]
pub(crate) struct Cli {
    /// Directory of the kept desired state, its journal and the plugin's records.
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "DIR", default_value = "/var/lib/octavia-bridge")]
    pub(crate) state_dir: PathBuf,
    /// Lock file of kubernetes-nmstate's handler; the agent changes nothing while the handler holds it.
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        value_name = "FILE",
        default_value = "/var/k8s_nmstate/handler_lock"
    )]
    pub(crate) nmstate_lock: PathBuf,
    /// Writable sysctl directory; in a container, the mount point of the host's /proc/sys.
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "DIR", default_value = "/proc/sys")]
    pub(crate) proc_sys: PathBuf,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Print the steps and change nothing.
    Plan {
        #[command(flatten)]
        input: Input,
        /// Print machine-readable JSON.
        #[arg(long)]
        json: bool,
        /// Exit with status 3 if the node differs from the desired state.
        #[arg(long)]
        check: bool,
    },
    /// Apply the desired state and remember it across reboots.
    Apply {
        #[command(flatten)]
        input: Input,
        #[command(flatten)]
        safety: Safety,
    },
    /// Print the node's current state as nmstate YAML.
    Show {
        /// Print machine-readable JSON.
        #[arg(long)]
        json: bool,
    },
    /// Delete every link and route that the agent created, and forget the kept desired state.
    Remove {
        #[command(flatten)]
        safety: Safety,
    },
    /// Install the plugin for the container runtime, a systemd unit, or a NetworkManager configuration file.
    Install {
        #[command(flatten)]
        places: Places,
        #[command(flatten)]
        plugin: Plugin,
    },
    /// Remove what install created; keep links, pods' addresses and the kept state.
    Uninstall {
        #[command(flatten)]
        places: Places,
        /// Remove the state directory, too; fails while a pod, a pending release or a policy needs it.
        #[arg(long, group = "whom")]
        state: bool,
    },
    /// Diagnose this node, print remedies and change nothing; exit with status 1 if a check fails.
    Doctor(Doctor),
    /// List address allocations and their pods, leaked ones included.
    Pools(Pools),
    /// Query the agent running on this node; exit with status 1 if the probe fails or the agent does not answer.
    Health {
        /// Probe to run.
        #[arg(value_enum)]
        question: Question,
        #[command(flatten)]
        place: HealthSocket,
    },
    /// Apply the desired state and keep it until SIGTERM; links remain afterwards.
    Run {
        #[command(flatten)]
        input: Input,
        #[command(flatten)]
        safety: Safety,
        /// Seconds between two full checks of the node; the agent repairs changes at once besides.
        #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=LONGEST))]
        interval: u64,
        #[command(flatten)]
        cluster: Cluster,
        /// The container runtime's plugin directory, such as /opt/cni/bin; install the plugin there and keep it
        /// installed [default: do not install]
        #[arg(long, value_name = "DIR", env = "CNI_BIN_DIR", help_heading = "Plugin")]
        cni_bin_dir: Option<PathBuf>,
        #[command(flatten)]
        plugin: Plugin,
        #[command(flatten)]
        told: Told,
    },
}

/// Where `run` tells how it is.
#[derive(Debug, Args)]
#[command(next_help_heading = "Health")]
pub(crate) struct Told {
    /// Listen address for HTTP requests to /healthz, /readyz and /metrics, or "none"; the kubelet's probes run `health`
    /// instead.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:29808")]
    pub(crate) health_bind: Bind,
    #[command(flatten)]
    pub(crate) place: HealthSocket,
}

/// Where `health` asks.
#[derive(Debug, Args)]
pub(crate) struct HealthSocket {
    /// Unix socket on which `run` answers `health`; its directory must belong to the agent alone.
    #[arg(
        long,
        value_name = "FILE",
        env = "HEALTH_SOCKET",
        default_value = "/run/octavia-bridge/health.sock"
    )]
    pub(crate) health_socket: PathBuf,
}

/// The desired state, and what of it to take.
#[derive(Clone, Debug, Args)]
pub(crate) struct Input {
    /// File with nmstate states or policies, or - for standard input; repeatable [default: the state applied last]
    #[arg(short, long = "file", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Label of this node, matched against the policies' nodeSelector; repeatable.
    #[arg(long = "node-label", value_name = "KEY=VALUE")]
    labels: Vec<Label>,
    /// Apply all policies in the files and ignore their nodeSelector.
    #[arg(long)]
    all_policies: bool,
    /// Skip interfaces and routes with unsupported keys; default: refuse the whole state.
    #[arg(long)]
    ours_only: bool,
}

impl Input {
    pub(crate) fn choice(&self) -> Choice {
        Choice { labels: self.labels.clone(), all_policies: self.all_policies, ours_only: self.ours_only }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Print machine-readable JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Path of the installed plugin to check, such as /opt/cni/bin/octavia-bridge.
    #[arg(long, value_name = "FILE")]
    pub(crate) plugin: Option<PathBuf>,
    /// Directory of NetworkManager's device state files.
    #[arg(long, value_name = "DIR", default_value = "/run/NetworkManager/devices")]
    pub(crate) network_manager_devices: PathBuf,
}

/// The plugin, and under which names to install it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Plugin")]
pub(crate) struct Plugin {
    /// Plugin to install [default: octavia-bridge beside octavia-bridge-agent]
    #[arg(long = "plugin", value_name = "FILE", env = "PLUGIN_FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Install the plugin under more names, for networks that name another plugin: bridge, whereabouts, or
    /// bridge,whereabouts. Another plugin's file of that name is an error.
    #[arg(long, value_name = "NAME[,NAME]", env = "ALSO_AS", default_value = "", hide_default_value = true)]
    pub(crate) also_as: AlsoAs,
}

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
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=LONGEST))]
    pub(crate) reclaim_grace: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Pools {
    #[command(subcommand)]
    pub(crate) act: Option<PoolsAct>,
    #[command(flatten)]
    pub(crate) place: PoolsPlace,
    /// List the file store's pools in this directory (the plugin's dataDir) [default: the cluster's pools]
    #[arg(long, value_name = "DIR", conflicts_with = "kubeconfig")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Print machine-readable JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where the cluster's pools are.
#[derive(Debug, Args)]
pub(crate) struct PoolsPlace {
    /// Path to a kubeconfig [default: the pod's service account]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Namespace of the `IPPool` objects.
    #[arg(
        long,
        global = true,
        value_name = "NAMESPACE",
        env = "WHEREABOUTS_NAMESPACE",
        default_value = "kube-system"
    )]
    pub(crate) pool_namespace: String,
    /// Node whose leaked addresses repair may free in place of that node's agent.
    #[arg(long, global = true, value_name = "NAME", env = "NODE_NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) node_name: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PoolsAct {
    /// Free the leaked addresses of deleted pods, by the same checks as the agents.
    Repair {
        /// Print what repair would free, and change nothing.
        #[arg(long)]
        dry_run: bool,
        /// Seconds between the two checks that repair makes before it frees an address.
        #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=LONGEST))]
        reclaim_grace: u64,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Safety {
    /// TCP endpoint that must still answer after a change that could disconnect the node; repeatable [default: the
    /// default gateways]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) reach: Vec<SocketAddr>,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("whom").args(["cni_bin_dir", "systemd", "network_manager"]).required(true).multiple(true))]
pub(crate) struct Places {
    /// The container runtime's plugin directory, such as /opt/cni/bin.
    #[arg(long, value_name = "DIR")]
    pub(crate) cni_bin_dir: Option<PathBuf>,
    /// The systemd unit that applies the kept state at boot, before kubelet starts.
    #[arg(long)]
    pub(crate) systemd: bool,
    /// The NetworkManager file that marks the kept state's VLAN interfaces, bridges and VRFs as unmanaged; install it again
    /// when the state names others.
    #[arg(long)]
    pub(crate) network_manager: bool,
    /// Directory of systemd units.
    #[arg(long, value_name = "DIR", default_value = "/etc/systemd/system")]
    pub(crate) unit_dir: PathBuf,
    /// Directory of NetworkManager configuration files.
    #[arg(long, value_name = "DIR", default_value = "/etc/NetworkManager/conf.d")]
    pub(crate) network_manager_dir: PathBuf,
}
