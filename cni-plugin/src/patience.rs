//! One deadline over a whole call, whatever its parts may take.
//!
//! Runtimes end a plugin that takes too long, without a word about what it waited for, and give two minutes to all interfaces of a
//! pod together (kubelet's `runtimeRequestTimeout`). Each wait has a limit of its own, and none goes beyond the call's.

use std::sync::{OnceLock, RwLock};
use std::time::{Duration, Instant};

/// For the call itself.
pub(crate) const CALL: Duration = Duration::from_secs(75);
/// For an ADD that failed to take back what it did.
const UNDOING: Duration = Duration::from_secs(30);

/// When the present part of the call has to be over.
static END: OnceLock<RwLock<Instant>> = OnceLock::new();

fn end() -> &'static RwLock<Instant> {
    END.get_or_init(|| RwLock::new(Instant::now() + CALL))
}

/// Begins the time of the call.
pub(crate) fn begin() {
    end();
}

/// Gives an ADD that failed time to undo what it did.
pub(crate) fn undo() {
    if let Ok(mut end) = end().write() {
        *end = Instant::now() + UNDOING;
    }
}

/// The end of a wait that may take so long.
pub(crate) fn until(limit: Duration) -> Instant {
    let own = Instant::now() + limit;
    // Poisoned by a panic, which ends this program anyway.
    end().read().map_or(own, |end| own.min(*end))
}

/// The same as a time from now.
pub(crate) fn within(limit: Duration) -> Duration {
    until(limit).saturating_duration_since(Instant::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_wait_goes_beyond_the_end_of_the_call() {
        begin();
        assert!(within(Duration::from_secs(1)) <= Duration::from_secs(1));
        let whole = within(Duration::from_secs(1000));
        assert!(whole <= CALL && whole > CALL / 2, "{whole:?}");
        undo();
        assert!(within(CALL) <= UNDOING);
    }

    #[test]
    fn all_of_it_is_less_than_kubelets_patience() {
        assert!(CALL + UNDOING < Duration::from_secs(120));
    }
}
