//! A thread that stays inside a namespace, for several pieces of work.

use std::io;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use nix::unistd::{Pid, gettid};

use crate::namespace::{enter, failure};
use crate::one_processor::OneProcessor;
use crate::{Namespace, Result};

type Job = Box<dyn FnOnce() + Send>;

/// A thread inside a namespace. It ends when this value is dropped.
///
/// [`Namespace::run`] starts a thread for each piece of work; two of them are a tenth of a short program's life.
#[derive(Debug)]
pub struct Inside {
    jobs: Sender<Job>,
    thread: Pid,
    namespace: Namespace,
}

impl Namespace {
    /// Starts a thread inside this namespace, and calls `first` on it: to wait for the thread twice would cost two changes of
    /// threads more.
    ///
    /// # Errors
    /// [`crate::Error::Namespace`]: the thread cannot be created, or the namespace cannot be entered, or is not a
    /// network namespace.
    pub(crate) fn enter<T: Send + 'static>(
        &self,
        first: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(Inside, T)> {
        let (jobs, queue) = channel::<Job>();
        let (entered, entering) = channel();
        let namespace = self.clone();
        let mut together = OneProcessor::begin(None);
        let inside = move || {
            let outcome = enter(&namespace).map(|()| (gettid(), first()));
            let failed = outcome.is_err();
            if entered.send(outcome).is_err() || failed {
                return;
            }
            for job in queue {
                job();
            }
        };
        thread::Builder::new()
            .name("netns".into())
            .spawn(inside)
            .map_err(|source| failure("start a thread for", self.path(), source))?;
        let outcome = entering.recv().unwrap_or_else(|_| Err(io::Error::other("its thread has panicked")));
        let (thread, first) = outcome.map_err(|source| failure("enter", self.path(), source))?;
        if let Some(together) = &mut together {
            together.with(thread);
        }
        Ok((Inside { jobs, thread, namespace: self.clone() }, first))
    }
}

impl Inside {
    /// The namespace the thread is in.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Calls `f` on the thread and waits for it. Meanwhile both threads are on one processor.
    ///
    /// # Errors
    /// [`crate::Error::Namespace`]: the thread is gone, because `f` or an earlier piece of work panicked.
    pub fn run<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let (done, outcome) = channel();
        let _together = OneProcessor::begin(Some(self.thread));
        let job: Job = Box::new(move || {
            // The caller may have given up.
            let _ = done.send(f());
        });
        self.jobs.send(job).map_err(|_| gone(&self.namespace))?;
        outcome.recv().map_err(|_| gone(&self.namespace))
    }
}

fn gone(namespace: &Namespace) -> crate::Error {
    failure("work in", namespace.path(), io::Error::other("its thread has panicked"))
}
