//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::desired::{Choice, Label};

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
    /// Have the state that was applied last brought about at each boot, before kubelet starts.
    Install {
        #[command(flatten)]
        unit: Unit,
    },
    /// Take back what install did; links and the kept state stay.
    Uninstall {
        #[command(flatten)]
        unit: Unit,
    },
    /// Bring the desired state about and keep it so, until SIGTERM; every link stays.
    Run {
        #[command(flatten)]
        input: Input,
        #[command(flatten)]
        safety: Safety,
        /// Seconds between two full readings.
        #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
        interval: u64,
    },
}

/// The desired state, and what of it to take.
#[derive(Debug, Args)]
pub(crate) struct Input {
    /// A file with states or policies; - for standard input; may be repeated. Without one the state that
    /// was applied last.
    #[arg(short, long = "file", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// A label of this node, for the policies' nodeSelector; may be repeated.
    #[arg(long = "node-label", value_name = "KEY=VALUE")]
    labels: Vec<Label>,
    /// Take policies whatever their nodeSelector says.
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
pub(crate) struct Safety {
    /// Who has to answer on TCP after a change that could cut the node off; may be repeated. Without one
    /// the default gateways.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) reach: Vec<SocketAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct Unit {
    /// By a unit of systemd.
    #[arg(long, required = true)]
    systemd: bool,
    /// Where systemd looks for units.
    #[arg(long, value_name = "DIR", default_value = "/etc/systemd/system")]
    pub(crate) unit_dir: PathBuf,
}
