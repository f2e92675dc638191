//! One request to the API and its answer, as they are.

use http_body_util::BodyExt;
use hyper::Request;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, USER_AGENT};
use kube::Client;
use kube::client::Body;
use serde_json::Value;

/// To a program without a name some servers answer with indented text.
const NAME: &str = "octavia-bridge-tests";

/// What the server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The document; a string where it is no JSON, null where there is none.
    pub body: Value,
}

impl Answer {
    /// The document, when the status is the expected one.
    ///
    /// # Panics
    /// When it is another.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "the API answered: {}", self.body);
        self.body
    }

    /// The one word for programs in a refusal, such as `AlreadyExists`; empty if this is none.
    pub fn reason(&self) -> &str {
        self.body["reason"].as_str().unwrap_or_default()
    }
}

/// Sends a request. A PATCH is a JSON patch when its body is a list, else a merge patch. APPLY is a PATCH that makes an
/// object what the body says, or creates it.
///
/// # Errors
/// When there was no answer.
pub(crate) async fn send(
    client: &Client,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> Result<Answer, kube::Error> {
    let content_type = match (method, body) {
        ("APPLY", _) => "application/apply-patch+yaml",
        ("PATCH", Some(Value::Array(_))) => "application/json-patch+json",
        ("PATCH", _) => "application/merge-patch+json",
        _ => "application/json",
    };
    let request = Request::builder()
        .method(if method == "APPLY" { "PATCH" } else { method })
        .uri(path)
        .header(CONTENT_TYPE, content_type)
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, NAME)
        .body(Body::from(body.map(|body| body.to_string().into_bytes()).unwrap_or_default()))
        .unwrap_or_else(|e| panic!("{method} {path} is no request: {e}"));
    let response = client.send(request).await?;
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await?.to_bytes();
    let body = match serde_json::from_slice(&bytes) {
        Ok(document) => document,
        Err(_) if bytes.is_empty() => Value::Null,
        Err(_) => Value::String(String::from_utf8_lossy(&bytes).into_owned()),
    };
    Ok(Answer { status, body })
}

/// Length of the body of what is at a path. The client knows nothing of compression, and hands it out as it comes.
///
/// # Errors
/// When there was no answer.
pub(crate) async fn size(client: &Client, path: &str, compressed: bool) -> Result<usize, kube::Error> {
    let encoding = if compressed { "gzip" } else { "identity" };
    let request = Request::get(path)
        .header(ACCEPT_ENCODING, encoding)
        .header(USER_AGENT, NAME)
        .body(Body::from(Vec::new()));
    let request = request.unwrap_or_else(|e| panic!("GET {path} is no request: {e}"));
    Ok(client.send(request).await?.into_body().collect().await?.to_bytes().len())
}
