//! Heartbeats as an amphora sends them, one way and never answered, and how long they were not heard.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use octavia_bridge_tests::Namespace;

use crate::checks::HEARTBEATS;

/// Between two heartbeats to one pod. Octavia's come every 10 s.
const INTERVAL: Duration = Duration::from_millis(20);
/// With so many missing, a pod is not heard of any more.
const MISSED: u32 = 10;

/// A thread that goes on until this is dropped.
#[derive(Debug)]
struct Running {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Runs `step` again and again.
    fn start(mut step: impl FnMut() + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = stop.clone();
        let thread = thread::spawn(move || {
            while !asked.load(Ordering::Relaxed) {
                step();
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has been printed already.
            thread.join().unwrap_or_default();
        }
    }
}

/// Sends heartbeats from a namespace to several addresses, until dropped.
#[derive(Debug)]
pub(crate) struct Heart {
    _running: Running,
}

impl Heart {
    pub(crate) fn start(amphora: &Namespace, from: IpAddr, to: Vec<IpAddr>) -> Self {
        let socket = amphora.run(|| UdpSocket::bind((from, 0))).expect("open the amphora's socket");
        let mut next = Instant::now();
        let running = Running::start(move || {
            for address in &to {
                // One that cannot be sent is one that is not heard.
                let _sent = socket.send_to(b"heartbeat", SocketAddr::from((*address, HEARTBEATS)));
            }
            next += INTERVAL;
            thread::sleep(next.saturating_duration_since(Instant::now()));
        });
        Self { _running: running }
    }
}

/// What is heard at an address, whichever pod has it.
#[derive(Debug)]
pub(crate) struct Ear {
    address: IpAddr,
    heard: Arc<Mutex<Vec<Instant>>>,
    listener: Option<Running>,
}

impl Ear {
    pub(crate) fn new(pod: &Namespace, address: IpAddr) -> Self {
        let mut ear = Self { address, heard: Arc::default(), listener: None };
        ear.listen(pod);
        ear
    }

    /// The pod's process ends.
    pub(crate) fn close(&mut self) {
        self.listener = None;
    }

    /// A process in a new pod with the same address.
    pub(crate) fn listen(&mut self, pod: &Namespace) {
        let socket = pod.run(|| UdpSocket::bind((self.address, HEARTBEATS)));
        let socket = socket.unwrap_or_else(|e| panic!("listen on {}: {e}", self.address));
        socket.set_read_timeout(Some(INTERVAL)).expect("set a timeout");
        let heard = self.heard.clone();
        let mut bytes = [0; 64];
        self.listener = Some(Running::start(move || {
            if socket.recv(&mut bytes).is_ok() {
                heard.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
            }
        }));
    }

    /// Whether heartbeats have been heard since then, and still are.
    pub(crate) fn hears(&self, since: Instant) -> bool {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.last().is_some_and(|last| *last > since && last.elapsed() < INTERVAL * MISSED)
    }

    /// The longest time in which nothing was heard.
    pub(crate) fn silence(&self, from: Instant, to: Instant) -> Duration {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let mut longest = Duration::ZERO;
        let mut last = from;
        for moment in heard.iter().copied().filter(|moment| (from..to).contains(moment)).chain([to]) {
            longest = longest.max(moment - last);
            last = moment;
        }
        longest
    }
}
