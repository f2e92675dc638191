//! The command line's options for health.

use std::path::PathBuf;

use clap::Args;

use super::Bind;

/// Where `run` reports its health.
#[derive(Debug, Args)]
#[command(next_help_heading = "Health")]
pub(crate) struct HealthOptions {
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
