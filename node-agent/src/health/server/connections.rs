//! Connections at once, and which of them goes when there are too many.
//!
//! A client that means it sends its request with the next packet, and takes its answer at once. So only a connection on which
//! nothing has happened for half a second makes room for another. Where all are younger, a new one waits, with those behind
//! it in the kernel's queue: a process that only opens connections then waits as well, and is slowed down to the pace at which
//! they go. Had the oldest to go whatever its age, three such processes would cut every other client's connection before its
//! request was read.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use octavia_bridge_cluster::lock;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

/// Connections at once. As many silent ones go in [`SILENT`], which is the pace of those who only open them.
pub(super) const MOST: usize = 256;
/// From this on, a connection without a request, or with one that was answered and the answer not taken, may be cut.
pub(super) const SILENT: Duration = Duration::from_millis(500);

/// Those that are open.
#[derive(Debug, Default)]
pub(super) struct Connections {
    open: Vec<(AbortHandle, Activity)>,
    tasks: JoinSet<()>,
}

/// When something happened last on a connection: it was accepted, or a whole request was read.
#[derive(Debug, Clone)]
pub(super) struct Activity(Arc<Mutex<Instant>>);

impl Activity {
    /// A whole request was read.
    pub(super) fn now(&self) {
        *lock(&self.0) = Instant::now();
    }

    fn last(&self) -> Instant {
        *lock(&self.0)
    }
}

impl Connections {
    /// Begins with a new connection, as soon as there is room for it.
    pub(super) async fn add<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        serve: impl FnOnce(Activity) -> F,
    ) {
        self.make_room().await;
        let activity = Activity(Arc::new(Mutex::new(Instant::now())));
        let task = self.tasks.spawn(serve(activity.clone()));
        self.open.push((task, activity));
    }

    async fn make_room(&mut self) {
        loop {
            while self.tasks.try_join_next().is_some() {}
            self.open.retain(|(task, _)| !task.is_finished());
            if self.open.len() < MOST {
                return;
            }
            let all = self.open.iter().enumerate();
            let longest_silent = all.map(|(place, (_, activity))| (activity.last(), place)).min();
            let Some((last, place)) = longest_silent else { return };
            let cut_from = last + SILENT;
            if Instant::now() >= cut_from {
                self.open.swap_remove(place).0.abort();
                return;
            }
            tokio::select! {
                _ = self.tasks.join_next() => {}
                () = sleep_until(cut_from) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::oneshot;
    use tokio::time::{advance, timeout};

    use super::*;

    /// A full house, of which each connection says when it is cut.
    async fn full() -> (Connections, Vec<oneshot::Receiver<()>>) {
        let mut connections = Connections::default();
        let mut cut = Vec::new();
        for _ in 0..MOST {
            let (alive, ended) = oneshot::channel();
            connections
                .add(|_| async move {
                    let _alive = alive;
                    pending::<()>().await;
                })
                .await;
            cut.push(ended);
        }
        (connections, cut)
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_one_waits_until_another_has_been_silent_for_half_a_second() {
        let (mut connections, mut cut) = full().await;
        let began = Instant::now();
        connections.add(|_| pending()).await;
        assert_eq!(began.elapsed(), SILENT);
        let last = cut.split_off(1);
        assert!(cut.remove(0).await.is_err(), "the first one was cut");
        for mut other in last {
            assert_eq!(other.try_recv(), Err(oneshot::error::TryRecvError::Empty), "another was cut, too");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_just_sent_its_request_is_not_cut() {
        let (mut connections, mut cut) = full().await;
        advance(SILENT).await;
        let (_, first) = &connections.open[0];
        first.now();
        connections.add(|_| pending()).await;
        assert_eq!(cut[0].try_recv(), Err(oneshot::error::TryRecvError::Empty));
        assert!(cut.remove(1).await.is_err(), "the one behind it was cut");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_ends_makes_room_at_once() {
        let (mut connections, _cut) = full().await;
        connections.open[7].0.abort();
        timeout(SILENT / 2, connections.add(|_| pending())).await.expect("room");
    }
}
