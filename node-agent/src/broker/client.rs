//! The way to the API server: by the pod's service account, or by a kubeconfig.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::health::Requests;

/// How long a connection may take to come about, and a request to go out. How long an answer may take is the store's to
/// say: a watch's has no end.
const CONNECT: Duration = Duration::from_secs(3);
const WRITE: Duration = Duration::from_secs(5);

/// Where the server is and who we are, and the server's URL. Nothing is asked of the server yet.
///
/// # Errors
/// No usable credentials.
pub(super) async fn configuration(kubeconfig: Option<&Path>) -> anyhow::Result<(Config, String)> {
    let mut config = match kubeconfig {
        Some(path) => {
            let attempt = || format!("read the kubeconfig {}", path.display());
            let text = Kubeconfig::read_from(path).with_context(attempt)?;
            Config::from_custom_kubeconfig(text, &KubeConfigOptions::default()).await.with_context(attempt)?
        }
        None => Config::incluster().context(
            "find the API server: this is no pod with a service account, so name a kubeconfig with --kubeconfig",
        )?,
    };
    config.connect_timeout = Some(CONNECT);
    config.write_timeout = Some(WRITE);
    config.read_timeout = None;
    // By default fifteen retries with pauses of up to a thousand seconds, also of requests that were carried out.
    config.default_retry = false;
    let server = config.cluster_url.to_string();
    Ok((config, server.trim_end_matches('/').to_owned()))
}

/// A client whose `requests` are seen.
///
/// # Errors
/// Certificates and keys that are none.
pub(super) fn connect(config: Config, requests: &Requests) -> anyhow::Result<Client> {
    let server = config.cluster_url.clone();
    let builder =
        ClientBuilder::try_from(config).with_context(|| format!("prepare to connect to {server}"))?;
    Ok(builder.with_layer(requests).build())
}
