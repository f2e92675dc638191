//! Whether this node needs to know the pools and the reservations.
//!
//! A watch costs the server an event for each ADD of any node, and each agent would pay for those of all others. So a node that has
//! no address watches nothing. The first operation that needs the objects lists them, and the watches then last for some minutes:
//! pods of a node come and go together.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::kubernetes::{Shared, lock};

/// So long after the last need the watches end, if the node has no address.
pub(crate) const IDLE: Duration = Duration::from_secs(300);
/// So often a node without an address looks whether that is still so: a restore of etcd may have brought back what was released.
const LOOK_AGAIN: Duration = Duration::from_secs(6 * 3600);
/// Between two looks whether all was read.
const READING: Duration = Duration::from_millis(500);

/// What this node needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Need {
    /// To read all objects once: what an earlier agent of this node left behind has to be found.
    #[default]
    Once,
    /// To know them, as of this moment.
    Since(Instant),
    /// Nothing.
    Nothing,
}

impl Shared {
    /// An operation needs the objects now.
    pub(crate) fn need(&self) {
        self.needed.send_replace(Need::Since(Instant::now()));
    }

    pub(crate) fn is_needed(&self) -> bool {
        *self.needed.borrow() != Need::Nothing
    }

    /// Whether the node has an address, or is about to get one, as far as is known here.
    fn has_addresses(&self) -> bool {
        let cache = lock(&self.cache);
        cache.reservations.iter().any(|(_, _, seen)| seen.node() == &*self.node)
            || lock(&self.pending).pools().next().is_some()
            || lock(&self.attachments).has_any()
    }
}

/// Ends the need, and looks again now and then, for ever.
pub(crate) async fn judge(shared: Arc<Shared>) {
    let mut needed = shared.needed.subscribe();
    loop {
        let need = *needed.borrow_and_update();
        match need {
            Need::Once => {
                if !shared.watches.borrow().are_read() {
                    sleep(READING).await;
                    continue;
                }
            }
            Need::Since(last) => {
                tokio::select! {
                    () = sleep_until(last + IDLE) => {}
                    _ = needed.changed() => continue,
                }
            }
            Need::Nothing => {
                let pause = shared.jitter.spread(LOOK_AGAIN);
                if timeout(pause, needed.changed()).await.is_err() {
                    shared.needed.send_replace(Need::Once);
                }
                continue;
            }
        }
        if shared.has_addresses() {
            shared.need();
        } else {
            shared.needed.send_if_modified(|now| {
                // Unless an operation has begun meanwhile.
                let is_over = *now == need;
                if is_over {
                    *now = Need::Nothing;
                }
                is_over
            });
        }
    }
}
