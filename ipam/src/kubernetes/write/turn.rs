//! One at a time per attachment: a claim, a release and the replay of a release must not cross each other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::OwnedMutexGuard;

use crate::kubernetes::lock;
use crate::wire::Attachment;

type Mutexes = HashMap<Attachment, Arc<tokio::sync::Mutex<()>>>;

/// The attachments that are at work.
#[derive(Debug, Default, Clone)]
pub(crate) struct Turns(Arc<Mutex<Mutexes>>);

/// The turn of one attachment, until dropped.
#[derive(Debug)]
pub struct Turn {
    attachment: Attachment,
    turns: Turns,
    held: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits, in order of arrival, until nobody else works for `attachment`.
    pub(crate) async fn turn(&self, attachment: &Attachment) -> Turn {
        let mutex = lock(&self.0).entry(attachment.clone()).or_default().clone();
        // Made before waiting: a waiter that is dropped tidies up, too.
        let mut turn = Turn { attachment: attachment.clone(), turns: self.clone(), held: None };
        turn.held = Some(mutex.lock_owned().await);
        turn
    }
}

impl Turn {
    /// Whose turn it is.
    pub fn attachment(&self) -> &Attachment {
        &self.attachment
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = lock(&self.turns.0);
        self.held = None;
        // Those who wait hold the mutex, too.
        if turns.get(&self.attachment).is_some_and(|mutex| Arc::strong_count(mutex) == 1) {
            turns.remove(&self.attachment);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const BRIEFLY: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_per_attachment_and_nothing_is_left() {
        let turns = Turns::default();
        let a = Attachment { container_id: "a".into(), ifname: "net1".into() };
        let b = Attachment { ifname: "net2".into(), ..a.clone() };
        let first = turns.turn(&a).await;
        let _other = turns.turn(&b).await;
        let mut second = Box::pin(turns.turn(&a));
        assert!(timeout(BRIEFLY, &mut second).await.is_err());
        drop(first);
        let second = second.await;
        // One that no longer wants its turn does not keep it.
        let mut third = Box::pin(turns.turn(&a));
        assert!(timeout(BRIEFLY, &mut third).await.is_err());
        drop(third);
        drop((second, _other));
        assert!(lock(&turns.0).is_empty());
    }
}
