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

/// Keeps a node's VLAN interfaces and bridges as a policy describes them, in nmstate's YAML.
///
/// Exit status: 0 done, 1 failed, 2 wrong usage or input, 3 the node differs (plan --check).
#[derive(Debug, Parser)]
#[command(name = "octavia-bridge-agent", version)]
pub(crate) struct Cli {
    /// Where the last good desired state and the journal are kept.
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/octavia-bridge")]
    pub(crate) state_dir: PathBuf,
    /// Lock file of kubernetes-nmstate's handler: while that runs, nothing is changed.
    #[arg(long, global = true, value_name = "FILE", default_value = "/var/k8s_nmstate/handler_lock")]
    pub(crate) nmstate_lock: PathBuf,
    /// Where the kernel's settings can be written. A container has its own /proc/sys read-only, and the host's mounted at
    /// another place.
    #[arg(long, global = true, value_name = "DIR", default_value = "/proc/sys")]
    pub(crate) proc_sys: PathBuf,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Say what would be done, and do nothing.
    Plan {
        #[command(flatten)]
        input: Input,
        /// For programs.
        #[arg(long)]
        json: bool,
        /// Exit with 3 if there is something to do.
        #[arg(long)]
        check: bool,
    },
    /// Bring the desired state about and keep it for the next boot.
    Apply {
        #[command(flatten)]
        input: Input,
        #[command(flatten)]
        safety: Safety,
    },
    /// Print the present state in nmstate's YAML.
    Show {
        /// JSON instead.
        #[arg(long)]
        json: bool,
    },
    /// Delete every link and route that this program made, and forget the kept desired state.
    Remove {
        #[command(flatten)]
        safety: Safety,
    },
    /// Put the plugin where the container runtime looks for it, and tell the host's own programs about the state that was
    /// applied last.
    Install {
        #[command(flatten)]
        places: Places,
        #[command(flatten)]
        plugin: Plugin,
    },
    /// Take back what install did; links, pods' addresses and the kept state stay.
    Uninstall {
        #[command(flatten)]
        places: Places,
        /// Remove the state directory's content, too: refused while a pod, a release or a policy needs it.
        #[arg(long, group = "whom")]
        state: bool,
    },
    /// Look for what keeps pods from their network, and say what to do; changes nothing. Status 1 if something fails.
    Doctor(Doctor),
    /// Show who has which address, and what is left of pods that are gone.
    Pools(Pools),
    /// Ask the agent that runs on this node how it is, and print what it says. Status 0 if all is well, 1 if not, or if it
    /// does not answer.
    Health {
        /// What to ask.
        #[arg(value_enum)]
        question: Question,
        #[command(flatten)]
        place: HealthSocket,
    },
    /// Bring the desired state about and keep it so, until SIGTERM; every link stays.
    Run {
        #[command(flatten)]
        input: Input,
        #[command(flatten)]
        safety: Safety,
        #[command(flatten)]
        cluster: Cluster,
        /// The folder where the container runtime looks for plugins: the plugin is put there, and put back. Without
        /// it no folder is touched.
        #[arg(long, value_name = "DIR", env = "CNI_BIN_DIR", help_heading = "Plugin")]
        cni_bin_dir: Option<PathBuf>,
        #[command(flatten)]
        plugin: Plugin,
        #[command(flatten)]
        told: Told,
        /// Seconds between two full readings.
        #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=LONGEST))]
        interval: u64,
    },
}

/// Where `run` tells how it is.
#[derive(Debug, Args)]
#[command(next_help_heading = "Health")]
pub(crate) struct Told {
    /// Where to answer HTTP requests for /healthz, /readyz and /metrics; none for nowhere. Kubelet's probes do not ask here
    /// but run `health`.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:29808")]
    pub(crate) health_bind: Bind,
    #[command(flatten)]
    pub(crate) place: HealthSocket,
}

/// Where `health` asks.
#[derive(Debug, Args)]
pub(crate) struct HealthSocket {
    /// The socket where `health` asks and `run` answers. Its folder has to be the agent's own.
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
    /// A file with states or policies; - for standard input; may be repeated. Without one the state that
    /// was applied last.
    #[arg(short, long = "file", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// A label of this node, for the policies' nodeSelector; may be repeated.
    #[arg(long = "node-label", value_name = "KEY=VALUE")]
    labels: Vec<Label>,
    /// Take policies in files whatever their nodeSelector says.
    #[arg(long)]
    all_policies: bool,
    /// Leave out entries with something that is not supported, instead of refusing all.
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
    /// For programs.
    #[arg(long)]
    pub(crate) json: bool,
    /// The plugin, where the container runtime looks for it, such as /opt/cni/bin/octavia-bridge.
    #[arg(long, value_name = "FILE")]
    pub(crate) plugin: Option<PathBuf>,
    /// Where NetworkManager notes the state of its devices.
    #[arg(long, value_name = "DIR", default_value = "/run/NetworkManager/devices")]
    pub(crate) network_manager_devices: PathBuf,
}

