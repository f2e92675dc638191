//! The way to the API server: by the pod's service account, or by a kubeconfig.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{ClientBuilder, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tower::{BoxError, ServiceBuilder};

use crate::health::Requests;

/// How long a kubeconfig may take to be read.
const READING: Duration = Duration::from_secs(5);
/// How long a connection may take to come about. How long an answer may take depends on the request: a watch's has no
/// end.
const CONNECT: Duration = Duration::from_secs(3);
/// A silent connection is probed so often, and given up when nothing that was sent is acknowledged for so long: a server
/// that lost its power says nothing, and the kernel's own patience is a quarter of an hour.
const KEEPALIVE: Duration = Duration::from_secs(10);
const UNANSWERED: Duration = Duration::from_secs(30);
/// Most that is read ahead of one connection, in bytes. A pool may have a megabyte, and connections are a dozen.
const BUFFER: usize = 16 << 10;
/// Connections that are kept when nothing is to do, and for how long. A new one costs the server more than a request.
const IDLE: usize = 4;
const IDLE_FOR: Duration = Duration::from_secs(60);

/// Where the server is and who we are, and the server's URL. Nothing is asked of the server yet.
///
/// # Errors
/// No usable credentials.
pub(crate) async fn configuration(kubeconfig: Option<&Path>) -> anyhow::Result<(Config, String)> {
    let config = match kubeconfig {
        Some(path) => {
            let text = read(path).await;
            let attempt = || format!("read the kubeconfig {}", path.display());
            let text = text.with_context(attempt)?;
            Config::from_custom_kubeconfig(text, &KubeConfigOptions::default()).await.with_context(attempt)?
        }
        None => Config::incluster()
            .context("find the API server: not in a pod with a service account; pass --kubeconfig FILE")?,
    };
    let server = config.cluster_url.to_string();
    Ok((config, server.trim_end_matches('/').to_owned()))
}

/// Reads a kubeconfig on a thread of its own: a FIFO to which nothing is written, or a file on a server that is away, does not
/// keep the agent from stopping.
async fn read(path: &Path) -> anyhow::Result<Kubeconfig> {
    let file = path.to_owned();
    let reading = spawn_blocking(move || Kubeconfig::read_from(file));
    match timeout(READING, reading).await {
        Ok(text) => Ok(text??),
        Err(_) => anyhow::bail!("not read within {} s; name a regular file", READING.as_secs()),
    }
}

/// A client whose `requests` are seen.
///
/// As kube builds it, but for what it has no setting for: the size of buffers, how many idle connections are kept, and
/// when a connection without an answer is dead. It logs every failed request as an error, too; the part of the agent that
/// made the request says more.
///
/// # Errors
/// Certificates and keys that are none.
pub(crate) fn connect(config: &Config, requests: &Requests) -> anyhow::Result<Client> {
    let attempt = || format!("prepare to connect to {}", config.cluster_url);
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE));
    tcp.set_tcp_user_timeout(Some(UNANSWERED));
    let tls = config.rustls_https_connector_with_connector(tcp).with_context(attempt)?;
    let http = HttpClient::builder(TokioExecutor::new())
        .http1_max_buf_size(BUFFER)
        .pool_max_idle_per_host(IDLE)
        .pool_idle_timeout(IDLE_FOR)
        .build(tls);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().with_context(attempt)?)
        .layer(config.extra_headers_layer().with_context(attempt)?)
        .map_err(BoxError::from)
        .service(http);
    Ok(ClientBuilder::new(service, &config.default_namespace).with_layer(requests).build())
}
