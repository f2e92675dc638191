//! Taking steps back, and looking whether that has worked.

use std::fmt;
use std::time::Duration;

use octavia_bridge_ipam::causes::chain;
use octavia_bridge_netlink::Netlink;
use tokio::time::sleep;

use super::{difference, kernel, observe};
use crate::node::desired::Desired;
use crate::node::observed::{DefaultRoute, Observed};
use crate::node::plan::Planned;

/// Pause before what could not be taken back is tried once more: an IPv6 address that is given back is no source address
/// until duplicate address detection has ended.
const PAUSE: Duration = Duration::from_secs(2);

/// How the taking back went.
#[derive(Debug)]
pub(crate) struct Undone {
    failures: Vec<String>,
    /// What differs from before, read from the kernel; why that could not be read, if so.
    differences: Result<Vec<String>, String>,
    /// Default routes that were there before.
    lost: Vec<DefaultRoute>,
}

impl Undone {
    /// Default routes that did not come back.
    pub(super) fn lost(&self) -> &[DefaultRoute] {
        &self.lost
    }

    /// Everything is as it was before, as was read afterwards.
    pub(crate) fn is_complete(&self) -> bool {
        self.differences.as_ref().is_ok_and(Vec::is_empty)
    }
}

impl fmt::Display for Undone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.differences {
            Ok(differences) if differences.is_empty() => {
                return f.write_str("everything was put back as it was");
            }
            Ok(differences) => write!(f, "the node is not as it was: {}", differences.join("; "))?,
            Err(why) => write!(f, "whether everything is as it was could not be read: {why}")?,
        }
        if !self.failures.is_empty() {
            write!(f, "; what could not be put back: {}", self.failures.join("; "))?;
        }
        Ok(())
    }
}

/// Takes back `done` and compares with what was there before.
pub(super) async fn put_back(
    netlink: &Netlink,
    desired: &Desired,
    done: &[Planned],
    before: &Observed,
) -> Undone {
    let failures = take_back(netlink, done).await;
    let mut lost = Vec::new();
    let differences = match observe(netlink, desired).await {
        Ok(now) => {
            lost.extend(before.defaults.iter().filter(|one| !now.defaults.contains(one)).cloned());
            Ok(difference::between(before, &now, done))
        }
        Err(error) => Err(chain(&error)),
    };
    Undone { failures, differences, lost }
}

/// Takes back `done`, the last first. Returns what could not be taken back, each with its cause.
pub(crate) async fn take_back(netlink: &Netlink, done: &[Planned]) -> Vec<String> {
    let mut again = Vec::new();
    for planned in done.iter().rev() {
        if let Err(error) = kernel::take_back(netlink, planned).await {
            tracing::debug!("{}: {}", planned.undo, chain(&error));
            again.push(planned);
        }
    }
    if !again.is_empty() {
        sleep(PAUSE).await;
    }
    let mut failures = Vec::new();
    for planned in again {
        if let Err(error) = kernel::take_back(netlink, planned).await {
            failures.push(format!("{}: {}", planned.undo, chain(&error)));
        }
    }
    failures
}
