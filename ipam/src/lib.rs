//! Address management for octavia-bridge: what to hand out, and where it is written down.
//!
//! The rules are whereabouts': the same `ipam` block, the same pool names, the same `IPPool` schema, the
//! lowest free address first, the same address again for the same pod and interface. Where whereabouts
//! is silently wrong (reversed bounds widen the range, a gateway is handed out, one address is given
//! twice), this crate refuses or reserves instead.
//!
//! Everything but the stores is pure: text in, decisions out, no clock and no disk. Ranges are a pair of
//! 128-bit numbers and free addresses are found by walking gaps, so an IPv4 /8 or an IPv6 /64 costs
//! nothing until addresses in it are used.
//!
//! - [`document`] reads JSON the way Go's `encoding/json` would.
//! - [`conf`] is the validated `ipam` block; it turns an attachment into a [`request::Request`].
//! - [`range`] and [`name`]: the addresses of a range, and the pool they are kept in.
//! - [`pool`] is one `IPPool` document; [`allocate`] chooses addresses from pools.
//! - [`wire`] is what plugins and the node's agent say to each other.
//! - [`mod@file`] keeps pools of one host in a directory, safe against crashes and parallel callers.
//! - `kubernetes`, a feature, keeps pools in the API; it is the agent's.
//! - [`octavia`]: what octavia-operator derives from a network definition, and the mistakes in it.
//! - [`remote`] asks the node's agent for the pools of the cluster.
//! - [`host_end`]: what the host's end of an attachment's veth pair is called, and whose it is.
//! - [`state_file`] and [`trust`]: which files and directories of the node root may use. [`visible`] shows text of others.

mod address;
pub mod allocate;
pub mod causes;
pub mod conf;
pub mod document;
mod error;
pub mod file;
pub mod flock;
pub mod host_end;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
pub mod name;
pub mod octavia;
pub mod pool;
#[cfg(test)]
mod processor_time;
pub mod range;
pub mod remote;
pub mod request;
pub mod state_file;
mod texts;
pub mod trust;
pub mod visible;
pub mod wire;

pub use error::StoreError;
