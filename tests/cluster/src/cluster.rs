//! A server with what the tests need on it.

use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{env, thread};

use kube::Client;
use serde_json::json;

use crate::server::{Backup, Server};
use crate::{Access, Audit, call, definitions, driver, external};

/// How long a server may take to start. Some 4 s on two idle cores.
const START: Duration = Duration::from_secs(120);

/// A Kubernetes API that is ready.
#[derive(Debug)]
pub struct Cluster {
    admin: Access,
    audit: Option<Audit>,
    /// Ends with this; somebody else's server does not.
    server: Option<Server>,
}

impl Cluster {
    /// The one server of a test binary, started when it is first asked for; it ends with the process.
    ///
    /// # Panics
    /// When it cannot be started: a test that cannot run fails.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| {
            if env::var_os("OCTAVIA_BRIDGE_TEST_APISERVER").is_some() {
                Self::external()
            } else {
                Self::start()
            }
        })
    }

    /// A server of one's own (350 MB and some seconds), for a test that ends it. It ends when this is dropped.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start() -> Self {
        let server = Server::start();
        let admin = Access::new(&server.url, &server.authority, &server.token, "default");
        wait_until_ready(&server, &admin);
        definitions::install(&admin);
        Self { admin, audit: Some(Audit::new(server.audit_log())), server: Some(server) }
    }

    /// Copies etcd's data, as a backup does. The server is away for some seconds.
    ///
    /// # Panics
    /// When the server is not the test's own.
    pub fn back_up(&self) -> Backup {
        let backup = self.own().back_up();
        wait_until_ready(self.own(), &self.admin);
        backup
    }

    /// Restores etcd from a backup. The server is away for some seconds, and then as it was.
    ///
    /// # Panics
    /// When the server is not the test's own.
    pub fn restore(&self, backup: &Backup) {
        self.own().restore(backup);
        wait_until_ready(self.own(), &self.admin);
    }

    fn own(&self) -> &Server {
        self.server.as_ref().expect("only a server that the test has started can be restored")
    }

    fn external() -> Self {
        let admin = external::administrator();
        definitions::install(&admin);
        Self { admin, audit: None, server: None }
    }

    /// The administrator, in the namespace `default`.
    pub fn admin(&self) -> &Access {
        &self.admin
    }

    /// A new namespace whose name contains `what`, with the lease for which agents stand for election, and the administrator
    /// in it.
    pub fn namespace(&self, what: &str) -> Access {
        let object = json!({"metadata": {"generateName": format!("octavia-bridge-test-{what}-")}});
        let created = self.admin.create("/api/v1/namespaces", &object);
        let name = created["metadata"]["name"].as_str().expect("a namespace has a name");
        // As the manifests bring it where the pools are.
        let lease = json!({"metadata": {"name": "octavia-bridge-reclaim"}});
        self.admin.create(&format!("/apis/coordination.k8s.io/v1/namespaces/{name}/leases"), &lease);
        self.admin.in_namespace(name)
    }

    /// A node, which nothing runs on. One of that name that exists stays as it is.
    pub fn node(&self, name: &str) {
        let object = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}});
        let created = self.admin.call("POST", "/api/v1/nodes", Some(&object));
        assert!(matches!(created.status, 201 | 409), "create node {name}: {}", created.body);
    }

    /// A service account in a namespace, created if it is missing, with a token for an hour. It may do nothing until a
    /// manifest with roles and bindings is given to [`Access::apply`].
    pub fn service_account(&self, namespace: &str, name: &str) -> Access {
        external::service_account(&self.admin.in_namespace(namespace), name)
    }

    /// What the server is asked.
    ///
    /// # Panics
    /// When the server is somebody else's, whose log is out of reach.
    pub fn audit(&self) -> &Audit {
        self.audit.as_ref().expect("requests are counted only at a server that the test has started")
    }
}

fn wait_until_ready(server: &Server, admin: &Access) {
    let started = Instant::now();
    while !is_ready(admin) {
        if let Some(why) = server.explain() {
            panic!("the Kubernetes API cannot start: {why}");
        }
        let late = started.elapsed() >= START;
        assert!(!late, "the Kubernetes API is not ready after {START:?}\n{}", server.logs());
        thread::sleep(Duration::from_millis(50));
    }
}

/// Whether the server says so. It refuses connections while it is starting.
fn is_ready(admin: &Access) -> bool {
    let config = admin.config();
    driver::run(async move {
        let client = Client::try_from(config).expect("make a client of the API");
        call::send(&client, "GET", "/readyz", None).await.is_ok_and(|answer| answer.status == 200)
    })
}
