//! Why the API did not do what was asked, and why the store could not.

use std::error::Error as _;
use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::allocate::{Exhausted, Refusal};
use crate::request::Holder;
use crate::wire::{Failure, Kind};

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
    /// What came back, or did not.
    #[source]
    pub why: Why,
}

/// What came back, or did not.
#[derive(Debug, thiserror::Error)]
pub enum Why {
    /// The server refused.
    #[error("{}", in_words(*code, message, *retry_after))]
    Refused {
        /// HTTP status.
        code: u16,
        /// The server's own words.
        message: String,
        /// When to ask again, if the server says so.
        retry_after: Option<Duration>,
    },
    /// Nothing came in this time.
    #[error("no answer within {:.1} s", .0.as_secs_f32())]
    Silent(Duration),
    /// Nothing came in this time, while other requests were answered: the server is busy, or this one was lost.
    #[error("no answer within {:.1} s, while others are answered", .0.as_secs_f32())]
    Busy(Duration),
    /// No connection, or one that broke.
    #[error("{}", roots(.0))]
    Cut(kube::Error),
    /// Not the JSON it should be.
    #[error("the answer is not what the API promises")]
    Unreadable(#[source] serde_json::Error),
}

impl ApiError {
    /// HTTP status, if the server answered at all.
    pub fn code(&self) -> Option<u16> {
        match self.why {
            Why::Refused { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Whether the request may have been carried out all the same.
    pub(super) fn is_doubtful(&self) -> bool {
        match &self.why {
            Why::Refused { code, .. } => *code >= 500,
            Why::Cut(error) => !never_sent(error),
            Why::Silent(_) | Why::Busy(_) | Why::Unreadable(_) => true,
        }
    }

    /// Whether asking again can help: the server is busy or away, which says nothing about the request.
    pub(super) fn is_passing(&self) -> bool {
        self.code().is_none_or(|code| code >= 500 || code == 429)
    }

    /// When the server wants to be asked again.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self.why {
            Why::Refused { retry_after, .. } => retry_after,
            _ => None,
        }
    }
}

/// Whether there was no connection by which the request could have gone out.
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

/// The status as people know it, and what it means where the server's words do not say.
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

/// The causes, which the client's own error only has a name for.
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

/// A failure of the store, by what a caller can do about it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A range has no free address.
    #[error(transparent)]
    Exhausted(Box<Exhausted>),
    /// The address asked for belongs to somebody else.
    #[error("address {address} is held by {holder}")]
    Held {
        /// The address.
        address: IpAddr,
        /// Who has it.
        holder: Box<Holder>,
    },
    /// An object is not what its name says, and was left alone.
    #[error("{object} is corrupt or foreign and was left alone: {why}")]
    Corrupt {
        /// Resource, namespace and name.
        object: String,
        /// What is wrong in it.
        why: String,
    },
    /// It would never succeed as it is asked for.
    #[error("{0}")]
    Unsupported(String),
    /// The API does not answer, or refuses.
    #[error("the Kubernetes API does not serve the pools now")]
    Api(#[source] Arc<ApiError>),
    /// It took too long.
    #[error("{attempt} took longer than the plugin waits")]
    Late {
        /// What was attempted, a noun phrase.
        attempt: String,
    },
}

impl From<ApiError> for Error {
    fn from(error: ApiError) -> Self {
        Self::Api(Arc::new(error))
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Exhausted(details) => Self::Exhausted(details),
            Refusal::Held { address, holder } => Self::Held { address, holder },
        }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let kind = match error {
            Error::Exhausted(_) => Kind::Exhausted,
            Error::Held { .. } => Kind::Held,
            Error::Corrupt { .. } => Kind::Corrupt,
            Error::Unsupported(_) => Kind::Unsupported,
            Error::Api(_) | Error::Late { .. } => Kind::Unavailable,
        };
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            let _ = write!(message, ": {inner}");
            cause = inner.source();
        }
        Self { kind, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16, message: &str, retry_after: Option<Duration>) -> ApiError {
        let why = Why::Refused { code, message: message.to_owned(), retry_after };
        ApiError {
            attempt: "create",
            object: "ippools kube-system/172.23.0.0-24".into(),
            server: "https://api".into(),
            why,
        }
    }

    #[test]
    fn what_a_user_reads_names_object_status_and_meaning() {
        let failure = Failure::from(&Error::from(refused(401, "Unauthorized", None)));
        assert_eq!(failure.kind, Kind::Unavailable);
        assert_eq!(
            failure.message,
            "the Kubernetes API does not serve the pools now: cannot create ippools kube-system/172.23.0.0-24 at \
             https://api: 401 Unauthorized: Unauthorized (the agent's token has expired or is not this cluster's)"
        );
    }

    #[test]
    fn only_what_may_have_been_done_is_doubtful() {
        for (code, doubtful, passing) in [
            (409, false, false),
            (422, false, false),
            (429, false, true),
            (500, true, true),
            (504, true, true),
        ] {
            let error = refused(code, "", None);
            assert_eq!((error.is_doubtful(), error.is_passing()), (doubtful, passing), "{code}");
        }
    }
}
