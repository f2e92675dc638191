//! Waiting for a link to reach a state.

use std::time::Duration;

use nix::errno::Errno;
use tokio::time::{Instant, timeout_at};

use crate::{Error, Event, EventGroups, Link, LinkId, Netlink, Result};

/// Longest time between two readings. The kernel changes some values without an event, and a slow listener
/// may lose events.
const RE_READ: Duration = Duration::from_millis(100);

impl Netlink {
    /// Waits until `until` holds for the link, and returns the link as it was then. Usually it holds at once,
    /// which costs one reading.
    ///
    /// # Errors
    /// [`Error::Timeout`] with the link as last read; [`Error::is_not_found`] as soon as there is no
    /// such link, since its index does not come back; every other [`Error`] of a request.
    pub async fn wait_for_link(
        &self,
        by: impl Into<LinkId<'_>>,
        timeout: Duration,
        until: impl Fn(&Link) -> bool,
    ) -> Result<Link> {
        let deadline = Instant::now() + timeout;
        let mut link = self.present(by.into()).await?;
        if until(&link) {
            return Ok(link);
        }
        let index = link.index;
        // Subscribes first and then reads again: otherwise a change between the reading above and the
        // subscription would be lost.
        let groups = EventGroups { links: true, ..EventGroups::default() };
        let mut events = self.events(groups).await?;
        loop {
            link = self.present(index.into()).await?;
            if until(&link) {
                return Ok(link);
            }
            let now = Instant::now();
            if now >= deadline {
                let attempt = format!("wait for link {index} ({})", link.name);
                return Err(Error::Timeout { attempt, after: timeout, link: Some(Box::new(link)) });
            }
            // A passed deadline, here or of the next reading, is not an error.
            if let Ok(changed) = timeout_at(deadline.min(now + RE_READ), about(&mut events, index)).await {
                changed?;
            }
        }
    }

    async fn present(&self, by: LinkId<'_>) -> Result<Link> {
        self.link(by).await?.ok_or_else(|| Error::Refused {
            attempt: format!("wait for {by}"),
            errno: Errno::ENODEV as i32,
            message: None,
        })
    }
}

/// Returns at the next event that may concern the link.
async fn about(events: &mut crate::Events, index: u32) -> Result<()> {
    loop {
        match events.next().await? {
            Event::Link(link) if link.index != index => {}
            Event::LinkGone { index: gone, .. } | Event::Port { index: gone } if gone != index => {}
            _ => return Ok(()),
        }
    }
}
