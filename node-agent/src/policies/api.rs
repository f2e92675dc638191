//! Requests to the API server about policies: one attempt each, with a deadline, and an error that says what was attempted.

use std::time::Duration;

use futures_util::{Stream, StreamExt};
use http::{Method, Request, header};
use kube::Client;
use kube::core::WatchEvent;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::objects::{Kind, Page};

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// A server ends a watch after this long by itself, so that no connection is used for ever.
const WATCH_SECONDS: u64 = 280;
/// Objects asked for at a time: a policy of ten interfaces is a few kilobytes.
const PAGE: usize = 500;
/// The name under which the server notes our writes.
const FIELD_MANAGER: &str = "octavia-bridge";

/// A request that came to nothing.
#[derive(Debug, thiserror::Error)]
#[error("{attempt}: {why}")]
pub(super) struct Error {
    attempt: String,
    why: Why,
}

#[derive(Debug, thiserror::Error)]
enum Why {
    #[error("{}", refusal(.0))]
    Refused(Box<kube::core::Status>),
    #[error("no answer within {} s", .0.as_secs())]
    Silent(Duration),
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// The HTTP status, if the server answered.
    pub(super) fn code(&self) -> Option<u16> {
        match &self.why {
            Why::Refused(status) => Some(status.code),
            _ => None,
        }
    }

    /// Somebody else was faster.
    pub(super) fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// There is no such object, or no such kind of objects.
    pub(super) fn is_absent(&self) -> bool {
        self.code() == Some(404)
    }
}

impl From<kube::Error> for Why {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Refused(status),
            // The outer layers say only that there was an error.
            error => {
                let mut cause: &dyn std::error::Error = &error;
                while let Some(inner) = cause.source() {
                    cause = inner;
                }
                Self::Failed(cause.to_string())
            }
        }
    }
}

/// A refusal in words. Its reason is one word; the client invents a longer one where there is none.
fn refusal(status: &kube::core::Status) -> String {
    let kube::core::Status { code, reason, message, .. } = status;
    let reason = if reason.contains(' ') { "" } else { reason };
    format!("{} {}", format!("{code} {reason}").trim_end(), message.trim_end())
}

/// Objects of the whole cluster, and events.
#[derive(Clone)]
pub(super) struct Api(Client);

impl Api {
    pub(super) fn new(client: Client) -> Self {
        Self(client)
    }

    /// All objects that `selection`, a query such as `labelSelector=…` with its value encoded, selects.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        kind: Kind,
        selection: &str,
    ) -> Result<Page<T>, Error> {
        let mut all: Vec<T> = Vec::new();
        let mut next = String::new();
        loop {
            let mut path = format!("{}?limit={PAGE}", kind.path());
            // The server makes the token of URL-safe base64.
            for (name, value) in [("", selection), ("continue=", next.as_str())] {
                if !value.is_empty() {
                    path.push_str(&format!("&{name}{value}"));
                }
            }
            let page: Page<T> =
                self.send(&format!("list {}", kind.plural()), request(Method::GET, path, None)).await?;
            all.extend(page.items);
            if page.metadata.next.is_empty() {
                return Ok(Page { metadata: page.metadata, items: all });
            }
            next = page.metadata.next;
        }
    }

    /// What changes after `version`.
    pub(super) async fn watch<T: DeserializeOwned + Clone>(
        &self,
        kind: Kind,
        selection: &str,
        version: &str,
    ) -> Result<impl Stream<Item = Result<WatchEvent<T>, Error>> + use<T>, Error> {
        let path = format!(
            "{}?watch=1&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={version}&{selection}",
            kind.path()
        );
        let attempt = format!("watch {}", kind.plural());
        let opened = timeout(PATIENCE, self.0.request_events::<T>(request(Method::GET, path, None))).await;
        let stream = opened
            .map_err(|_| Why::Silent(PATIENCE))
            .and_then(|opened| opened.map_err(Why::from))
            .map_err(|why| Error { attempt: attempt.clone(), why })?;
        let failed = move |error: kube::Error| Error { attempt: attempt.clone(), why: error.into() };
        Ok(stream.map(move |event| event.map_err(&failed)))
    }

    /// The object, `None` if there is none.
    pub(super) async fn get<T: DeserializeOwned>(&self, kind: Kind, name: &str) -> Result<Option<T>, Error> {
        let path = format!("{}/{name}", kind.path());
        let attempt = format!("read {} {name}", kind.plural());
        match self.send(&attempt, request(Method::GET, path, None)).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes an object.
    pub(super) async fn create<T: DeserializeOwned>(&self, kind: Kind, object: &Value) -> Result<T, Error> {
        let path = format!("{}?fieldManager={FIELD_MANAGER}", kind.path());
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        self.send(&format!("create {} {name}", kind.plural()), request(Method::POST, path, Some(object)))
            .await
    }

    /// Merges into the status of an object (RFC 7396). With `version` only if it is the object's present one.
    pub(super) async fn merge_status<T: DeserializeOwned>(
        &self,
        kind: Kind,
        name: &str,
        version: Option<&str>,
        status: &Value,
    ) -> Result<T, Error> {
        let path = format!("{}/{name}/status?fieldManager={FIELD_MANAGER}", kind.path());
        let mut body = json!({ "status": status });
        if let Some(version) = version {
            body["metadata"] = json!({ "resourceVersion": version });
        }
        let attempt = format!("change the status of {} {name}", kind.plural());
        self.send(&attempt, request(Method::PATCH, path, Some(&body))).await
    }

    /// Deletes an object. One that is gone is no error.
    pub(super) async fn delete(&self, kind: Kind, name: &str) -> Result<(), Error> {
        let path = format!("{}/{name}", kind.path());
        let attempt = format!("delete {} {name}", kind.plural());
        match self.send::<Value>(&attempt, request(Method::DELETE, path, None)).await {
            Err(error) if !error.is_absent() => Err(error),
            _ => Ok(()),
        }
    }

    async fn send<T: DeserializeOwned>(&self, attempt: &str, request: Request<Vec<u8>>) -> Result<T, Error> {
        let answer = timeout(PATIENCE, self.0.request(request)).await;
        let answer = answer.map_err(|_| Why::Silent(PATIENCE)).and_then(|answer| answer.map_err(Why::from));
        answer.map_err(|why| Error { attempt: attempt.to_owned(), why })
    }
}

fn request(method: Method, path: String, body: Option<&Value>) -> Request<Vec<u8>> {
    let content = match method {
        Method::PATCH => "application/merge-patch+json",
        _ => "application/json",
    };
    let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
    let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, content);
    request.body(body).expect("names of objects are valid in a URL")
}
