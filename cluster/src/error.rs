//! Errors of requests to the API server.

use std::error::Error as _;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

/// Most characters of a refusal that is not JSON to repeat.
const SHOWN: usize = 200;
/// Longest `Retry-After` that counts. No operation here waits so long, and larger values would overflow a sum of times.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// One request that failed: what was attempted on which object, and the server's reason as source.
#[derive(Debug, thiserror::Error)]
#[error("cannot {attempt} {object} at {server}")]
pub struct ApiError {
    /// A verb.
    pub attempt: &'static str,
    /// Resource, namespace and name.
    pub object: String,
    /// The API server's URL.
    pub server: Arc<str>,
    /// How it failed.
    #[source]
    pub why: Why,
}

/// How a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    /// The server refused.
    #[error("{}", in_words(*code, message, *retry_after))]
    Refused {
        /// HTTP status.
        code: u16,
        /// The server's own words.
        message: String,
        /// `Retry-After`, if the server sent it.
        retry_after: Option<Duration>,
    },
    /// No answer in this time.
    #[error("no answer within {:.1} s", .0.as_secs_f32())]
    Silent(Duration),
    /// No answer in this time, while the server answered other requests: it is busy, or this request was lost.
    #[error("no answer within {:.1} s, while others are answered", .0.as_secs_f32())]
    Busy(Duration),
    /// The connection failed or broke.
    #[error("{}", roots(.0))]
    Cut(kube::Error),
    /// The answer is not the expected JSON.
    #[error("the answer is not what the API promises")]
    Unreadable(#[source] serde_json::Error),
}

impl ApiError {
    /// What was attempted and why it failed, in one line.
    pub fn in_words(&self) -> String {
        let cause = self.why.source().map(|cause| format!(": {cause}"));
        format!("{self}: {}{}", self.why, cause.unwrap_or_default())
    }

    /// The HTTP method of the attempt.
    pub fn method(&self) -> &'static str {
        match self.attempt {
            "create" => "POST",
            "change" => "PATCH",
            "update" => "PUT",
            "delete" => "DELETE",
            _ => "GET",
        }
    }

    /// HTTP status, if the server answered at all.
    pub fn code(&self) -> Option<u16> {
        match self.why {
            Why::Refused { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Whether the server may have carried out the request.
    pub fn is_doubtful(&self) -> bool {
        match &self.why {
            Why::Refused { code, .. } => *code >= 500,
            Why::Cut(error) => !never_sent(error),
            Why::Silent(_) | Why::Busy(_) | Why::Unreadable(_) => true,
        }
    }

    /// Whether a retry can help: the server is busy or unreachable, which says nothing about the request.
    pub fn is_passing(&self) -> bool {
        self.code().is_none_or(|code| code >= 500 || code == 429)
    }

    /// Whether the server did not answer at all, so that it will not answer other requests either. A refusal concerns one object,
    /// whatever its status: a failing admission webhook is a 500.
    pub fn is_away(&self) -> bool {
        matches!(self.why, Why::Silent(_) | Why::Cut(_))
    }

    /// The object was changed by another writer, or a new one has the name of an existing one.
    pub fn is_conflict(&self) -> bool {
        self.code() == Some(409)
    }

    /// The object, or its resource, does not exist.
    pub fn is_absent(&self) -> bool {
        self.code() == Some(404)
    }

    /// The pause that the server asks for.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.why {
            Why::Refused { retry_after, .. } => retry_after,
            _ => None,
        }
    }
}

/// Whether there was no connection, so that the request was not sent.
fn never_sent(error: &kube::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<io::Error>()
            && matches!(error.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable)
        {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// The status with its usual name, and its meaning if the server's message does not say it.
fn in_words(code: u16, message: &str, retry_after: Option<Duration>) -> String {
    let name = http::StatusCode::from_u16(code).ok().and_then(|status| status.canonical_reason());
    let mut text = format!("{code} {}", name.unwrap_or("unknown status"));
    if !message.is_empty() {
        let _ = write!(text, ": {message}");
    }
    if code == 401 {
        text.push_str(" (the agent's token has expired or is not this cluster's)");
    }
    if let Some(pause) = retry_after {
        let _ = write!(text, " (asks to wait {} s)", pause.as_secs());
    }
    text
}

/// The chain of causes, which the client's own error does not print.
fn roots(error: &kube::Error) -> String {
    let mut cause = error.source();
    let mut text = cause.map_or_else(|| error.to_string(), ToString::to_string);
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            let _ = write!(text, ": {inner_text}");
        }
        cause = inner.source();
    }
    text
}

/// The body of a refusal, `kind: Status`.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    message: String,
    details: Option<Details>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Details {
    retry_after_seconds: Option<u64>,
}

impl Why {
    /// A refusal in the server's words. Some, such as "too many requests", are plain text.
    pub(crate) fn refused(code: u16, retry_after: Option<&str>, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let status = serde_json::from_str::<Status>(&text).unwrap_or_else(|_| Status {
            message: text.trim().chars().take(SHOWN).collect(),
            ..Status::default()
        });
        let seconds = retry_after.and_then(|text| text.parse().ok());
        let seconds = seconds.or(status.details.and_then(|details| details.retry_after_seconds));
        let retry_after = seconds.map(|seconds| Duration::from_secs(seconds).min(LONGEST_PAUSE));
        Self::Refused { code, message: status.message, retry_after }
    }
}

impl From<kube::Error> for Why {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::from(*status),
            kube::Error::SerdeError(error) => Self::Unreadable(error),
            other => Self::Cut(other),
        }
    }
}

impl From<kube::core::Status> for Why {
    fn from(status: kube::core::Status) -> Self {
        Self::Refused { code: status.code, message: status.message, retry_after: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_have_been_done_is_doubtful() {
        for (code, doubtful, passing) in [
            (409, false, false),
            (422, false, false),
            (429, false, true),
            (500, true, true),
            (504, true, true),
        ] {
            let why = Why::Refused { code, message: String::new(), retry_after: None };
            let error =
                ApiError { attempt: "create", object: "pods a/b".into(), server: "https://api".into(), why };
            assert_eq!((error.is_doubtful(), error.is_passing()), (doubtful, passing), "{code}");
        }
    }

    #[test]
    fn a_pause_that_no_clock_can_add_is_cut_short() {
        for (header, body, expected) in [
            (Some("18446744073709551615"), "", Some(LONGEST_PAUSE)),
            (Some("7"), "", Some(Duration::from_secs(7))),
            (Some("-1"), "", None),
            (Some("99999999999999999999"), "", None),
            (None, r#"{"details":{"retryAfterSeconds":18446744073709551615}}"#, Some(LONGEST_PAUSE)),
        ] {
            let Why::Refused { retry_after, .. } = Why::refused(429, header, body.as_bytes()) else {
                panic!()
            };
            assert_eq!(retry_after, expected, "{header:?} {body}");
        }
    }
}
