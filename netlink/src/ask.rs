//! Requests of callers that are not asynchronous, or run in a runtime that must not block.

use std::io;
use std::panic::resume_unwind;
use std::thread;

use tokio::runtime::Builder;

use crate::{Error, Netlink, Result};

/// Sends a request on a separate thread, with a new socket and runtime, in the namespace of the calling thread, and waits.
///
/// It costs a thread and a socket, some 0.1 ms: for rare requests.
///
/// # Errors
/// Those of `question`; [`Error::Connection`] if the thread or the socket cannot be created.
///
/// # Panics
/// Only if `question` does.
pub fn ask<T: Send>(question: impl AsyncFnOnce(&Netlink) -> Result<T> + Send) -> Result<T> {
    let failed =
        |source: io::Error| Error::Connection { attempt: "ask the kernel from a thread".into(), source };
    let asking = || {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        runtime.block_on(async { question(&Netlink::open().await?).await })
    };
    thread::scope(|scope| {
        let spawned = thread::Builder::new().name("ask".into()).spawn_scoped(scope, asking);
        spawned.map_err(failed)?.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}
