//! Why the store could not do what was asked.

use std::error::Error as _;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use octavia_bridge_cluster::ApiError;

use crate::allocate::{Exhausted, Refusal};
use crate::request::Holder;
use crate::wire::{Failure, Kind};

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
    #[error("{}", in_short(.0))]
    Api(#[source] Arc<ApiError>),
    /// It took too long.
    #[error("{attempt} took too long")]
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
        if let Error::Api(request) = error {
            let ApiError { object, server, why, .. } = &**request;
            let _ = write!(message, ": {} {object} at {server}: {why}", request.method());
            cause = why.source();
        }
        while let Some(inner) = cause {
            let _ = write!(message, ": {inner}");
            cause = inner.source();
        }
        Self { kind, message }
    }
}

/// What a failed request means for those who want an address.
fn in_short(error: &ApiError) -> &'static str {
    match error.code() {
        Some(401 | 403) => "the agent is not allowed to use the address pools",
        Some(404) => "the API server does not have the address pools",
        Some(409 | 422) => "other writers changed the address pools at the same time, again and again",
        Some(429) => "the API server is too busy to serve the address pools",
        Some(500..) => "the API server fails to serve the address pools",
        _ => "cannot reach the address pools",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use octavia_bridge_cluster::Why;

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
            "the agent is not allowed to use the address pools: POST ippools kube-system/172.23.0.0-24 at \
             https://api: 401 Unauthorized: Unauthorized (the agent's token has expired or is not this cluster's)"
        );
        let mut silent = refused(0, "", None);
        (silent.attempt, silent.why) = ("read", Why::Silent(Duration::from_secs(4)));
        assert_eq!(
            Failure::from(&Error::from(silent)).message,
            "cannot reach the address pools: GET ippools kube-system/172.23.0.0-24 at https://api: no answer within 4.0 s"
        );
    }
}
