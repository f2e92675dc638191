//! Whether an attachment of this node still lives: then its addresses are in use.
//!
//! The pair tells, and not the path of the namespace. A namespace lives on while a process, a file descriptor or another
//! mount holds it, whatever became of its path: `ip netns` may have covered /run/netns with a mount of its own
//! (containerd#3667), and the path of a process ends with the process. And paths and inode numbers are used again, also
//! both together; a pair's indexes are not.

use std::time::{Duration, Instant};

use octavia_bridge_netlink::{Link, LinkKind, Netlink, ask};

use crate::identity;
use crate::record::{Intent, Kept, Netns, Outcome, Record, Records};

/// How long the kernel may take to remove the pair of a namespace that has ended. More often than not it is done by the time
/// the next container of the pod comes.
const KERNEL_LAG: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(10);

impl Records {
    /// Whether the attachment still exists. Without an interface, whether any attachment of the container does. What cannot
    /// be told counts as alive.
    pub(crate) fn is_alive(&self, container_id: &str, ifname: &str) -> bool {
        self.is_alive_after(container_id, ifname, KERNEL_LAG)
    }

    /// The same for a caller that asks about many and must not wait for each: a pair that is about to go counts.
    pub(crate) fn is_alive_now(&self, container_id: &str, ifname: &str) -> bool {
        self.is_alive_after(container_id, ifname, Duration::ZERO)
    }

    fn is_alive_after(&self, container_id: &str, ifname: &str, lag: Duration) -> bool {
        if ifname.is_empty() {
            let Ok(all) = self.list() else { return true };
            return all.iter().any(|(id, name)| id == container_id && self.is_alive_after(id, name, lag));
        }
        match self.look(container_id, ifname) {
            // Without a record its writer was killed before it did anything, or the power went, and all links with it.
            Kept::Nothing => false,
            Kept::Strange => true,
            Kept::Record { record, locked } => {
                let Record { intent, outcome } = *record;
                match &intent.link {
                    // Another ADD or DEL is at it, so there may be a pair in a moment.
                    Some(_) => locked || pair_stays_after(&intent, outcome.as_ref(), lag),
                    // Other plugins made the links. Nothing is known of them, and nothing at all without a namespace.
                    None => intent.netns.as_ref().is_none_or(Netns::may_exist_unseen),
                }
            }
        }
    }
}

impl Records {
    /// Whether the attachment is provably gone: its namespace and, if this plugin made one, its pair. The namespace comes first,
    /// since there may be thousands of attachments to ask about, and asking for a link is dear.
    pub(crate) fn is_gone(&self, container_id: &str, ifname: &str) -> bool {
        let Kept::Record { record, locked: false } = self.look(container_id, ifname) else { return false };
        let Record { intent, outcome } = *record;
        let Some(netns) = &intent.netns else { return false };
        match &intent.link {
            None => !netns.may_exist_unseen(),
            Some(_) => !netns.may_exist() && !pair_is_here(&intent, outcome.as_ref()),
        }
    }
}

/// Whether there is a pair. One whose namespace has ended goes by itself, and is waited for where the path says so.
pub(crate) fn pair_stays(intent: &Intent, outcome: Option<&Outcome>) -> bool {
    pair_stays_after(intent, outcome, KERNEL_LAG)
}

/// Whether there is a pair now, be it about to go. What cannot be told counts as there.
pub(crate) fn pair_is_here(intent: &Intent, outcome: Option<&Outcome>) -> bool {
    ask(async |host| pair_is_there(host, intent, outcome).await).unwrap_or(true)
}

fn pair_stays_after(intent: &Intent, outcome: Option<&Outcome>, lag: Duration) -> bool {
    let deadline = Instant::now() + lag;
    loop {
        let there = pair_is_here(intent, outcome);
        let ending = intent.netns.as_ref().and_then(Netns::open).is_none();
        if !there || !ending || Instant::now() >= deadline {
            return there;
        }
        std::thread::sleep(PAUSE);
    }
}

async fn pair_is_there(
    host: &Netlink,
    intent: &Intent,
    outcome: Option<&Outcome>,
) -> octavia_bridge_netlink::Result<bool> {
    let (id, ifname) = (intent.container_id.as_str(), intent.ifname.as_str());
    let named = host.link(identity::host_link(id, ifname).as_str()).await?;
    if named.is_some_and(|link| identity::is_host_link(&link, id, ifname)) {
        return Ok(true);
    }
    let Some(outcome) = outcome else { return Ok(false) };
    let renamed = host.link(outcome.host_link).await?;
    if renamed.is_some_and(|link| identity::is_host_link(&link, id, ifname)) {
        return Ok(true);
    }
    // The host's end may have been moved to another namespace.
    let Some(netns) = intent.netns.as_ref().and_then(Netns::open) else { return Ok(false) };
    Ok(pod_end(&Netlink::open_in(&netns).await?, outcome).await?.is_some())
}

/// The pod's end of the pair, if it is in this namespace. The index of its other end tells it from a newcomer's in a namespace
/// that got the same inode.
pub(crate) async fn pod_end(
    pod: &Netlink,
    outcome: &Outcome,
) -> octavia_bridge_netlink::Result<Option<Link>> {
    let link = pod.link(outcome.pod_link).await?;
    Ok(link.filter(|link| link.kind == LinkKind::Veth && link.parent == Some(outcome.host_link)))
}
