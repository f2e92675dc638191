//! Real packets: an echo service, and a ping that measures.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Namespace, Repeating};

const PORT: u16 = 5555;
const PAUSE: Duration = Duration::from_millis(20);

/// "At once", also on a busy machine. Without an announcement the kernel would take longer: it uses a neighbour's old MAC for at
/// least 15 s, and a port under STP does not forward for at least 4 s.
pub const AT_ONCE: Duration = Duration::from_millis(3900);

/// Answers every UDP packet to port 5555 of one address with the address it came from, until dropped.
#[derive(Debug)]
pub struct Echo {
    _thread: Repeating,
}

impl Echo {
    /// Starts the service in a namespace, on an address that is there already.
    pub fn start(namespace: &Namespace, address: IpAddr) -> Self {
        let socket = namespace.run(|| UdpSocket::bind((address, PORT)));
        let socket = socket.unwrap_or_else(|e| panic!("listen on {address} port {PORT}: {e}"));
        socket.set_read_timeout(Some(PAUSE)).expect("set a timeout");
        let mut bytes = [0; 64];
        // A socket belongs to the namespace it was opened in, wherever its thread is.
        let thread = Repeating::start(move || {
            if let Ok((_, from)) = socket.recv_from(&mut bytes) {
                // The pod may be gone; the ping then has no answer.
                socket.send_to(from.ip().to_string().as_bytes(), from).unwrap_or_default();
            }
        });
        Self { _thread: thread }
    }
}

/// An answer of an [`Echo`].
#[derive(Debug, Clone)]
pub struct Answer {
    /// From the first question to the first answer.
    pub took: Duration,
    /// The address the service saw the question come from.
    pub source: String,
}

/// Sends a packet to the [`Echo`] at `address` every 20 ms and returns the first answer, or `None` when there was none
/// within `patience`.
pub fn ping(from: &Namespace, address: IpAddr, patience: Duration) -> Option<Answer> {
    let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = from.run(|| UdpSocket::bind((any, 0))).expect("open a UDP socket");
    socket.set_read_timeout(Some(PAUSE)).expect("set a timeout");
    let started = Instant::now();
    let mut bytes = [0; 64];
    while started.elapsed() < patience {
        // Sending fails while there is no route or no neighbour: that is the "no answer" we measure.
        let sent = socket.send_to(b"ping", SocketAddr::from((address, PORT)));
        match socket.recv_from(&mut bytes) {
            Ok((length, from)) if from.ip() == address => {
                let source = String::from_utf8_lossy(&bytes[..length]).into_owned();
                return Some(Answer { took: started.elapsed(), source });
            }
            Err(e) if e.kind() != ErrorKind::WouldBlock => thread::sleep(PAUSE),
            _ if sent.is_err() => thread::sleep(PAUSE),
            _ => {}
        }
    }
    None
}

/// Asserts an answer within `patience`.
#[track_caller]
pub fn expect_answer(from: &Namespace, address: IpAddr, patience: Duration) -> Answer {
    ping(from, address, patience).unwrap_or_else(|| {
        let neighbours = from.ip("neigh show");
        panic!("{address} did not answer within {patience:?}; neighbours of the asker:\n{neighbours}")
    })
}
