//! Black-box tests: the built plugin is run as a container runtime would run it, and the kernel is asked what came of it.
//!
//! A test tells a story about nodes and pods, each a network namespace of its own:
//!
//! ```no_run
//! use octavia_bridge_tests::{Lab, conf};
//!
//! let lab = Lab::new();
//! let node = lab.node("node1");
//! let worker = node.pod("worker");
//!
//! let before = node.snapshot(&[&worker]);
//! let attached = worker.add(&conf::octavia()).run().attached();
//! assert_eq!(attached.address().to_string(), "172.23.0.30/24");
//! assert_eq!(worker.expect_link("net1").mtu(), 1500);
//!
//! worker.del(&conf::octavia()).run().success();
//! node.snapshot(&[&worker]).assert_same_as(&before);
//! ```
//!
//! - [`Lab`] holds the nodes and the folder that serves as `CNI_PATH`. [`Lab::trunk`] joins nodes by their `enp6s0`.
//! - [`Node`] is a host: a namespace and a private `/var/lib`, so the plugin's default paths are used as in production
//!   and two nodes do not see each other's files. [`Pod`] is a container: a namespace and a container id.
//!   Both dereference to [`Namespace`]: run code or commands inside, look at links, addresses and routes.
//! - [`Call`] is one run of the plugin: `pod.add(&conf)`, `pod.del(&conf)`, `pod.check(&conf)`, `node.status(&conf)`,
//!   `node.gc(&conf)`, `node.version()`, changed by `.ifname("net2")`, `.env("CNI_ARGS", "…")`, `.stdin("{")` …
//!   Its [`Outcome`] is checked with `.success()`, `.attached()`, `.error(7)`, which also hold the plugin to the
//!   protocol: exactly one JSON document, or none, on stdout.
//! - [`Snapshot`] is everything a namespace and a node's files hold; equal before and after means nothing is left behind.
//! - [`Agent`] is the node agent on a node. [`Changes`] are what the kernel tells of a namespace's links, addresses and routes.
//! - [`ScriptedAgent`] stands in for the node agent where it has to fail.
//! - [`table`] and [`statistics`] are for benches.
//! - [`traffic`] has an echo service and a ping; [`Stream`] counts packets; [`wire`] hears what pods announce to their neighbours.
//!
//! Nothing here uses the project's own crates: a mistake in them must not hide itself from its test.
//! Observations need the Debian packages iproute2 and strace; peers are those of containernetworking-plugins.

pub mod agent;
pub mod call;
pub mod changes;
pub mod conf;
pub mod lab;
mod locks;
pub mod namespace;
pub mod observe;
pub mod outcome;
pub mod scripted;
pub mod snapshot;
pub mod statistics;
pub mod stream;
pub mod table;
pub mod traffic;
pub mod wire;

pub use agent::Agent;
pub use call::Call;
pub use changes::Changes;
pub use lab::{Lab, Node, Pod};
pub use namespace::Namespace;
pub use observe::{Link, Route};
pub use outcome::{Attached, CniError, Outcome};
pub use scripted::{Act, ScriptedAgent};
pub use snapshot::Snapshot;
pub use stream::Stream;
