//! What octavia-operator makes of the network definition of Octavia's management network.
//!
//! The operator reads only a few keys of the top-level `ipam` block, derives three pools, a router and the amphorae's network from
//! them, and reports hardly any mistake: some end in a log, others in addresses that two owners have. [`review`] repeats the
//! operator's arithmetic and names each mistake by path, value and remedy.
//!
//! The sources are octavia-operator's `internal/octavia/network_parameters.go` (Neutron's pool, the router, the amphorae's network)
//! and `internal/octavia/lb_mgmt_network.go` (the predictable addresses), and ovn-operator's `internal/ovncontroller/network.go`.
//!
//! Everything here is pure. The plugin does not use it.

mod drawing;
mod growth;
mod mistakes;
mod operator;
mod plugin;
mod review;
mod routes;

#[cfg(test)]
mod tests;

pub use drawing::drawing;
pub use operator::{Part, Reading, Refusal};
pub use review::{Capacity, Definition, Finding, Level, Review, Surroundings, is_of_octavia, review};
