//! Why the agent's pools could not be had.

use std::io;
use std::path::PathBuf;

use crate::error::StoreError;
use crate::wire::{Failure, VERSION};

/// A failure of the cluster's store as a plugin sees it, by what a caller can do about it.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Nobody answers at the socket. Nothing was asked.
    #[error("node agent at {}: cannot connect", socket.display())]
    Away {
        /// The agent's socket.
        socket: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The agent was asked and gave no answer that counts. It may have done it, or do it still.
    #[error("node agent at {}: asked to {attempt}, it gave no valid answer", socket.display())]
    Unanswered {
        /// The agent's socket.
        socket: PathBuf,
        /// What it was asked to do.
        attempt: &'static str,
        /// The system's reason, or what is wrong with the answer.
        source: io::Error,
    },
    /// The agent speaks another version: update the older of the two.
    #[error("node agent at {}: it speaks version {theirs} of the protocol, this plugin {VERSION}", socket.display())]
    Version {
        /// The agent's socket.
        socket: PathBuf,
        /// Its version.
        theirs: u32,
    },
    /// The agent's own answer: it did not do what it was asked to.
    #[error("node agent at {}", socket.display())]
    Failed {
        /// The agent's socket.
        socket: PathBuf,
        /// Its words.
        #[source]
        failure: Failure,
    },
    /// The call is longer than agents read. Nothing was asked.
    #[error(
        "the call to the node agent has {length} bytes, at most {limit} are read; ask for fewer ranges and addresses"
    )]
    TooLong {
        /// Bytes it has.
        length: usize,
        /// Bytes it may have.
        limit: usize,
    },
    /// The directory of tombstones is in a bad way.
    #[error(transparent)]
    Tombstones(#[from] StoreError),
    /// The agent did not confirm a release, and no tombstone could be written.
    #[error("addresses are not released ({cause}), and that cannot be noted for later")]
    Unreleased {
        /// Why the agent did not confirm it.
        cause: Box<RemoteError>,
        /// Why there is no tombstone.
        source: StoreError,
    },
}

impl RemoteError {
    /// Whether a claim that failed so reserved nothing, or the agent itself gives back what it did.
    pub fn is_clean(&self) -> bool {
        matches!(self, Self::Away { .. } | Self::Failed { .. } | Self::TooLong { .. })
    }
}
