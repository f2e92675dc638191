//! Threads that talk to the API, so that it can be done from any test, in a runtime or not.

use std::future::Future;
use std::sync::{OnceLock, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// No request of the harness takes longer than this, on however busy a machine.
const DEADLINE: Duration = Duration::from_secs(90);

/// A runtime on a thread of its own. Its tasks end when this is dropped.
#[derive(Debug)]
pub(crate) struct Background {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    pub(crate) fn new(name: &str) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("create a runtime");
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let work = move || {
            // Either way it is over: told to stop, or the owner is gone.
            runtime.block_on(stopped).ok();
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(work).expect("start a thread");
        Self { handle, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(work);
    }

    /// Does `work` on this thread, and waits for it.
    ///
    /// # Panics
    /// When it panics, or is not done by the deadline.
    #[track_caller]
    pub(crate) fn run<T: Send + 'static>(
        &self,
        deadline: Duration,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let (done, result) = mpsc::channel();
        self.spawn(async move {
            // Nobody listens any more when the deadline has passed, which has been reported then.
            done.send(work.await).ok();
        });
        result
            .recv_timeout(deadline)
            .unwrap_or_else(|e| panic!("work with the API, within {deadline:?}: {e}"))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Does `work` on the harness's thread, and waits for it.
///
/// # Panics
/// When it panics, or is not done by the deadline.
#[track_caller]
pub(crate) fn run<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    static DRIVER: OnceLock<Background> = OnceLock::new();
    DRIVER.get_or_init(|| Background::new("cluster-harness")).run(DEADLINE, work)
}
