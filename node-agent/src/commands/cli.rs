//! The command line.

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, Args, Parser, Subcommand};

use super::check::Check;
use crate::cluster::Cluster;
use crate::data_dir;
use crate::health::{HealthOptions, HealthSocket, Question};
use crate::log::Format;
use crate::node::apply::Endpoint;
use crate::node::source::Input;
use crate::others;
use crate::plugin::Plugin;
use crate::seconds;

/// Apart from a verb's own options.
const GLOBAL: &str = "Global options";

/// The version, and the commit and the target that `scripts/build` names.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let commit = option_env!("OCTAVIA_BRIDGE_COMMIT").unwrap_or("unknown");
    let here = [std::env::consts::ARCH, std::env::consts::OS].join("-");
    let target = option_env!("OCTAVIA_BRIDGE_TARGET").unwrap_or(&here);
    format!("{} (commit {commit}, {target})", env!("CARGO_PKG_VERSION"))
});

/// Configure a node's VLAN interfaces and bridges from nmstate YAML, and keep them so.
///
/// Exit status: 0 success, 1 failure and the node is as it was before, 2 wrong usage or input, 3 the node differs from the
/// desired state (plan --check) or a network definition is wrong (check), 4 failure and the node is not as it was, the
/// message says how.
#[derive(Debug, Parser)]
#[command(name = "octavia-bridge-agent", version = VERSION.as_str())]
pub(crate) struct Cli {
    // `env`: by it the DaemonSet tells the directory to commands that `kubectl exec` starts.
    /// Directory of the kept desired state and the plugin's records.
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        value_name = "DIR",
        env = "STATE_DIR",
        default_value = crate::node::state::DEFAULT,
        value_parser = data_dir::parser()
    )]
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
    // Not `env`: a mistake in the variable would end the agent.
    /// Form of the log on standard error [default: the variable `LOG_FORMAT`, or text]; the variable `RUST_LOG` filters the log, as
    /// in `RUST_LOG=warn`.
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "FORMAT", value_enum, ignore_case = true)]
    pub(crate) log_format: Option<Format>,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

impl Cli {
    /// Whether it is to run until it is stopped.
    pub(crate) fn is_daemon(&self) -> bool {
        matches!(self.verb, Verb::Run(_))
    }
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
    /// Install the plugin for the container runtime, a systemd unit, or files for NetworkManager and systemd-networkd.
    Install {
        #[command(flatten)]
        places: Places,
        #[command(flatten)]
        plugin: Plugin,
        /// Print the files and write nothing; works beside a running agent.
        #[arg(long, conflicts_with = "cni_bin_dir")]
        print: bool,
    },
    /// Remove what install created; keep links, pods' addresses and the kept state.
    Uninstall {
        #[command(flatten)]
        places: Places,
        /// Remove the state directory, too; fails while a pod, a pending release or a policy needs it.
        #[arg(long, group = "whom")]
        state: bool,
    },
    /// Print a line for each node of the cluster, or with the agent of this node; exit with status 1 if something is wrong.
    Status(Status),
    /// Diagnose this node, print remedies and change nothing; exit with status 1 if a check fails.
    Doctor(Doctor),
    /// Check Octavia's network definition for what octavia-operator will make of it; exit with status 3 if it is wrong.
    Check(Check),
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
    Run(Box<Run>),
}

/// What `run` is given.
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) input: Input,
    #[command(flatten)]
    pub(crate) safety: Safety,
    #[command(flatten)]
    pub(crate) keeping: Keeping,
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    /// The container runtime's plugin directory, such as /opt/cni/bin; install the plugin there and keep it
    /// installed [default: do not install]
    #[arg(long, value_name = "DIR", env = "CNI_BIN_DIR", help_heading = "Plugin")]
    pub(crate) cni_bin_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) plugin: Plugin,
    #[command(flatten)]
    pub(crate) others: others::Places,
    #[command(flatten)]
    pub(crate) health: HealthOptions,
}

/// How `run` keeps the node.
#[derive(Debug, Args)]
pub(crate) struct Keeping {
    /// Seconds between two full checks of the node; the agent repairs changes at once besides.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds::parse)]
    pub(crate) interval: Duration,
    /// Report pods' ports that are not in the policy's bridges, and do not put them back.
    #[arg(long, env = "LEAVE_POD_PORTS", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) leave_pod_ports: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Path to a kubeconfig, to ask the API server about all nodes [default: ask the agent of this node]
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Print this node only.
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) node: Option<String>,
    /// Namespace of the `IPPool` objects.
    #[arg(long, value_name = "NAMESPACE", env = "WHEREABOUTS_NAMESPACE", default_value = "kube-system")]
    pub(crate) pool_namespace: String,
    /// Namespace of the agents' `DaemonSet` [default: that of the service account in `ClusterRoleBinding` octavia-bridge-agent]
    #[arg(long, value_name = "NAMESPACE", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) agent_namespace: Option<String>,
    /// Print machine-readable JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) place: HealthSocket,
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
    #[command(flatten)]
    pub(crate) place: HealthSocket,
}

#[derive(Debug, Args)]
pub(crate) struct Pools {
    #[command(subcommand)]
    pub(crate) act: Option<PoolsAct>,
    #[command(flatten)]
    pub(crate) place: PoolsPlace,
    /// The file store's pools of this dataDir of the plugin's [default: the cluster's pools]
    #[arg(long, global = true, value_name = "DIR", conflicts_with = "kubeconfig", value_parser = data_dir::parser())]
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
    /// Free the leaked addresses of deleted pods, by the same checks as the agents; with --data-dir those of attachments whose
    /// namespace and link are gone.
    Repair {
        /// Print what repair would free, and change nothing.
        #[arg(long)]
        dry_run: bool,
        /// Seconds between the two checks that repair makes before it frees an address.
        #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds::parse)]
        reclaim_grace: Duration,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Safety {
    /// TCP endpoint, by name or address, that must still answer after a change that could cut the way to it, or disconnect
    /// the node; repeatable [default: the default gateways]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) reach: Vec<Endpoint>,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("whom").args(["cni_bin_dir", "systemd", "network_manager", "networkd"]).required(true).multiple(true))]
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
    /// The same file for systemd-networkd, which also excludes pods' ports.
    #[arg(long)]
    pub(crate) networkd: bool,
    /// Directory of systemd units.
    #[arg(long, value_name = "DIR", default_value = "/etc/systemd/system")]
    pub(crate) unit_dir: PathBuf,
    /// Directory of NetworkManager configuration files.
    #[arg(long, value_name = "DIR", default_value = "/etc/NetworkManager/conf.d")]
    pub(crate) network_manager_dir: PathBuf,
    /// Directory of systemd-networkd configuration files.
    #[arg(long, value_name = "DIR", default_value = "/etc/systemd/network")]
    pub(crate) networkd_dir: PathBuf,
}
