//! Octavia's two directions: controllers call the amphora's API on TCP 9443, the amphora sends heartbeats to UDP 5555.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use octavia_bridge_tests::Namespace;

use crate::attachments::Attached;
use crate::screen::{Screen, check, ms};
use crate::topology::{AMPHORA, Topology};

const API: u16 = 9443;
const HEARTBEAT: u16 = 5555;
/// How long a connection or an expected packet may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// A pause between reads of something that sends no event.
const TICK: Duration = Duration::from_millis(1);
/// Between heartbeats to one health manager; Octavia's amphorae send one in 10 s.
pub(crate) const INTERVAL: Duration = Duration::from_millis(10);

pub(crate) fn controllers_to_amphora(screen: &Screen, topology: &Topology, pods: &[Attached]) {
    screen.heading("5. Traffic both ways through the router, without address translation");
    let mut rows = Vec::new();
    for controller in pods.iter().filter(|pod| pod.is("octavia-")) {
        let (seen, took) = call_api(&controller.pod, &topology.amphora);
        check(&format!("source of {} as the amphora saw it", controller.name), &controller.address, &seen);
        rows.push([controller.name.clone(), format!("{AMPHORA}:{API}"), seen, ms(took)]);
    }
    screen.table(["TCP from", "to the amphora", "which saw", "connect and answer"], &rows);
}

/// Connects, and returns the address the amphora saw the connection come from and the time until its answer.
fn call_api(controller: &Namespace, amphora: &Namespace) -> (String, Duration) {
    let address: SocketAddr = format!("{AMPHORA}:{API}").parse().expect("the amphora's address");
    let listener = amphora.run(|| TcpListener::bind(address)).expect("listen in the amphora");
    thread::scope(|scope| {
        scope.spawn(|| answer_one(&listener));
        // A socket belongs to the namespace it was opened in, and connecting opens it.
        controller.run(|| {
            let started = Instant::now();
            let mut stream = TcpStream::connect_timeout(&address, PATIENCE)
                .unwrap_or_else(|e| panic!("connect to the amphora at {address}: {e}"));
            stream.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
            let mut seen = String::new();
            stream.read_to_string(&mut seen).unwrap_or_else(|e| panic!("read the amphora's answer: {e}"));
            (seen, started.elapsed())
        })
    })
}

/// Tells the first caller the address it came from. Without a caller, gives up: the caller reports that.
fn answer_one(listener: &TcpListener) {
    listener.set_nonblocking(true).expect("set the listener non-blocking");
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match listener.accept() {
            Ok((mut stream, peer)) => {
                return stream.write_all(peer.ip().to_string().as_bytes()).expect("answer the controller");
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => thread::sleep(TICK / 10),
            Err(e) => panic!("accept a connection in the amphora: {e}"),
        }
    }
}

pub(crate) fn heartbeats(screen: &Screen, topology: &Topology, pods: &[Attached]) {
    let managers: Vec<&Attached> = pods.iter().filter(|pod| pod.is("healthmanager")).collect();
    let listeners: Vec<Listener> = managers.iter().map(|manager| Listener::start(&manager.pod)).collect();
    let amphora = Heartbeats::start(&topology.amphora, managers.iter().map(|m| m.address.clone()).collect());
    thread::sleep(INTERVAL * 50);
    let sent = amphora.stop();
    let mut rows = Vec::new();
    for (manager, listener) in managers.iter().zip(listeners) {
        let beats = listener.finish(sent);
        check(&format!("heartbeats received by {}", manager.name), sent as usize, beats.len());
        for beat in &beats {
            check(&format!("source of a heartbeat to {}", manager.name), AMPHORA, &beat.source);
        }
        rows.push([
            format!("{}:{HEARTBEAT}", manager.address),
            manager.name.clone(),
            sent.to_string(),
            beats.len().to_string(),
            AMPHORA.to_owned(),
            ms(longest_gap(&beats)),
        ]);
    }
    screen.table(["UDP to", "health manager", "sent", "received", "which saw", "longest gap"], &rows);
    screen.holds("every source address arrived unchanged; heartbeats were sent every 10 ms");
}

