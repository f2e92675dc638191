//! `/proc/sys/net/ipv6`: the settings of a link that no netlink message reaches.
//!
//! The kernel resolves these paths by the namespace of the thread that opens them.

use std::io::ErrorKind;

use crate::protocol::Error;

/// One IPv6 setting of one link, e.g. `accept_ra` of `net1`.
#[derive(Debug, Clone)]
pub(crate) struct Sysctl {
    pub(crate) link: String,
    pub(crate) key: &'static str,
    pub(crate) value: &'static str,
    /// Whether the attachment works without it: most do not matter where the kernel has no IPv6.
    pub(crate) if_present: bool,
}

impl Sysctl {
    /// Writes the value, in the calling thread's namespace.
    ///
    /// A read-only `/proc` is no error while it already says what we want: some runtimes mount it so.
    pub(crate) fn apply(self) -> Result<(), Error> {
        let path = format!("/proc/sys/net/ipv6/conf/{}/{}", self.link, self.key);
        match std::fs::write(&path, self.value) {
            Ok(()) => Ok(()),
            Err(cause) if cause.kind() == ErrorKind::NotFound && self.if_present => Ok(()),
            Err(_) if std::fs::read_to_string(&path).is_ok_and(|now| now.trim() == self.value) => Ok(()),
            Err(cause) => Err(Error::io(format!("write {} to {path}", self.value), &cause)),
        }
    }
}
