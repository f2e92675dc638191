//! The loop that keeps the node's links as files, and the cluster's policies, describe them.

mod apart;
mod backoff;
mod disk;
mod files;
mod groups;
mod keeper;
mod links;
mod marks;
mod ports;
mod repair;
mod standing;
mod wanted;
mod watch;

pub(crate) use links::{Job, is_expendable, keep, overdue};
pub(crate) use ports::Told as PortsTold;
pub(crate) use standing::Standing;
