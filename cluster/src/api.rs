//! Requests to the API server: one attempt each, with a deadline, and errors that say what was attempted on which object.
//!
//! The caller decides about retries, because a request without an answer may have been carried out. So the HTTP client must not
//! retry by itself (`kube::Config::default_retry`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderValue, Method, Request, header};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use tokio::time::{Instant, sleep_until, timeout};

use crate::error::{ApiError, Why};
use crate::lock;
use crate::revision::Revisions;

/// The field manager of the agent's writes.
pub const FIELD_MANAGER: &str = "octavia-bridge";
/// If the server answers no request for so long, it counts as unreachable. Users then read the cause within five seconds.
pub const TROUBLE: Duration = Duration::from_secs(4);

/// `Accept` header for a list of metadata only.
pub const METADATA_LIST: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");

/// `Accept` header for the metadata of an object only.
pub const METADATA: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");

/// How long a request may take.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// The server must answer this request, or any other one, within this time.
    pub silence: Duration,
    /// The server must answer this request within this time.
    pub answer: Duration,
}

impl Limit {
    /// One deadline, independent of other requests.
    pub const fn of(time: Duration) -> Self {
        Self { silence: time, answer: time }
    }
}

/// A client of the server. Clones share its state.
#[derive(Clone)]
pub struct Api {
    pub(crate) client: Client,
    server: Arc<str>,
    /// When the server last answered any request.
    heard: Arc<Mutex<Instant>>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    requests: AtomicU64,
    revisions: Revisions,
}

impl Api {
    /// `server` is the server's URL, for messages.
    pub fn new(client: Client, server: &str) -> Self {
        let shared = Shared { requests: AtomicU64::new(0), revisions: Revisions::default() };
        let heard = Arc::new(Mutex::new(Instant::now()));
        Self { client, server: server.into(), heard, shared: Arc::new(shared) }
    }

    /// A client for another part of the agent, with a separate record of answers. A server that renews a lease may not serve pools,
    /// and a pod would wait for it too long.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self { heard: Arc::new(Mutex::new(Instant::now())), ..self.clone() }
    }

    /// Requests sent so far, lists and watches included.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// The versions of the server's data.
    pub fn revisions(&self) -> &Revisions {
        &self.shared.revisions
    }

    pub(crate) fn sent(&self) {
        self.shared.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// When the server has last said anything, or this way to it was made.
    pub fn last_heard(&self) -> Instant {
        *lock(&self.heard)
    }

    /// The server has said something, be it a refusal.
    pub(crate) fn heard(&self) {
        *lock(&self.heard) = Instant::now();
    }

    /// Waits for `least`, and then until the server's last answer to any request is [`TROUBLE`] old. Returns how long that took.
    async fn silence(&self, least: Duration) -> Duration {
        let begun = Instant::now();
        let mut until = begun + least;
        loop {
            sleep_until(until).await;
            until = *lock(&self.heard) + TROUBLE;
            if until <= Instant::now() {
                return begun.elapsed();
            }
        }
    }

    /// Sends one request and reads the answer. `attempt` (a verb) and `object` are for messages.
    ///
    /// # Errors
    /// The server refused, or gave no answer, or one that cannot be read.
    pub async fn send<R>(
        &self,
        attempt: &'static str,
        object: impl Into<String>,
        request: Request<Body>,
        within: Limit,
        read: impl FnOnce(&str) -> serde_json::Result<R>,
    ) -> Result<R, ApiError> {
        self.sent();
        let answer = tokio::select! {
            biased;
            // Boxed: otherwise each of many waiting callers would reserve memory for this future.
            answer = Box::pin(ask(&self.client, request, within.answer, read)) => match answer {
                // Only answers to other requests gave it so much time.
                Err(Why::Silent(time)) if within.answer > within.silence => Err(Why::Busy(time)),
                answer => answer,
            },
            // Only a server that answers no request at all ends this one early. Giving up on a busy server, to ask again, adds load.
            silent = self.silence(within.silence) => Err(Why::Silent(silent)),
        };
        if !matches!(answer, Err(Why::Silent(_) | Why::Busy(_) | Why::Cut(_))) {
            self.heard();
        }
        answer.map_err(|why| self.failed(attempt, object, why))
    }

    /// The error of an attempt.
    pub fn failed(&self, attempt: &'static str, object: impl Into<String>, why: Why) -> ApiError {
        ApiError { attempt, object: object.into(), server: self.server.clone(), why }
    }
}

/// A request without a body.
pub fn request(method: Method, path: &str) -> Request<Body> {
    let request = Request::builder().method(method).uri(valid(path)).body(Body::empty());
    request.expect("the path is valid")
}

/// A request with a body of this content type.
pub fn request_with(method: Method, path: &str, content: &str, body: String) -> Request<Body> {
    let request = Request::builder().method(method).uri(valid(path)).header(header::CONTENT_TYPE, content);
    request.body(body.into_bytes().into()).expect("the path is valid")
}

/// The path with percent-encoding. A correct server has no object whose name needs it, but the agent does not rely on that.
fn valid(path: &str) -> String {
    let mut url = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'"' | b'#' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                url += &format!("%{byte:02X}");
            }
            b'!'..=b'~' => url.push(char::from(byte)),
            _ => url += &format!("%{byte:02X}"),
        }
    }
    url
}

async fn ask<R>(
    client: &Client,
    request: Request<Body>,
    within: Duration,
    read: impl FnOnce(&str) -> serde_json::Result<R>,
) -> Result<R, Why> {
    let exchange = async {
        let (head, mut body) = client.send(request).await.map_err(Why::from)?.into_parts();
        // Decoded from one buffer: collecting parts first would hold a pool's megabyte twice.
        let mut text = Vec::new();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.map_err(Why::from)?.into_data() {
                text.extend_from_slice(&data);
            }
        }
        if head.status.is_success() {
            let text = std::str::from_utf8(&text)
                .map_err(|error| Why::Unreadable(serde::de::Error::custom(error)))?;
            read(text).map_err(Why::Unreadable)
        } else {
            let seconds = head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
            Err(Why::refused(head.status.as_u16(), seconds, &text))
        }
    };
    timeout(within, exchange).await.unwrap_or(Err(Why::Silent(within)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_no_server_takes_ends_no_agent() {
        let request = request(Method::GET, "/api/v1/nodes/evil\u{1b} \"ü#?limit=1");
        assert_eq!(request.uri().to_string(), "/api/v1/nodes/evil%1B%20%22%C3%BC%23?limit=1");
    }
}
