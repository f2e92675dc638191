//! Signals before the agent listens for them.

use nix::sys::signal::{SigSet, Signal};

/// Keeps SIGHUP pending, or lets it through. For the calling thread, and those that it starts.
pub(crate) fn hold_hangup(hold: bool) {
    let hangup = SigSet::from(Signal::SIGHUP);
    let done = if hold { hangup.thread_block() } else { hangup.thread_unblock() };
    // The kernel refuses only what is wrong in the request.
    done.unwrap_or_default();
}
