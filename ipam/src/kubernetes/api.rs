//! Requests to the API server: one attempt each, with a deadline, and errors that say what was attempted on which object.
//!
//! Whether to ask again is the caller's to decide, because only the caller knows what it means that a request may have
//! been carried out. So the HTTP client must not retry by itself (`kube::Config::default_retry`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::AsyncBufRead;
use http::{Method, Request, header};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until, timeout};

use super::answer::{Page, Refusal};
use super::error::{ApiError, Why};
use super::lock;
use super::object::{Object, Preconditions, Stored, Version};
use super::patience::{Limit, TROUBLE};

/// How long a reading of all objects may take to answer, and a watch to begin.
const READING: Duration = Duration::from_secs(10);
/// A server ends a watch after this long by itself, so that no connection is used for ever.
const WATCH_SECONDS: u64 = 280;
/// Of a refusal that is no JSON, how much to repeat, in characters.
const SHOWN: usize = 200;
/// A server that asks for a longer pause than this is asked again after this: no operation here waits so long, and sums of
/// longer times would leave what a clock can say.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// The name under which the server notes our writes.
const FIELD_MANAGER: &str = "octavia-bridge";
const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";

/// The objects of one namespace.
pub(super) struct Api {
    client: Client,
    server: Arc<str>,
    namespace: String,
    requests: AtomicU64,
    /// When the server has last said anything.
    heard: Mutex<Instant>,
}

impl Api {
    /// `server` is its URL, for messages. `namespace` must be a valid name.
    pub(super) fn new(client: Client, server: String, namespace: String) -> Self {
        let (requests, heard) = (AtomicU64::new(0), Mutex::new(Instant::now()));
        Self { client, server: server.into(), namespace, requests, heard }
    }

    /// The server has said something, be it a refusal.
    pub(super) fn heard(&self) {
        *lock(&self.heard) = Instant::now();
    }

    /// Waits until the server has been silent to everybody for so long, and for [`TROUBLE`] after its last word. Returns
    /// how long that took.
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

    /// Requests sent so far, watches included.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Resource, namespace and name, for messages.
    pub(super) fn describe<T: Object>(&self, name: &str) -> String {
        format!("{} {}/{name}", T::PLURAL, self.namespace)
    }

    /// The object as it is now; `None` if there is none.
    pub(super) async fn get<T: Object>(
        &self,
        name: &str,
        within: Limit,
    ) -> Result<Option<Stored<T>>, ApiError> {
        let request = self.request::<T>(Method::GET, name, "", None, "");
        match self.send::<T, _>("read", name, request, within, T::read).await {
            Ok(stored) => Ok(Some(stored)),
            Err(error) if error.code() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the object, whose name must be new.
    pub(super) async fn create<T: Object>(
        &self,
        name: &str,
        object: &Value,
        within: Limit,
    ) -> Result<Stored<T>, ApiError> {
        let query = format!("?fieldManager={FIELD_MANAGER}");
        let request =
            self.request::<T>(Method::POST, "", &query, Some(object.to_string()), "application/json");
        self.send::<T, _>("create", name, request, within, T::read).await
    }

    /// Carries out all of `operations`, a JSON array (RFC 6902), on the object, or none.
    pub(super) async fn patch<T: Object>(
        &self,
        name: &str,
        operations: String,
        within: Limit,
    ) -> Result<Stored<T>, ApiError> {
        self.change(name, operations, JSON_PATCH, within).await
    }

    /// Merges `part` (RFC 7396) into the object.
    pub(super) async fn merge<T: Object>(
        &self,
        name: &str,
        part: &Value,
        within: Limit,
    ) -> Result<Stored<T>, ApiError> {
        self.change(name, part.to_string(), MERGE_PATCH, within).await
    }

    async fn change<T: Object>(
        &self,
        name: &str,
        body: String,
        content: &str,
        within: Limit,
    ) -> Result<Stored<T>, ApiError> {
        let query = format!("?fieldManager={FIELD_MANAGER}");
        let request = self.request::<T>(Method::PATCH, name, &query, Some(body), content);
        self.send::<T, _>("change", name, request, within, T::read).await
    }

    /// Deletes the object if it is still that version of that object.
    pub(super) async fn delete<T: Object>(
        &self,
        name: &str,
        uid: &str,
        version: Version,
        within: Limit,
    ) -> Result<(), ApiError> {
        let preconditions = Preconditions { uid, resource_version: version.0.to_string() };
        let body = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions });
        let request = self.request::<T>(Method::DELETE, name, "", Some(body.to_string()), "application/json");
        self.send::<T, _>("delete", name, request, within, |_| Ok(())).await
    }

    /// One page of all objects; `next` is empty for the first.
    pub(super) async fn list<T: Object>(&self, next: &str) -> Result<Page<T>, ApiError> {
        let mut query = format!("?limit={}", T::PAGE);
        if !next.is_empty() {
            // The server makes it of URL-safe base64.
            query.push_str("&continue=");
            query.push_str(next);
        }
        let request = self.request::<T>(Method::GET, "", &query, None, "");
        self.send::<T, _>("list", "", request, Limit { silence: READING, answer: READING }, Page::read).await
    }

