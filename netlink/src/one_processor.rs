//! Keeps two threads that work in turns on one processor.

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

/// The calling thread; other threads are named by their ids.
const ME: Pid = Pid::from_raw(0);

/// As long as this lives, the calling thread and another one stay where the calling thread is: to wake another processor for each
/// turn is most of what a turn takes.
///
/// For the turns only. A thread that has to wait for something else must not be bound: a task of higher priority may take the
/// processor meanwhile, and of many processes each would have to wait for its own, also where another one is idle.
#[derive(Debug)]
pub(crate) struct OneProcessor {
    before: CpuSet,
    other: Option<Pid>,
}

impl OneProcessor {
    /// Begins a turn with another thread, or with one that is about to be started, which inherits this. `None` if the kernel
    /// refuses; the threads then run on any processor.
    pub(crate) fn begin(other: Option<Pid>) -> Option<Self> {
        let before = sched_getaffinity(ME).ok()?;
        let mut here = CpuSet::new();
        here.set(sched_getcpu().ok()?).ok()?;
        sched_setaffinity(ME, &here).ok()?;
        if let Some(other) = other {
            // A thread that has ended causes no error.
            let _ = sched_setaffinity(other, &here);
        }
        Some(Self { before, other })
    }

    /// The thread was started.
    pub(crate) fn with(&mut self, other: Pid) {
        self.other = Some(other);
    }
}

impl Drop for OneProcessor {
    fn drop(&mut self) {
        for thread in self.other.into_iter().chain([ME]) {
            // A thread that has ended causes no error.
            let _ = sched_setaffinity(thread, &self.before);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use nix::unistd::gettid;

    use super::*;

    fn processors(thread: Pid) -> usize {
        let set = sched_getaffinity(thread).unwrap();
        (0..CpuSet::count()).filter(|processor| set.is_set(*processor).unwrap()).count()
    }

    #[test]
    fn both_threads_are_bound_for_the_turn_and_not_after_it() {
        let before = processors(ME);
        let (known, tid) = channel();
        let (ended, end) = channel::<()>();
        let mut first = OneProcessor::begin(None).unwrap();
        let thread = thread::spawn(move || {
            known.send(gettid()).unwrap();
            end.recv().unwrap_err();
        });
        let other = tid.recv().unwrap();
        first.with(other);
        assert_eq!((processors(ME), processors(other)), (1, 1));
        drop(first);
        assert_eq!((processors(ME), processors(other)), (before, before));
        let second = OneProcessor::begin(Some(other));
        assert_eq!((processors(ME), processors(other)), (1, 1));
        drop(second);
        assert_eq!((processors(ME), processors(other)), (before, before));
        drop(ended);
        thread.join().unwrap();
        // A thread that has ended changes nothing.
        drop(OneProcessor::begin(Some(other)));
        assert_eq!(processors(ME), before);
    }
}
