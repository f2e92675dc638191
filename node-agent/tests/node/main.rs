//! Black-box tests: the built agent in network namespaces of its own, looked at with `ip`.
//!
//! They need root (or `unshare --user --map-root-user --net --mount`), and Debian's iproute2 and strace.
//! Here a veth end stands in for the VLAN interface, since many kernels come without 8021q.

#![expect(clippy::unwrap_used, reason = "everything here is a test, also what clippy does not see as one")]

mod alternative_names;
mod applying;
mod checking;
mod confined;
mod daemon;
mod doctor;
mod gateways;
mod groups;
mod health;
mod input;
mod installing;
mod islands;
mod killed;
mod logging;
mod marks;
mod networkd;
mod notes;
mod options;
mod plugin_folder;
mod plugin_kept;
mod plugin_label;
mod port_addresses;
mod reaching;
mod restarting;
mod router;
mod routes;
mod scene;
mod set_aside;
mod slow_disk;
mod successors;
mod taking_back;
mod two_threads;
mod unanswered;
mod witness;