    /// What changes after `version`, a line each.
    pub(super) async fn watch<T: Object>(
        &self,
        version: Version,
    ) -> Result<impl AsyncBufRead + use<T>, ApiError> {
        let query = format!(
            "?watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={}",
            version.0
        );
        let (parts, _) = self.request::<T>(Method::GET, "", &query, None, "").into_parts();
        self.requests.fetch_add(1, Ordering::Relaxed);
        let opened =
            timeout(READING, self.client.request_stream(Request::from_parts(parts, Vec::new()))).await;
        opened
            .map_err(|_| Why::Silent(READING))
            .and_then(|opened| opened.map_err(Why::from))
            .map_err(|why| self.failed::<T>("watch", "", why))
    }

    fn request<T: Object>(
        &self,
        method: Method,
        name: &str,
        query: &str,
        body: Option<String>,
        content: &str,
    ) -> Request<Body> {
        let slash = if name.is_empty() { "" } else { "/" };
        let path = format!(
            "/apis/whereabouts.cni.cncf.io/v1alpha1/namespaces/{}/{}{slash}{name}{query}",
            self.namespace,
            T::PLURAL
        );
        let mut request = Request::builder().method(method).uri(path);
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, content);
        }
        let body = body.map_or_else(Body::empty, |body| body.into_bytes().into());
        request.body(body).expect("names of objects are valid in a URL")
    }

    async fn send<T: Object, R>(
        &self,
        attempt: &'static str,
        name: &str,
        request: Request<Body>,
        within: Limit,
        read: impl FnOnce(&str) -> serde_json::Result<R>,
    ) -> Result<R, ApiError> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let answer = tokio::select! {
            biased;
            // In a box: of the many that wait for their turn to ask, each would keep room for it.
            answer = Box::pin(ask(&self.client, request, within.answer, read)) => match answer {
                // Without others it would not have been given so long.
                Err(Why::Silent(time)) if within.answer > within.silence => Err(Why::Busy(time)),
                answer => answer,
            },
            // One that is not answered while others are waits for a busy server: whoever goes away and asks again makes it
            // no less busy.
            silent = self.silence(within.silence) => Err(Why::Silent(silent)),
        };
        if !matches!(answer, Err(Why::Silent(_) | Why::Busy(_) | Why::Cut(_))) {
            self.heard();
        }
        answer.map_err(|why| self.failed::<T>(attempt, name, why))
    }

    pub(super) fn failed<T: Object>(&self, attempt: &'static str, name: &str, why: Why) -> ApiError {
        let object = if name.is_empty() {
            format!("{} in {}", T::PLURAL, self.namespace)
        } else {
            self.describe::<T>(name)
        };
        ApiError { attempt, object, server: self.server.clone(), why }
    }
}

/// Sends one request, and reads the answer with `read`.
///
/// # Errors
/// A refusal, an answer that cannot be read, or none.
pub async fn ask<R>(
    client: &Client,
    request: Request<Body>,
    within: Duration,
    read: impl FnOnce(&str) -> serde_json::Result<R>,
) -> Result<R, Why> {
    let exchange = async {
        let (head, mut body) = client.send(request).await.map_err(Why::from)?.into_parts();
        // Not gathered in parts and then put together: a pool's megabyte would be there twice.
        let mut text = Vec::new();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.map_err(Why::from)?.into_data() {
                text.extend_from_slice(&data);
            }
        }
        let body = text;
        if head.status.is_success() {
            let text = std::str::from_utf8(&body)
                .map_err(|error| Why::Unreadable(serde::de::Error::custom(error)))?;
            read(text).map_err(Why::Unreadable)
        } else {
            let seconds = head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
            Err(refusal(head.status.as_u16(), seconds, &body))
        }
    };
    timeout(within, exchange).await.unwrap_or(Err(Why::Silent(within)))
}

/// A refusal in the server's words. Some, as "too many requests", come as plain text.
fn refusal(code: u16, retry_after: Option<&str>, body: &[u8]) -> Why {
    let text = String::from_utf8_lossy(body);
    let status = serde_json::from_str::<Refusal>(&text).unwrap_or_else(|_| Refusal {
        message: text.trim().chars().take(SHOWN).collect(),
        ..Refusal::default()
    });
    let seconds = retry_after.and_then(|text| text.parse().ok());
    let seconds = seconds.or(status.details.and_then(|details| details.retry_after_seconds));
    let retry_after = seconds.map(|seconds| Duration::from_secs(seconds).min(LONGEST_PAUSE));
    Why::Refused { code, message: status.message, retry_after }
}

impl From<kube::Error> for Why {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => {
                Self::Refused { code: status.code, message: status.message, retry_after: None }
            }
            other => Self::Cut(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_that_no_clock_can_add_is_cut_short() {
        for (header, body, expected) in [
            (Some("18446744073709551615"), "", Some(LONGEST_PAUSE)),
            (Some("7"), "", Some(Duration::from_secs(7))),
            (Some("-1"), "", None),
            (Some("99999999999999999999"), "", None),
            (None, r#"{"details":{"retryAfterSeconds":18446744073709551615}}"#, Some(LONGEST_PAUSE)),
        ] {
            let Why::Refused { retry_after, .. } = refusal(429, header, body.as_bytes()) else { panic!() };
            assert_eq!(retry_after, expected, "{header:?} {body}");
        }
    }
}
