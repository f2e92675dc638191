//! The error object a runtime receives, and the codes in it.

use octavia_bridge_ipam::StoreError;
use octavia_bridge_ipam::causes::chain;
use octavia_bridge_ipam::conf::{ConfError, FlatFileError};
use octavia_bridge_ipam::document::FieldError;
use octavia_bridge_ipam::remote::RemoteError;
use octavia_bridge_ipam::wire::Kind;

/// Error codes: 1–99 are the specification's ("Well-known Error Codes"), from 100 on they are ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// The configuration's `cniVersion` is not one we speak, or too old for the verb.
    IncompatibleVersion,
    /// A field asks for something this plugin does not do. The message names field and value.
    UnsupportedField,
    /// The container does not exist; the runtime need not call DEL.
    UnknownContainer,
    /// A `CNI_*` variable is missing or wrong.
    InvalidEnvironment,
    /// A file could not be read or written.
    Io,
    /// Stdin is no JSON.
    Decode,
    /// A field of the configuration is wrong.
    InvalidConfig,
    /// `CNI_NETNS` is the namespace the plugin itself runs in.
    OwnNamespace,
    /// Nothing is wrong with the request; the same call may succeed later.
    TryAgainLater,
    /// STATUS: an ADD would fail now.
    NotAvailable,
    /// The kernel refused a change.
    Kernel,
    /// No address is free.
    Exhausted,
    /// A requested address has another holder.
    AddressHeld,
    /// This container and interface are attached already.
    AlreadyAttached,
    /// CHECK found a difference.
    CheckFailed,
    /// A delegated IPAM plugin broke the protocol.
    Delegate,
    /// A pool document cannot be trusted.
    PoolCorrupt,
    /// A defect of this program.
    Internal,
    /// A delegated plugin's own code, passed through.
    Foreign(u32),
}

impl Code {
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::IncompatibleVersion => 1,
            Self::UnsupportedField => 2,
            Self::UnknownContainer => 3,
            Self::InvalidEnvironment => 4,
            Self::Io => 5,
            Self::Decode => 6,
            Self::InvalidConfig => 7,
            Self::OwnNamespace => 8,
            Self::TryAgainLater => 11,
            Self::NotAvailable => 50,
            Self::Kernel => 100,
            Self::Exhausted => 101,
            Self::AddressHeld => 102,
            Self::AlreadyAttached => 103,
            Self::CheckFailed => 104,
            Self::Delegate => 105,
            Self::PoolCorrupt => 106,
            Self::Internal => 999,
            Self::Foreign(number) => number,
        }
    }
}

/// What went wrong, as the runtime's user will read it: kubelet shows `msg` and `details` in the pod's events.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Error {
    pub(crate) code: Code,
    /// One line: what was attempted, on which object, and why it failed.
    pub(crate) msg: String,
    /// What else helps: the remedy, further failures while undoing.
    pub(crate) details: Option<String>,
}

impl Error {
    pub(crate) fn new(code: Code, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: None }
    }

    /// Appends to the details, so that an undo's failures never hide the first cause.
    pub(crate) fn with_details(mut self, details: impl Into<String>) -> Self {
        let details = details.into();
        self.details = Some(match self.details {
            Some(before) => format!("{before}; {details}"),
            None => details,
        });
        self
    }

    /// The details for the runtime's user. Whatever has to be waited for, they say where to look from a workstation.
    pub(crate) fn shown_details(&self) -> Option<String> {
        let names_a_command = self.details.as_ref().is_some_and(|details| details.contains("kubectl "));
        if self.code != Code::TryAgainLater || names_a_command {
            return self.details.clone();
        }
        self.clone().with_details(REMEDY_AGENT).details
    }

    /// A kernel refusal, with what it was about in front.
    pub(crate) fn kernel(object: impl std::fmt::Display, cause: &octavia_bridge_netlink::Error) -> Self {
        Self::new(Code::Kernel, format!("{object}: {}", chain(cause)))
    }

    /// A file that could not be handled; `attempt` says what was tried, on which path.
    pub(crate) fn io(attempt: impl std::fmt::Display, cause: &std::io::Error) -> Self {
        Self::new(Code::Io, format!("{attempt}: {cause}"))
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.msg)?;
        match &self.details {
            Some(details) => write!(f, "; {details}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl From<FieldError> for Error {
    fn from(error: FieldError) -> Self {
        Self::new(Code::InvalidConfig, error.to_string())
    }
}

impl From<ConfError> for Error {
    fn from(error: ConfError) -> Self {
        match error {
            ConfError::Field(error) => error.into(),
            ConfError::Unsupported(error) => Self::new(Code::UnsupportedField, error.to_string()),
        }
    }
}

impl From<FlatFileError> for Error {
    fn from(error: FlatFileError) -> Self {
        let code = match error {
            FlatFileError::Unreadable { .. } => Code::Io,
            FlatFileError::Malformed { .. } => Code::InvalidConfig,
        };
        Self::new(code, chain(&error))
    }
}

/// Never a larger `range_end`: on Octavia's network Neutron hands out the ports above it.
const REMEDY_EXHAUSTED: &str = "free leaked addresses (`octavia-bridge-agent pools` lists them), remove unneeded excludes, or add \
     another range below range_start that Neutron does not allocate from: docs/troubleshooting.md, \"Range full\"";

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let code = match error {
            StoreError::Exhausted { .. } => Code::Exhausted,
            StoreError::Held { .. } => Code::AddressHeld,
            StoreError::Corrupt { .. } => Code::PoolCorrupt,
            StoreError::Locked { .. } => Code::TryAgainLater,
            StoreError::Io { .. } => Code::Io,
            StoreError::Incomplete { ref failures, .. } => {
                return failures.iter().find(|f| matches!(f, StoreError::Corrupt { .. })).map_or_else(
                    || Self::new(Code::Io, error.to_string()),
                    |_| Self::new(Code::PoolCorrupt, error.to_string()),
                );
            }
        };
        let remedy = match code {
            Code::Exhausted => Some(REMEDY_EXHAUSTED),
            Code::PoolCorrupt => Some("repair the pool by hand, or remove it once no pod uses it"),
            _ => None,
        };
        let error = Self::new(code, chain(&error));
        remedy.map_or(error.clone(), |remedy| error.with_details(remedy))
    }
}

