//! `/proc/sys/net/ipv6`: the settings of a link that no netlink message reaches.
//!
//! The kernel resolves these paths by the namespace of the thread that opens them.

use std::io::ErrorKind;
use std::path::Path;

use ipnet::IpNet;

use crate::protocol::{Code, Error};

const IPV6: &str = "/proc/sys/net/ipv6";

/// One IPv6 setting of one link, e.g. `accept_ra` of `net1`.
#[derive(Debug, Clone)]
pub(crate) struct Sysctl {
    pub(crate) link: String,
    pub(crate) key: &'static str,
    pub(crate) value: &'static str,
    /// Whether the attachment does not work without it. All others harden it, and a pod is worth more than they are.
    pub(crate) needed: bool,
}

impl Sysctl {
    /// Writes the value, in the calling thread's namespace. A setting that is not needed and cannot be written is a warning, since
    /// some runtimes mount `/proc/sys` read-only; where the kernel has no IPv6 it does not matter at all.
    pub(crate) fn apply(self) -> Result<(), Error> {
        let path = format!("{IPV6}/conf/{}/{}", self.link, self.key);
        let Err(cause) = std::fs::write(&path, self.value) else { return Ok(()) };
        if std::fs::read_to_string(&path).is_ok_and(|now| now.trim() == self.value) {
            return Ok(());
        }
        if self.needed {
            return Err(Error::io(format!("write {} to {path}", self.value), &cause).with_details(
                "the pod's IPv6 addresses need it: mount /proc/sys writable where the plugin runs, or leave IPv6 on in pods",
            ));
        }
        if cause.kind() != ErrorKind::NotFound {
            tracing::warn!("{path} stays as it is: cannot write {}: {cause}", self.value);
        }
        Ok(())
    }
}

/// Refuses IPv6 addresses where the kernel was booted without IPv6, before anything is made.
pub(crate) fn require_kernel_for(addresses: &[IpNet]) -> Result<(), Error> {
    let first = addresses.iter().find(|address| matches!(address, IpNet::V6(_)));
    match first {
        Some(address) if !Path::new(IPV6).exists() => Err(Error::new(
            Code::UnsupportedField,
            format!("ipam: {address} is IPv6, and this node's kernel has no IPv6 ({IPV6} does not exist)"),
        )
        .with_details("boot the node without ipv6.disable=1, or remove the IPv6 range")),
        _ => Ok(()),
    }
}
