//! What work costs a processor, for tests of how it grows: on a busy machine the clock tells something else.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The time that this thread's processor spends on `work`.
pub(crate) fn processor_time(work: impl FnOnce()) -> Duration {
    let now =
        || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("the clock of this thread"));
    let began = now();
    work();
    now() - began
}