/// Sends numbered heartbeats from the amphora until stopped.
#[derive(Debug)]
pub(crate) struct Heartbeats {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u32>,
}

impl Heartbeats {
    pub(crate) fn start(amphora: &Namespace, managers: Vec<String>) -> Self {
        let socket = amphora.run(|| UdpSocket::bind((AMPHORA, 0))).expect("open a UDP socket in the amphora");
        let stop = Arc::new(AtomicBool::new(false));
        let asked_to_stop = stop.clone();
        let thread = thread::spawn(move || {
            let mut number = 0_u32;
            while !asked_to_stop.load(Ordering::Relaxed) {
                for manager in &managers {
                    let target = format!("{manager}:{HEARTBEAT}");
                    let sent = socket.send_to(&number.to_be_bytes(), target);
                    sent.unwrap_or_else(|e| panic!("send a heartbeat to {manager}: {e}"));
                }
                number += 1;
                thread::sleep(INTERVAL);
            }
            number
        });
        Self { stop, thread }
    }

    /// Stops, and returns how many each health manager was sent.
    pub(crate) fn stop(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the amphora's heartbeats ended early")
    }
}

/// A heartbeat that arrived.
#[derive(Debug, Clone)]
pub(crate) struct Beat {
    pub(crate) number: u32,
    pub(crate) at: Instant,
    source: String,
}

/// A health manager's socket, read on a separate thread.
#[derive(Debug)]
pub(crate) struct Listener {
    wanted: Arc<AtomicBool>,
    /// Number of the heartbeat that should come next.
    expected: Arc<AtomicU32>,
    thread: JoinHandle<Vec<Beat>>,
}

impl Listener {
    pub(crate) fn start(manager: &Namespace) -> Self {
        let socket = manager.run(|| UdpSocket::bind(("0.0.0.0", HEARTBEAT))).expect("listen for heartbeats");
        socket.set_read_timeout(Some(TICK)).expect("set a timeout");
        let wanted = Arc::new(AtomicBool::new(true));
        let expected = Arc::new(AtomicU32::new(0));
        let (still_wanted, next) = (wanted.clone(), expected.clone());
        let thread = thread::spawn(move || {
            let (mut beats, mut bytes) = (Vec::new(), [0; 4]);
            while still_wanted.load(Ordering::Relaxed) {
                match socket.recv_from(&mut bytes) {
                    Ok((_, from)) => {
                        let number = u32::from_be_bytes(bytes);
                        beats.push(Beat { number, at: Instant::now(), source: from.ip().to_string() });
                        next.store(number + 1, Ordering::Relaxed);
                    }
                    Err(e) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&e.kind()) => {}
                    Err(e) => panic!("receive a heartbeat: {e}"),
                }
            }
            beats
        });
        Self { wanted, expected, thread }
    }

    /// Stops now, as a process that is killed.
    pub(crate) fn kill(self) -> Vec<Beat> {
        self.wanted.store(false, Ordering::Relaxed);
        self.thread.join().expect("the health manager's listener ended early")
    }

    /// Stops once the last of `sent` heartbeats is there, or has had its time.
    pub(crate) fn finish(self, sent: u32) -> Vec<Beat> {
        let deadline = Instant::now() + PATIENCE;
        while self.expected.load(Ordering::Relaxed) < sent && Instant::now() < deadline {
            thread::sleep(TICK);
        }
        self.kill()
    }
}

/// The longest time between two heartbeats that followed each other.
pub(crate) fn longest_gap(beats: &[Beat]) -> Duration {
    let gaps = beats.windows(2).map(|pair| pair[1].at.duration_since(pair[0].at));
    gaps.max().unwrap_or_default()
}
