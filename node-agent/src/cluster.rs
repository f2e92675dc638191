//! The cluster: policies that apply to this node, addresses for its pods, and addresses of pods that are gone.

mod backoff;
pub(crate) mod broker;
mod options;
pub(crate) mod pending;
pub(crate) mod policies;
pub(crate) mod reclaim;

pub(crate) use options::Cluster;
