//! Packets that are counted: a stream in one direction, of which every loss shows.

use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::Namespace;

/// Between two packets. Slow enough that the receiver's buffer holds more than a second of them, so that a thread that is
/// not let run for a while is not taken for a network that loses.
const PACE: Duration = Duration::from_millis(4);
/// How long a packet may be on its way.
const LATEST: Duration = Duration::from_secs(5);
/// As a number of packets: the sender has not ended.
const UNKNOWN: u32 = u32::MAX;

/// Numbered UDP packets from one namespace to an address of another.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<u32>,
    receiver: JoinHandle<Vec<bool>>,
    expected: Arc<AtomicU32>,
}

/// What became of a stream.
#[derive(Debug, PartialEq, Eq)]
pub struct Count {
    /// Packets sent.
    pub sent: u32,
    /// The numbers of those that did not arrive.
    pub lost: Vec<u32>,
}

impl Stream {
    /// Begins to send from `from` to `address`, which `to` has.
    pub fn start(from: &Namespace, to: &Namespace, address: IpAddr) -> Self {
        let socket = to.run(|| UdpSocket::bind((address, 0))).expect("open the receiver's socket");
        socket.set_read_timeout(Some(PACE * 5)).expect("set a timeout");
        let target = socket.local_addr().expect("the receiver's port");
        let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let source = from.run(|| UdpSocket::bind((any, 0))).expect("open the sender's socket");
        let stop = Arc::new(AtomicBool::new(false));
        let asked = stop.clone();
        let sender = thread::spawn(move || {
            let mut number = 0_u32;
            while !asked.load(Ordering::Relaxed) {
                // A packet that cannot be sent counts as lost.
                let _sent = source.send_to(&number.to_be_bytes(), target);
                number += 1;
                thread::sleep(PACE);
            }
            number
        });
        let expected = Arc::new(AtomicU32::new(UNKNOWN));
        let told = expected.clone();
        let receiver = thread::spawn(move || receive(&socket, &told));
        Self { stop, sender, receiver, expected }
    }

    /// Stops sending, lets what is on its way arrive, and counts.
    ///
    /// # Panics
    /// When one of its threads did.
    pub fn end(self) -> Count {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().expect("the sender");
        self.expected.store(sent, Ordering::Relaxed);
        let arrived = self.receiver.join().expect("the receiver");
        let came = |number: &u32| arrived.get(*number as usize) == Some(&true);
        Count { sent, lost: (0..sent).filter(|number| !came(number)).collect() }
    }
}

/// Which numbers came. Ends when all have that were sent, or no more can be expected.
fn receive(socket: &UdpSocket, expected: &AtomicU32) -> Vec<bool> {
    let mut arrived = Vec::new();
    let mut bytes = [0; 4];
    let mut deadline = None;
    loop {
        match socket.recv(&mut bytes) {
            Ok(_) => {
                let number = u32::from_be_bytes(bytes) as usize;
                if arrived.len() <= number {
                    arrived.resize(number + 1, false);
                }
                arrived[number] = true;
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(e) => panic!("receive a numbered packet: {e}"),
        }
        let sent = expected.load(Ordering::Relaxed);
        if sent != UNKNOWN {
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + LATEST);
            let complete = arrived.len() == sent as usize && arrived.iter().all(|&came| came);
            if complete || Instant::now() > deadline {
                return arrived;
            }
        }
    }
}
