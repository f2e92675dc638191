//! Tests against a real Kubernetes API: a kube-apiserver with its etcd, a proxy that makes it fail, and a rival writer.
//!
//! ```no_run
//! use octavia_bridge_cluster_tests::{Cluster, Fault, Ledger, Proxy, Rule};
//!
//! let cluster = Cluster::shared(); // one server for all tests of a binary: started by the first that asks
//! let admin = cluster.namespace("pool"); // an empty namespace of this test's own, and the right to do all in it
//! let proxy = Proxy::start(&admin); // in front of the server; the test's client is given this address
//! let cut = proxy.rule(Rule::on("PATCH", "/ippools/", Fault::CutAfter).nth(2));
//!
//! let agent = proxy.access(); // hand it over as `agent.config()`, `agent.client()` or `agent.write_kubeconfig(…)`
//! // … claims and releases …
//! assert_eq!(cut.hits(), 1, "the fault must have happened");
//! Ledger::read(&admin).assert_consistent();
//! ```
//!
//! - [`Cluster`] starts the server on loopback inside the sandbox, with RBAC and Node authorizers, token requests, an audit
//!   log, and the definitions of `daemonset/crds`. It has no controllers: deleted namespaces stay Terminating, owner
//!   references collect nothing, no service account appears by itself, pods and nodes are what the test says they are.
//! - [`Access`] is who asks and at which address: the administrator, or a service account
//!   ([`Cluster::service_account`]), whose rights a manifest gives ([`Access::apply`]). It makes a [`kube::Config`], a
//!   [`kube::Client`], a kubeconfig, or the folder a pod has; and it asks by itself with [`Access::get`],
//!   [`Access::create`] and [`Access::call`], which are not async, so that every kind of test can use them.
//! - [`Audit`] is what the server was really asked since a [`Mark`].
//! - [`Proxy`] passes requests on, one [`Rule`] at a time answering, delaying or cutting instead; it can be down for a
//!   while, and adds a delay to each request. It also listens inside other network namespaces ([`Proxy::listen_in`]):
//!   so a node of the black-box tests reaches the server. [`Relay`] does only that, without a second TLS.
//! - [`Ledger`] reads pools and reservations and tells whether each address has one owner.
//! - [`kustomize`] builds what is in `daemonset/`, and [`Access::kubectl`] applies it, by a kubectl as users have it.
//! - [`Agent`] is the project's own agent as a process of one node; a test asks it as plugins do. Its [`WallClock`] may jump.
//! - [`Rival`] writes as whereabouts v0.9 does. The program `rival` is the same as a process, and prints an
//!   [`Operation`] a line. [`doubles`] finds addresses that two had at once, in the operations of all writers together.
//!
//! Everything runs on threads of its own: nothing depends on the runtime of the test that started it. A
//! [`kube::Client`], however, belongs to the runtime in which it was made.
//!
//! The server comes from `scripts/kube/apiserver`, or from the folder that `OCTAVIA_BRIDGE_TEST_KUBE` names, which holds a
//! `kube-apiserver` and an `etcd`. With `OCTAVIA_BRIDGE_TEST_APISERVER=https://…` nothing is started, and that server is
//! used with the credentials of the kubeconfig `OCTAVIA_BRIDGE_TEST_KUBECONFIG`. Such a test cannot be in the sandbox,
//! which has no way out; `scripts/test-cluster` sees to it. Namespaces called `octavia-bridge-test-…` are left behind there.

mod access;
mod agent;
mod audit;
mod call;
mod certificates;
mod clock;
mod cluster;
mod definitions;
mod driver;
mod external;
mod history;
mod kubectl;
mod ledger;
mod manifest;
mod namespace;
mod proxy;
mod relay;
mod rival;
mod rule;
mod server;
mod shipped;
mod wall_clock;

pub use access::Access;
pub use agent::{Agent, Page, Range, program as agent_program};
pub use audit::{Audit, Mark, Request};
pub use call::Answer;
pub use cluster::Cluster;
pub use history::{Operation, doubles};
pub use kubectl::{Said, daemonset, kustomize, tool};
pub use ledger::{Holder, Ledger, Pool, Reservation};
pub use proxy::{Exchange, Proxy};
pub use relay::Relay;
pub use rival::{Claim, Rival, RivalError};
pub use rule::{Fault, Hits, Refusal, Rule};
pub use server::Backup;
pub use shipped::shipped_rights;
pub use wall_clock::WallClock;
