//! The thread that keeps the links, and what happens when it ends.
//!
//! What it reads was written by others, and a mistake in reading it must not take their addresses away from pods. So it
//! has a thread and a runtime of its own. When it panics, it begins anew after a pause. When it hangs, that is said, and
//! the rest goes on: a thread cannot be ended from outside, and what it could hang in, a disk or the kernel, would hold
//! up its successor as well.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use octavia_bridge_ipam::causes::chain;
use tokio::runtime::Builder;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, timeout};

use super::keeper;
use super::ports::Told;
use super::standing::Standing;
use crate::cluster::broker::Access;
use crate::health::{Health, Line, Pulse, Report};
use crate::node::apply::Targets;
use crate::node::source::Input;
use crate::node::state::State;

/// Its name, and the beginning of the names of threads that work for it.
const THREAD: &str = "links";
/// As much as the main thread has.
const STACK: usize = 8 << 20;
/// First and longest pause before it begins anew.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// After so long without a panic the next one is a first one.
const CALM: Duration = Duration::from_secs(300);

/// What it has to do, with what it shares with the rest of the agent.
pub(crate) struct Job {
    pub(crate) state: State,
    pub(crate) state_dir: PathBuf,
    pub(crate) nmstate_lock: PathBuf,
    pub(crate) input: Input,
    pub(crate) targets: Targets,
    /// Between two full readings.
    pub(crate) interval: Duration,
    /// Where the policies of a cluster are, and where to tell how they stand.
    pub(crate) api: Option<(Access, Report)>,
    pub(crate) standing: Standing,
    pub(crate) ports: Told,
    /// Pods' ports are looked at only.
    pub(crate) leave_ports: bool,
    /// Names of the links that the policy creates, for files of other programs.
    pub(crate) made: watch::Sender<Vec<String>>,
    pub(crate) health: Arc<Health>,
    pub(crate) stop: watch::Sender<bool>,
    /// The files are to be read again.
    pub(crate) reload: Notify,
}

/// Whether a panic in a thread of this name ends nothing but that thread.
pub(crate) fn is_expendable(thread: Option<&str>) -> bool {
    thread.is_some_and(|name| name.starts_with(THREAD))
}

/// Keeps the links until told to stop.
///
/// # Errors
/// Without a cluster those of [`keeper::keep`], since nobody else is served. In a cluster it begins anew.
pub(crate) async fn keep(job: Arc<Job>) -> anyhow::Result<()> {
    let mut stopped = job.stop.subscribe();
    let mut pause = PAUSE;
    loop {
        let begun = Instant::now();
        let why = match run_on_thread(&job).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) if job.api.is_none() => return Err(error),
            Ok(Err(error)) => chain(&*error),
            Err(why) => why,
        };
        if begun.elapsed() > CALM {
            pause = PAUSE;
        }
        let why =
            format!("the loop that keeps the links ended: {why}; it begins anew in {} s", pause.as_secs());
        tracing::error!("{why}");
        job.standing.ended(why);
        job.health.pulse.sleeps_until(Instant::now() + pause);
        if timeout(pause, stopped.wait_for(|stopped| *stopped)).await.is_ok() {
            return Ok(());
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Runs it on its thread until it ends; how, and why if that was a panic.
async fn run_on_thread(job: &Arc<Job>) -> Result<anyhow::Result<()>, String> {
    let (tell, told) = oneshot::channel::<()>();
    let job = job.clone();
    let work = move || {
        // Goes last, whichever way this ends.
        let _tell = tell;
        let runtime = Builder::new_current_thread().enable_all().thread_name(THREAD).build()?;
        let result = runtime.block_on(keeper::keep(&job));
        // A task of it may wait for a disk.
        runtime.shutdown_background();
        result
    };
    let thread = thread::Builder::new().name(THREAD.into()).stack_size(STACK).spawn(work);
    let thread = thread.map_err(|cause| format!("no thread can be started: {cause}"))?;
    // An error says no more than that the other side is gone.
    let _gone: Result<(), _> = told.await;
    thread.join().map_err(|panic| format!("it panicked: {}", words(&*panic)))
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a word")
}

/// What there is to say if it does not come back.
pub(crate) fn overdue(pulse: &Pulse) -> Vec<Line> {
    let late = pulse.late();
    let text = |late: Duration| format!("the loop that keeps them is stuck: {} s late", late.as_secs());
    late.map(|late| Line::Missing(text(late))).into_iter().collect()
}
