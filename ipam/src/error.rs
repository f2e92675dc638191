//! Why a store could not do what was asked.

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::allocate::{Exhausted, Refusal};
use crate::request::Holder;

/// A failure of a pool store, by what a caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A range has no free address: retry later, or widen the range.
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
    /// A pool's document is not what its name says. It is left as it is; somebody has to look.
    #[error("pool document {} is corrupt or foreign and was left alone: {why}", path.display())]
    Corrupt {
        /// The document.
        path: PathBuf,
        /// What is wrong in it.
        why: String,
    },
    /// Somebody else held the lock until the deadline.
    #[error("lock {} was held by another process for {} ms", path.display(), waited.as_millis())]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// How long was waited.
        waited: Duration,
    },
    /// The file system refused; the reason is the source.
    #[error("cannot {attempt} {}", path.display())]
    Io {
        /// What was attempted, a verb phrase.
        attempt: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Some pools were dealt with, others could not be.
    #[error("released {released} addresses, but not everywhere: {}", list(failures))]
    Incomplete {
        /// Addresses released in the other pools.
        released: usize,
        /// What stood in the way, one failure per pool.
        failures: Vec<StoreError>,
    },
}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Exhausted(details) => Self::Exhausted(details),
            Refusal::Held { address, holder } => Self::Held { address, holder },
        }
    }
}

/// The failures with their causes: as a list they cannot be anybody's `source`.
fn list(failures: &[StoreError]) -> String {
    let mut text = String::new();
    for failure in failures {
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(&failure.to_string());
        if let Some(cause) = failure.source() {
            text.push_str(": ");
            text.push_str(&cause.to_string());
        }
    }
    text
}