impl From<RemoteError> for Error {
    fn from(error: RemoteError) -> Self {
        let error = match error {
            RemoteError::Tombstones(cause) => return cause.into(),
            other => other,
        };
        let (code, remedy) = match &error {
            RemoteError::Away { .. } => (
                Code::TryAgainLater,
                "check the octavia-bridge-agent pod on this node (kubectl get pods --namespace kube-system --output wide), or \
                 set \"agentSocket\" to its socket; it allocates the addresses (ipam.datastore is \"kubernetes\" by default)",
            ),
            RemoteError::Unanswered { .. } => (Code::TryAgainLater, REMEDY_AGENT),
            RemoteError::Version { .. } => (Code::TryAgainLater, REMEDY_VERSION),
            RemoteError::Failed { failure, .. } => match failure.kind {
                Kind::Version => (Code::TryAgainLater, REMEDY_VERSION),
                Kind::Malformed => {
                    (Code::Internal, "plugin and agent do not understand each other; report this as a defect")
                }
                Kind::Exhausted => (Code::Exhausted, REMEDY_EXHAUSTED),
                Kind::Held => (Code::AddressHeld, "request another address, or delete the pod that holds it"),
                Kind::Corrupt => {
                    (Code::PoolCorrupt, "repair the pool by hand, or remove it once no pod uses it")
                }
                Kind::Unsupported => (Code::UnsupportedField, "change the configuration"),
                Kind::Unavailable => (Code::TryAgainLater, REMEDY_AGENT),
            },
            RemoteError::TooLong { .. } => (Code::UnsupportedField, "change the configuration"),
            RemoteError::Tombstones(_) | RemoteError::Unreleased { .. } => (Code::Io, "DEL may be repeated"),
        };
        Self::new(code, chain(&error)).with_details(remedy)
    }
}

/// From the workstation: who reads this in a pod's event is seldom on the node.
const REMEDY_AGENT: &str = "see the log and the readiness of this node's agent: kubectl logs --namespace kube-system POD; kubectl exec \
     --namespace kube-system POD -- /octavia-bridge-agent health ready";

const REMEDY_VERSION: &str =
    "update the older of the two: `octavia-bridge-agent install` installs the plugin of its version";

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::PathBuf;
    use std::time::Duration;

    use octavia_bridge_ipam::wire::Failure;

    use crate::protocol::Version;
    use crate::protocol::reply::error_object;

    use super::*;

    #[test]
    fn what_may_succeed_later_says_where_to_look_from_a_workstation() {
        let socket = || PathBuf::from("/run/octavia-bridge/agent.sock");
        let failed = |kind| {
            let failure = Failure { kind, message: "no".into() };
            RemoteError::Failed { socket: socket(), failure }.into()
        };
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let later = |text: &str| Error::new(Code::TryAgainLater, text);
        let errors: [Error; 9] = [
            StoreError::Locked { path: socket(), waited: Duration::from_secs(1) }.into(),
            RemoteError::Away { socket: socket(), source: refused() }.into(),
            RemoteError::Unanswered { socket: socket(), attempt: "x", source: refused() }.into(),
            RemoteError::Version { socket: socket(), theirs: 2 }.into(),
            failed(Kind::Version),
            failed(Kind::Unavailable),
            crate::bridge::full("octbr"),
            later("the bridge is down").with_details("bring it up on the node"),
            later("an IPAM plugin did not answer"),
        ];
        for error in errors {
            assert_eq!(error.code, Code::TryAgainLater, "{error}");
            let object = error_object(&error, Version::NEWEST);
            let details = object["details"].as_str().unwrap();
            let own = error.details.clone().unwrap_or_default();
            assert!(details.starts_with(&own), "{details}");
            assert_eq!(
                details.matches("kubectl get pods").count() + details.matches("kubectl logs").count(),
                1,
                "{details}"
            );
            assert!(details.contains("--namespace kube-system"), "{details}");
            assert!(!details.contains("remove"), "{details}");
        }
        assert_eq!(Error::new(Code::Io, "x").shown_details(), None);
        assert_eq!(Error::new(Code::Foreign(11), "x").shown_details(), None);
    }
}
