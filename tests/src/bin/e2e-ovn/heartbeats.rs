//! Heartbeats as an amphora sends them, one way and never answered, and how long they were not heard.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use octavia_bridge_tests::{Namespace, Repeating};

use crate::checks::HEARTBEATS;

/// Between two heartbeats to one pod. Octavia's come every 10 s.
const INTERVAL: Duration = Duration::from_millis(20);
/// With so many missing, a pod is not heard of any more.
const MISSED: u32 = 10;

/// Sends heartbeats from a namespace to several addresses, until dropped.
#[derive(Debug)]
pub(crate) struct Heart {
    _sender: Repeating,
}

impl Heart {
    pub(crate) fn start(amphora: &Namespace, to: Vec<IpAddr>) -> Self {
        let [v4, v6]: [IpAddr; 2] = [[0; 4].into(), [0; 16].into()];
        let [v4, v6] =
            [v4, v6].map(|any| amphora.run(|| UdpSocket::bind((any, 0))).expect("open the amphora's socket"));
        let mut next = Instant::now();
        let sender = Repeating::start(move || {
            for address in &to {
                let socket = if address.is_ipv4() { &v4 } else { &v6 };
                // One that cannot be sent is one that is not heard.
                let _sent = socket.send_to(b"heartbeat", SocketAddr::from((*address, HEARTBEATS)));
            }
            next += INTERVAL;
            thread::sleep(next.saturating_duration_since(Instant::now()));
        });
        Self { _sender: sender }
    }
}

/// When heartbeats came to an address.
type Heard = Arc<Mutex<Vec<Instant>>>;

/// What is heard at the addresses of a pod, whichever pod has them.
#[derive(Debug)]
pub(crate) struct Ears {
    ears: Vec<(IpAddr, Heard)>,
    listeners: Vec<Repeating>,
}

impl Ears {
    pub(crate) fn new(pod: &Namespace, addresses: &[IpAddr]) -> Self {
        let ears = addresses.iter().map(|address| (*address, Heard::default())).collect();
        let mut ears = Self { ears, listeners: Vec::new() };
        ears.open(pod);
        ears
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.ears.iter().map(|(address, _)| *address)
    }

    /// The pod's process ends.
    pub(crate) fn close(&mut self) {
        self.listeners.clear();
    }

    /// A process in a new pod with the same addresses.
    pub(crate) fn open(&mut self, pod: &Namespace) {
        for (address, heard) in &self.ears {
            let socket = pod.run(|| UdpSocket::bind((*address, HEARTBEATS)));
            let socket = socket.unwrap_or_else(|e| panic!("listen on {address}: {e}"));
            socket.set_read_timeout(Some(INTERVAL)).expect("set a timeout");
            let heard = heard.clone();
            let mut bytes = [0; 64];
            self.listeners.push(Repeating::start(move || {
                if socket.recv(&mut bytes).is_ok() {
                    heard.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
                }
            }));
        }
    }

    /// Whether heartbeats have been heard at each address since then, and still are.
    pub(crate) fn hear(&self, since: Instant) -> bool {
        self.ears.iter().all(|(_, heard)| {
            let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.last().is_some_and(|last| *last > since && last.elapsed() < INTERVAL * MISSED)
        })
    }

    /// The longest time in which nothing was heard at one of the addresses.
    pub(crate) fn silence(&self, from: Instant, to: Instant) -> Duration {
        let mut longest = Duration::ZERO;
        for (_, heard) in &self.ears {
            let heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
            let mut last = from;
            for moment in heard.iter().copied().filter(|moment| (from..to).contains(moment)).chain([to]) {
                longest = longest.max(moment - last);
                last = moment;
            }
        }
        longest
    }
}
