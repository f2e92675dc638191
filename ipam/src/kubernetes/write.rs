//! Writing: the queue of each pool and its writer, reservations, and how long to try.

pub(crate) mod change;
pub(crate) mod deadline;
pub(crate) mod job;
pub(crate) mod queue;
pub(crate) mod reserve;
pub(crate) mod turn;
pub(crate) mod waits;
pub(crate) mod writer;
