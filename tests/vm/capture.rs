//! Frames as they are on the wire, VLAN tag included.
//!
//! tcpdump, not a packet socket as in `wire`: the kernel takes a tag out of the frame before any socket sees it and tells
//! it apart (`PACKET_AUXDATA`); libpcap puts it back where it was.

use std::io::{ErrorKind, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use octavia_bridge_tests::Namespace;

/// Everything that passes a link in either direction, from the moment this value exists until it is dropped.
#[derive(Debug)]
pub(crate) struct Capture {
    tcpdump: Child,
    frames: Receiver<Frame>,
    seen: Vec<Frame>,
}

/// An Ethernet frame.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// The MAC addresses, lower-case with colons.
    pub(crate) destination: String,
    pub(crate) source: String,
    /// The id in the 802.1Q tag, if there is one.
    pub(crate) vlan: Option<u16>,
    /// What follows the tag: 0x0800 IPv4, 0x0806 ARP.
    pub(crate) ethertype: u16,
    /// Bytes on the wire, header and tag included, checksum not.
    pub(crate) length: usize,
    /// The first bytes after the header and the tag.
    payload: Vec<u8>,
}

impl Capture {
    /// Starts, and returns when every later frame will be seen.
    pub(crate) fn start(namespace: &Namespace, link: &str) -> Self {
        let mut command = Command::new("tcpdump");
        command.args(["--interface", link, "--snapshot-length", "128"]);
        command.args(["--immediate-mode", "--packet-buffered"]);
        // As root, which the sandbox has: its usual change to the user `tcpdump` fails where there is none.
        command.args(["-Z", "root", "-w", "-"]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut tcpdump = namespace.spawn(&mut command);
        let mut pipe = tcpdump.stdout.take().expect("tcpdump's output is piped");
        // The file header comes when the capture is on. Its magic says byte order and microseconds, its end Ethernet.
        let mut header = [0; 24];
        pipe.read_exact(&mut header).expect("tcpdump began to capture");
        assert_eq!((&header[..4], &header[20..]), (&[0xd4, 0xc3, 0xb2, 0xa1][..], &[1, 0, 0, 0][..]));
        let (sender, frames) = channel();
        thread::spawn(move || {
            while let Some(frame) = read(&mut pipe) {
                if sender.send(frame).is_err() {
                    // The receiver is gone.
                    break;
                }
            }
        });
        Self { tcpdump, frames, seen: Vec::new() }
    }

    /// Waits for a frame that `wanted` accepts, among those that passed already too; fails the test when there is none.
    #[track_caller]
    pub(crate) fn expect(
        &mut self,
        what: &str,
        patience: Duration,
        wanted: impl Fn(&Frame) -> bool,
    ) -> &Frame {
        let deadline = Instant::now() + patience;
        let mut next = 0;
        loop {
            if let Some(found) = self.seen[next..].iter().position(&wanted) {
                return &self.seen[next + found];
            }
            next = self.seen.len();
            match self.frames.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(frame) => self.seen.push(frame),
                Err(RecvTimeoutError::Timeout) => panic!("no {what} within {patience:?} in {:#?}", self.seen),
                Err(RecvTimeoutError::Disconnected) => panic!("tcpdump ended early; {:#?}", self.seen),
            }
        }
    }

    /// What has passed so far.
    pub(crate) fn seen(&mut self) -> &[Frame] {
        self.seen.extend(self.frames.try_iter());
        &self.seen
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // It may have ended by itself, which `expect` reports.
        self.tcpdump.kill().unwrap_or_default();
        let _status = self.tcpdump.wait();
    }
}

impl Frame {
    /// The protocol of an IPv4 packet: 6 TCP, 17 UDP.
    pub(crate) fn ipv4_protocol(&self) -> Option<u8> {
        (self.ethertype == 0x0800).then(|| self.payload.get(9).copied()).flatten()
    }

    /// An ARP message of an address for itself (RFC 826: sender's and target's protocol address).
    pub(crate) fn is_gratuitous_arp(&self) -> bool {
        let (sender, target) = (self.payload.get(14..18), self.payload.get(24..28));
        self.ethertype == 0x0806 && sender.is_some() && sender == target
    }
}

/// The next record of a capture file: seconds, microseconds, bytes kept, bytes on the wire, and the bytes kept.
fn read(pipe: &mut ChildStdout) -> Option<Frame> {
    let mut header = [0; 16];
    match pipe.read_exact(&mut header) {
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => return None,
        done => done.expect("read from tcpdump"),
    }
    let number = |at: usize| {
        let bytes = header[at..at + 4].try_into().expect("four bytes");
        u32::from_le_bytes(bytes) as usize
    };
    let mut bytes = vec![0; number(8)];
    match pipe.read_exact(&mut bytes) {
        // Killed while it wrote.
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => return None,
        done => done.expect("read from tcpdump"),
    }
    let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let tagged = word(12) == 0x8100;
    let start = if tagged { 18 } else { 14 };
    Some(Frame {
        destination: mac(&bytes[..6]),
        source: mac(&bytes[6..12]),
        vlan: tagged.then(|| word(14) & 0x0fff),
        ethertype: word(start - 2),
        length: number(12),
        payload: bytes[start..].to_vec(),
    })
}

fn mac(bytes: &[u8]) -> String {
    let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}
