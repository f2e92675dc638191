//! Tests against the running kernel. Each makes its own empty network namespaces and needs only to
//! be allowed to: as root, or under `unshare --user --map-root-user --net --mount`. A test that is
//! not allowed fails.

#![expect(clippy::unwrap_used, reason = "everything here is a test, also what clippy does not see as one")]

mod addresses;
mod concurrency;
mod events;
mod links;
mod namespaces;
mod neighbours;
mod port_vlans;
mod routes;
mod scene;
mod veths;
mod waiting;