/// The plugin, and under which names to install it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Plugin")]
pub(crate) struct Plugin {
    /// The plugin to install; by default octavia-bridge beside this program.
    #[arg(long = "plugin", value_name = "FILE", env = "PLUGIN_FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Install it under these names, too, so that networks of other plugins get it: bridge, whereabouts, or both with a comma
    /// between. A file of that name that is there already is left alone, which is an error.
    #[arg(long, value_name = "NAMES", env = "ALSO_AS", default_value = "", hide_default_value = true)]
    pub(crate) also_as: AlsoAs,
}

/// The part of `run` that follows the cluster's policies, and serves plugins with addresses of its pools.
#[derive(Debug, Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct Cluster {
    /// Keep what `NodeNetworkConfigurationPolicies` want of this node, beside the files, and serve plugins with addresses
    /// from the Kubernetes API.
    #[arg(long)]
    pub(crate) cluster: bool,
    /// Credentials. Without them, those of the pod.
    #[arg(long, value_name = "FILE", requires = "cluster")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// This node's name in the API.
    #[arg(long, value_name = "NAME", env = "NODE_NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) node_name: Option<String>,
    /// Where the pool objects are.
    #[arg(long, value_name = "NAMESPACE", env = "WHEREABOUTS_NAMESPACE", default_value = "kube-system")]
    pub(crate) pool_namespace: String,
    /// Where plugins ask.
    #[arg(long, value_name = "FILE", default_value = "/run/octavia-bridge/agent.sock")]
    pub(crate) socket: PathBuf,
    /// Seconds that the holder of an address must have been gone before the address is free.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=LONGEST))]
    pub(crate) reclaim_grace: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Pools {
    #[command(subcommand)]
    pub(crate) act: Option<PoolsAct>,
    #[command(flatten)]
    pub(crate) place: PoolsPlace,
    /// The pools of the file store in this dataDir of the plugin, instead of the cluster's.
    #[arg(long, value_name = "DIR", conflicts_with = "kubeconfig")]
    pub(crate) data_dir: Option<PathBuf>,
    /// For programs.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where the cluster's pools are.
#[derive(Debug, Args)]
pub(crate) struct PoolsPlace {
    /// Credentials. Without them, those of the pod.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Where the pool objects are.
    #[arg(
        long,
        global = true,
        value_name = "NAMESPACE",
        env = "WHEREABOUTS_NAMESPACE",
        default_value = "kube-system"
    )]
    pub(crate) pool_namespace: String,
    /// For repair: the node whose own leaks to mend, which only its agent does otherwise.
    #[arg(long, global = true, value_name = "NAME", env = "NODE_NAME", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) node_name: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PoolsAct {
    /// Free what is left of pods that are gone, by the same proof as the agents that do it by themselves.
    Repair {
        /// Say what would be done, and do nothing.
        #[arg(long)]
        dry_run: bool,
        /// Seconds between the two looks that it takes.
        #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=LONGEST))]
        reclaim_grace: u64,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Safety {
    /// Who has to answer on TCP after a change that could cut the node off; may be repeated. Without one
    /// the default gateways.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) reach: Vec<SocketAddr>,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("whom").args(["cni_bin_dir", "systemd", "network_manager"]).required(true).multiple(true))]
pub(crate) struct Places {
    /// The container runtime: the folder where it looks for plugins, such as /opt/cni/bin.
    #[arg(long, value_name = "DIR")]
    pub(crate) cni_bin_dir: Option<PathBuf>,
    /// systemd: a unit that brings the state about at each boot, before kubelet starts.
    #[arg(long)]
    pub(crate) systemd: bool,
    /// NetworkManager: a file that makes it leave the state's VLAN interfaces, bridges and VRFs alone. To be
    /// repeated when the state has others.
    #[arg(long)]
    pub(crate) network_manager: bool,
    /// Where systemd looks for units.
    #[arg(long, value_name = "DIR", default_value = "/etc/systemd/system")]
    pub(crate) unit_dir: PathBuf,
    /// Where NetworkManager looks for parts of its configuration.
    #[arg(long, value_name = "DIR", default_value = "/etc/NetworkManager/conf.d")]
    pub(crate) network_manager_dir: PathBuf,
}
