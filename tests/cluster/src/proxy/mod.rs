//! A server that fails when it is told to: in front of the real one, TLS towards both sides.

mod connection;
mod exchange;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, crypto::ring};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::certificates::Authority;
use crate::driver::Background;
use crate::rule::Rules;
use crate::{Access, Hits, Rule, namespace};

use exchange::Upstream;

/// How long sockets may take to close and to open again.
const SWITCH: Duration = Duration::from_secs(10);

/// A proxy for any number of clients. It ends when this is dropped.
pub struct Proxy {
    access: Access,
    shared: Arc<Shared>,
    background: Background,
}

/// A request that reached the proxy.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// HTTP method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// What was answered, by the server or instead of it; none while nothing is.
    pub status: Option<u16>,
    /// Of the server's answer so far: its head, and its body as it goes over the wire, which may be compressed. A watch's grows.
    pub bytes: usize,
}

/// What the proxy does about whatever is not a matter of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    /// Nobody listens: connections are refused, and those that were are cut.
    Down,
    /// Packets vanish: connections are accepted by the kernel, and nothing is ever answered.
    Silent,
}

struct Shared {
    state: watch::Sender<State>,
    rules: Mutex<Rules>,
    latency: Mutex<Duration>,
    exchanges: Mutex<Vec<Exchange>>,
    /// Addresses that are listened at while the proxy is not down, and those that are now.
    addresses: AtomicUsize,
    listening: AtomicUsize,
    connections: AtomicUsize,
    tls: TlsAcceptor,
    upstream: Upstream,
}

impl Proxy {
    /// Starts a proxy on loopback, in front of a server.
    pub fn start(upstream: &Access) -> Self {
        let authority = Authority::new();
        let shared = Arc::new(Shared {
            state: watch::Sender::new(State::Up),
            rules: Mutex::default(),
            latency: Mutex::default(),
            exchanges: Mutex::default(),
            addresses: AtomicUsize::new(0),
            listening: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            tls: acceptor(&authority),
            upstream: Upstream::new(upstream),
        });
        let access = upstream.at_server("https://127.0.0.1:0", &authority.certificate());
        let mut proxy = Self { access, shared, background: Background::new("fault-proxy") };
        proxy.access = proxy.listen(None);
        proxy
    }

    /// The upstream's user by the proxy's address.
    pub fn access(&self) -> Access {
        self.access.clone()
    }

    /// Also listens on loopback inside a network namespace such as `/run/netns/node1`. The same by that address.
    ///
    /// # Panics
    /// When the namespace cannot be entered.
    pub fn listen_in(&self, namespace: &Path) -> Access {
        self.listen(Some(namespace.to_owned()))
    }

    fn listen(&self, namespace: Option<PathBuf>) -> Access {
        let listener = namespace::listen(namespace.as_deref(), 0).unwrap_or_else(|e| {
            panic!("listen inside {}: {e}", namespace.clone().unwrap_or_default().display())
        });
        let port = listener.local_addr().expect("ask for the port").port();
        self.shared.addresses.fetch_add(1, Ordering::SeqCst);
        self.shared.listening.fetch_add(1, Ordering::SeqCst);
        self.background.spawn(connection::accept(self.shared.clone(), listener, namespace, port));
        self.access.at(&format!("https://127.0.0.1:{port}"))
    }

    /// From now on requests meet this rule too, after those given before.
    pub fn rule(&self, rule: Rule) -> Hits {
        lock(&self.shared.rules).add(rule)
    }

    /// All rules are forgotten. Requests that hang go on hanging.
    pub fn clear_rules(&self) {
        lock(&self.shared.rules).clear();
    }

    /// Each request from now on takes this much longer.
    pub fn latency(&self, latency: Duration) {
        *lock(&self.shared.latency) = latency;
    }

    /// Cuts all connections and refuses new ones, as when the server's process has ended. Returns when that is so.
    pub fn down(&self) {
        self.shared.state.send_replace(State::Down);
        self.shared.wait("close", |shared| {
            shared.listening.load(Ordering::SeqCst) + shared.connections.load(Ordering::SeqCst) == 0
        });
    }

    /// Answers nothing from now on, as when packets are lost on the way. Requests that the server has are done by it.
    pub fn silent(&self) {
        self.shared.state.send_replace(State::Silent);
    }

    /// Listens again, under the same addresses. Returns when that is so.
    pub fn up(&self) {
        self.shared.state.send_replace(State::Up);
        self.shared.wait("listen again", |shared| {
            shared.listening.load(Ordering::SeqCst) == shared.addresses.load(Ordering::SeqCst)
        });
    }

    /// The requests so far, in order of arrival.
    pub fn exchanges(&self) -> Vec<Exchange> {
        lock(&self.shared.exchanges).clone()
    }
}

impl Shared {
    /// So many bytes more of an answer were passed on.
    fn passed(&self, number: usize, bytes: usize) {
        lock(&self.exchanges)[number].bytes += bytes;
    }

    fn wait(&self, what: &str, done: impl Fn(&Self) -> bool) {
        let started = Instant::now();
        while !done(self) {
            assert!(started.elapsed() < SWITCH, "the proxy's sockets did not {what} within {SWITCH:?}");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A panic elsewhere has been reported there.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn acceptor(authority: &Authority) -> TlsAcceptor {
    let identity = authority.server();
    let certificate =
        CertificateDer::from_pem_slice(identity.certificate.as_bytes()).expect("our own certificate");
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("our own key");
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the default versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("the certificate is of the key");
    // One request at a time on a connection: so cutting one cuts no other's.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}
