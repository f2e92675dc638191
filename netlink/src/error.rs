//! The crate's one error type. Variants differ by what a caller can do about them.

use std::fmt;
use std::io;
use std::time::Duration;

use nix::errno::Errno;

use crate::Link;

/// Result of every fallible function of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure. `attempt` always states the action and the object, such as
/// `create VLAN enp6s0.24 on link 2`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value that the kernel would refuse or misread; nothing was sent.
    #[error("{attempt}: {reason}")]
    Invalid {
        /// The intended action.
        attempt: String,
        /// The wrong value and the remedy.
        reason: String,
    },

    /// The kernel refused.
    #[error("{attempt}: {}", Refusal(*.errno, .message.as_deref()))]
    Refused {
        /// What was tried.
        attempt: String,
        /// Positive errno value.
        errno: i32,
        /// The kernel's extended-ACK text, if any. Texts differ between kernel versions: print them, but
        /// decide by `errno`.
        message: Option<String>,
    },

    /// A deadline passed.
    #[error("{attempt}: {}", Lateness(*.after, .link.as_deref()))]
    Timeout {
        /// The awaited event.
        attempt: String,
        /// How long.
        after: Duration,
        /// The link as last read, if the caller waited for its state. It shows why the state was not reached
        /// (port still listening, carrier absent).
        link: Option<Box<Link>>,
    },

    /// The kernel changed the table during each of several dumps.
    #[error("{attempt}: the kernel's table changed during each of {rounds} readings")]
    Interrupted {
        /// The table.
        attempt: String,
        /// The number of attempts.
        rounds: u32,
    },

    /// The kernel's answer cannot be decoded.
    #[error("{attempt}: undecodable answer from the kernel: {detail}")]
    Undecodable {
        /// The attempted action, which the kernel may have done.
        attempt: String,
        /// Which part, and how it is malformed.
        detail: String,
    },

    /// A network namespace cannot be opened or entered.
    #[error("{attempt}")]
    Namespace {
        /// The attempted action, with the namespace's path.
        attempt: String,
        /// The operating system's reason.
        source: io::Error,
    },

    /// The netlink socket itself failed.
    #[error("{attempt}")]
    Connection {
        /// What was tried.
        attempt: String,
        /// The operating system's reason.
        source: io::Error,
    },
}

impl Error {
    /// The operating system's error number, if any.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            Self::Namespace { source, .. } | Self::Connection { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// The object exists already (`EEXIST`).
    #[must_use]
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(Errno::EEXIST as i32)
    }

    /// The object, or the link or namespace it would be on, does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        // Each table reports absence by another number: links ENODEV, routes ESRCH, addresses
        // EADDRNOTAVAIL, routing tables and paths ENOENT.
        const ABSENT: [Errno; 4] = [Errno::ENODEV, Errno::ENOENT, Errno::ESRCH, Errno::EADDRNOTAVAIL];
        self.errno().is_some_and(|errno| ABSENT.contains(&Errno::from_raw(errno)))
    }

    /// A gateway is reached by no address and no route (`ENETUNREACH`, for IPv6 `EHOSTUNREACH`).
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        self.errno()
            .is_some_and(|errno| [Errno::ENETUNREACH as i32, Errno::EHOSTUNREACH as i32].contains(&errno))
    }

    /// A deadline passed.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout { .. })
    }
}

/// `text (ENAME)`: the kernel's own words if there are any, else those of the errno.
struct Refusal<'a>(i32, Option<&'a str>);

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errno = Errno::from_raw(self.0);
        let text = self.1.unwrap_or_else(|| errno.desc());
        match errno {
            // nix has no name for it, because the number is newer than the crate: print the number.
            Errno::UnknownErrno => write!(f, "{text} (errno {})", self.0),
            known => write!(f, "{text} ({known:?})"),
        }
    }
}

/// `not so after 2s; last seen up, port listening`.
struct Lateness<'a>(Duration, Option<&'a Link>);

impl fmt::Display for Lateness<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(link) = self.1 else {
            return write!(f, "no answer from the kernel within {:?}", self.0);
        };
        write!(f, "not reached within {:?}; {} was last seen {}", self.0, link.name, link.operational)?;
        if let Some(port) = &link.port {
            write!(f, ", its bridge port {}", port.state)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(errno: i32, message: Option<&str>) -> Error {
        Error::Refused {
            attempt: "create VLAN enp6s0.24 on link 2".into(),
            errno,
            message: message.map(Into::into),
        }
    }

    #[test]
    fn the_kernels_words_come_first_and_the_errno_follows() {
        assert_eq!(
            refused(17, Some("8021q: VLAN device already exists")).to_string(),
            "create VLAN enp6s0.24 on link 2: 8021q: VLAN device already exists (EEXIST)"
        );
        assert_eq!(refused(17, None).to_string(), "create VLAN enp6s0.24 on link 2: File exists (EEXIST)");
        assert!(refused(524, None).to_string().ends_with("(errno 524)"));
    }

    #[test]
    fn callers_can_tell_existing_from_absent_from_late() {
        assert!(refused(17, None).is_exists());
        for errno in [2, 3, 19, 99] {
            assert!(refused(errno, None).is_not_found(), "{errno}");
        }
        assert!(!refused(17, None).is_not_found());
        assert!(!refused(95, None).is_exists());

        let late = Error::Timeout { attempt: "list links".into(), after: Duration::from_secs(5), link: None };
        assert!(late.is_timeout());
        assert_eq!(late.errno(), None);
        assert_eq!(late.to_string(), "list links: no answer from the kernel within 5s");
    }

    #[test]
    fn a_missing_namespace_counts_as_not_found() {
        let missing = Error::Namespace {
            attempt: "open network namespace /run/netns/x".into(),
            source: io::Error::from_raw_os_error(2),
        };
        assert!(missing.is_not_found());
        assert!(std::error::Error::source(&missing).is_some());
    }
}
