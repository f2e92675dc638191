//! Black-box tests: they run the built plugin as a container runtime would, and read the result from the kernel.
//!
//! A test tells a story about nodes and pods, each a separate network namespace:
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
//! - [`Lab`] holds the nodes and the directory that is `CNI_PATH`. [`Lab::trunk`] joins nodes by their `enp6s0`.
//! - [`Node`] is a host: a namespace and a private `/var/lib`, so the plugin's default paths are used as in production
//!   and two nodes do not see each other's files. [`Pod`] is a container: a namespace and a container id.
//!   Both dereference to [`Namespace`]: run code or commands inside, look at links, addresses and routes.
//! - [`Call`] is one run of the plugin: `pod.add(&conf)`, `pod.del(&conf)`, `pod.check(&conf)`, `node.status(&conf)`,
//!   `node.gc(&conf)`, `node.version()`, changed by `.ifname("net2")`, `.env("CNI_ARGS", "…")`, `.stdin("{")` …
//!   Check its [`Outcome`] with `.success()`, `.attached()`, `.error(7)`, which also check the protocol: exactly one JSON
//!   document, or none, on stdout.
//! - [`Snapshot`] is the content of a namespace and of a node's files; equal before and after means nothing is left behind.
//! - [`Agent`] is the node agent on a node. [`Changes`] are the kernel's events about a namespace's links, addresses and routes.
//! - [`ScriptedAgent`] replaces the node agent in tests of its failures.
//! - [`table`] and [`statistics`] are for benches.
//! - [`traffic`] has an echo service and a ping; [`Stream`] counts packets; [`wire`] receives the pods' announcements.
//!
//! This crate does not use the project's other crates: a mistake in them must not hide itself from its test.
//! Observations need the Debian packages iproute2 and strace; reference plugins are in containernetworking-plugins.

pub mod agent;
pub mod call;
pub mod changes;
pub mod conf;
pub mod lab;
mod locks;
pub mod namespace;
pub mod observe;
pub mod outcome;
pub mod repeating;
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
pub use repeating::Repeating;
pub use scripted::{Act, ScriptedAgent};
pub use snapshot::Snapshot;
pub use stream::Stream;
