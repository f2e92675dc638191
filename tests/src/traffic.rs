//! Real packets: an echo service, a ping that measures, and a capture of what is on the wire.

use std::io::{BufRead, BufReader, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::Namespace;

const PORT: u16 = 5555;
const PAUSE: Duration = Duration::from_millis(20);

/// Answers every UDP packet to port 5555 of one address with the address it came from, until dropped.
#[derive(Debug)]
pub struct Echo {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Starts the service in a namespace, on an address that is there already.
    pub fn start(namespace: &Namespace, address: IpAddr) -> Self {
        let socket = namespace.run(|| UdpSocket::bind((address, PORT)));
        let socket = socket.unwrap_or_else(|e| panic!("listen on {address} port {PORT}: {e}"));
        socket.set_read_timeout(Some(PAUSE)).expect("set a timeout");
        let stop = Arc::new(AtomicBool::new(false));
        let asked_to_stop = stop.clone();
        // A socket belongs to the namespace it was opened in, wherever its thread is.
        let thread = thread::spawn(move || {
            let mut bytes = [0; 64];
            while !asked_to_stop.load(Ordering::Relaxed) {
                if let Ok((_, from)) = socket.recv_from(&mut bytes) {
                    // Its pod may be gone by now; whoever pings will miss the answer.
                    socket.send_to(from.ip().to_string().as_bytes(), from).unwrap_or_default();
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has been printed already.
            thread.join().unwrap_or_default();
        }
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

/// What tcpdump sees on one link, until dropped.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Capture {
    /// Starts to listen; returns once tcpdump really does. `filter` is in pcap's language, for example `arp or icmp6`.
    pub fn start(namespace: &Namespace, link: &str, filter: &str) -> Self {
        let mut command = Command::new("tcpdump");
        // -Z root: dropping to another user fails where only one user is mapped. -l and --immediate-mode: each frame
        // as it comes, not when a buffer is full.
        command.args(["-Z", "root", "-l", "--immediate-mode", "-n", "-e", "-v", "-i", link]).arg(filter);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut tcpdump = namespace.spawn(&mut command);
        let stderr = tcpdump.stderr.take().expect("tcpdump's stderr is piped");
        let mut stderr = BufReader::new(stderr).lines();
        let listening = stderr.find(|line| line.as_ref().is_ok_and(|l| l.contains("listening on")));
        assert!(listening.is_some(), "tcpdump does not listen on {link}: is the package installed?");
        let stdout = tcpdump.stdout.take().expect("tcpdump's stdout is piped");
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        // Read on, or tcpdump would stop at a full pipe.
        thread::spawn(move || stderr.by_ref().for_each(drop));
        Self { tcpdump, lines, seen: Vec::new() }
    }

    /// Waits for a line that contains all the words. -v spreads a packet over two lines, which are searched as one.
    #[track_caller]
    pub fn expect(&mut self, words: &[&str], patience: Duration) {
        let found = self.sees(words, patience);
        assert!(found, "no frame with {words:?} within {patience:?}; seen:\n{}", self.seen.join("\n"));
    }

    /// Whether a frame with all the words comes, or came, within `patience`.
    pub fn sees(&mut self, words: &[&str], patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            let matches = |frame: &String| words.iter().all(|word| frame.contains(word));
            if self.seen.iter().any(matches) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else { return false };
            match self.seen.last_mut() {
                // Continuation lines are indented.
                Some(frame) if line.starts_with(char::is_whitespace) => frame.push_str(&line),
                _ => self.seen.push(line),
            }
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // It may have ended by itself with its namespace.
        self.tcpdump.kill().unwrap_or_default();
        self.tcpdump.wait().map(drop).unwrap_or_default();
    }
}
