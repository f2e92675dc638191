//! A small HTTP server: three pages, GET only.
//!
//! Every process of the node can connect to loopback. So a connection is given one request, some seconds and some kilobytes,
//! and how many there may be at once is limited, see [`connections`].

mod connections;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::{Health, Line, Report};
use connections::{Activity, Connections};

/// From the connection to the end of the answer.
const LONGEST: Duration = Duration::from_secs(5);
/// Request line and headers, in bytes. hyper's least.
const HEADERS: usize = 8192;
/// Pause before a socket is tried again.
const RETRY: Duration = Duration::from_secs(5);

const PLAIN: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bind {
    At(SocketAddr),
    Nowhere,
}

impl FromStr for Bind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::Nowhere);
        }
        text.parse()
            .map(Self::At)
            .map_err(|_| "expected ADDRESS:PORT such as 127.0.0.1:29808, or none".into())
    }
}

/// Serves until the task ends. An address that cannot be listened at, as when another process has taken it, is tried again:
/// keeping links and giving addresses are more important than telling of it.
pub(super) async fn serve(bind: SocketAddr, health: Arc<Health>, report: Report) {
    let mut told = String::new();
    let listener = loop {
        match TcpListener::bind(bind).await {
            Ok(listener) => break listener,
            Err(error) => {
                let error = error.to_string();
                if error != told {
                    tracing::warn!(
                        "cannot listen on {bind} for health and metrics: {error}; the agent retries"
                    );
                    report.set(vec![Line::Note(format!(
                        "cannot listen on {bind}: {error}; the agent retries"
                    ))]);
                    told = error;
                }
                sleep(RETRY).await;
            }
        }
    };
    match listener.local_addr() {
        Ok(address) => {
            report.set(Vec::new());
            tracing::info!("health and metrics at http://{address}");
        }
        Err(error) => tracing::warn!("health and metrics, address unknown: {error}"),
    }
    accept(listener, health).await;
}

async fn accept(listener: TcpListener, health: Arc<Health>) {
    let mut connections = Connections::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let health = health.clone();
                connections.add(|activity| converse(stream, health, activity)).await;
            }
            Err(error) => {
                tracing::warn!("cannot accept a connection for health and metrics: {error}");
                sleep(RETRY).await;
            }
        }
    }
}

/// What becomes of a connection is the client's matter.
async fn converse(stream: TcpStream, health: Arc<Health>, activity: Activity) {
    let answer = service_fn(|request: Request<Incoming>| {
        activity.now();
        let response = answer(request.method(), request.uri().path(), &health);
        async { Ok::<_, Infallible>(response) }
    });
    let connection = async {
        // One that says nothing costs no buffer.
        stream.readable().await.ok();
        let connection = http1::Builder::new()
            .keep_alive(false)
            .max_buf_size(HEADERS)
            .serve_connection(TokioIo::new(stream), answer);
        connection.await.ok();
    };
    timeout(LONGEST, connection).await.ok();
}

fn answer(method: &Method, path: &str, health: &Health) -> Response<Full<Bytes>> {
    if method != Method::GET {
        let mut response = page(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET is supported\n".into());
        response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET"));
        return response;
    }
    match path {
        "/healthz" => verdict(health.alive()),
        "/readyz" => verdict(health.readiness.report()),
        "/metrics" => match health.metrics.text(health.readiness.report().0) {
            Ok(text) => page(StatusCode::OK, OPEN_METRICS, text),
            Err(error) => {
                page(StatusCode::INTERNAL_SERVER_ERROR, PLAIN, format!("write the metrics: {error}\n"))
            }
        },
        _ => page(StatusCode::NOT_FOUND, PLAIN, "pages: /healthz, /readyz, /metrics\n".into()),
    }
}

fn verdict((well, text): (bool, String)) -> Response<Full<Bytes>> {
    page(if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, PLAIN, text)
}

fn page(status: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests;
