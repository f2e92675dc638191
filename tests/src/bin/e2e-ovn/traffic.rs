//! Octavia's ways of talking, and proof that every byte arrived from whom it should.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use octavia_bridge_tests::Namespace;

/// How long a connection or an expected packet may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long what has begun may pause. The machine may be busy.
const PAUSED: Duration = Duration::from_secs(30);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// Sends so many bytes by TCP, and gets the same back. The other side has to see the address that the caller has.
///
/// # Errors
/// What went wrong first, in words.
pub(crate) fn exchange(
    from: &Namespace,
    to: &Namespace,
    address: SocketAddr,
    length: usize,
) -> Result<(), String> {
    let sent = pattern(length);
    let listener = to.run(|| TcpListener::bind(address)).map_err(|e| format!("listen on {address}: {e}"))?;
    let (called, answered) = thread::scope(|scope| {
        let server = scope.spawn(|| answer(&listener));
        let called = from.run(|| call(address, &sent));
        (called, server.join())
    });
    let (caller, received) = called.map_err(|e| format!("TCP to {address}: {e}"))?;
    let answered = answered.map_err(|_| "the listener's thread ended early".to_owned())?;
    let seen = answered.map_err(|e| format!("TCP at {address}: {e}"))?;
    if seen != caller {
        return Err(format!("{address} saw {seen} instead of {caller}"));
    }
    if received != sent {
        return Err(format!(
            "{} bytes came back from {address}, not the {length} that were sent",
            received.len()
        ));
    }
    Ok(())
}

/// The caller's address, and what came back.
fn call(to: SocketAddr, bytes: &[u8]) -> Result<(IpAddr, Vec<u8>), Error> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PAUSED))?;
    stream.set_write_timeout(Some(PAUSED))?;
    stream.write_all(bytes)?;
    stream.shutdown(Shutdown::Write)?;
    let mut received = Vec::new();
    stream.read_to_end(&mut received)?;
    Ok((stream.local_addr()?.ip(), received))
}

/// Sends back to one caller what it sends; returns the caller's address.
fn answer(listener: &TcpListener) -> Result<IpAddr, Error> {
    listener.set_nonblocking(true)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((mut stream, peer)) => {
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(PAUSED))?;
                let mut received = Vec::new();
                stream.read_to_end(&mut received)?;
                stream.write_all(&received)?;
                return Ok(peer.ip());
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock && Instant::now() < deadline => {
                thread::sleep(PAUSE / 10);
            }
            Err(e) => return Err(e),
        }
    }
}

/// Sends a datagram until one arrives, as it was sent and from whom it should be.
///
/// # Errors
/// What went wrong, in words.
pub(crate) fn datagram(
    from: (&Namespace, IpAddr),
    to: (&Namespace, SocketAddr),
    length: usize,
) -> Result<(), String> {
    let receiver = to.0.run(|| UdpSocket::bind(to.1)).map_err(|e| format!("listen on {}: {e}", to.1))?;
    let sender =
        from.0.run(|| UdpSocket::bind((from.1, 0))).map_err(|e| format!("send from {}: {e}", from.1))?;
    receiver.set_read_timeout(Some(PAUSE * 5)).map_err(|e| e.to_string())?;
    let sent = pattern(length);
    let deadline = Instant::now() + PATIENCE;
    let mut last = "nothing arrived".to_owned();
    let mut bytes = vec![0; length + 1];
    while Instant::now() < deadline {
        if let Err(e) = sender.send_to(&sent, to.1) {
            last = e.to_string();
            thread::sleep(PAUSE);
        }
        match receiver.recv_from(&mut bytes) {
            Ok((count, peer)) if bytes[..count] == sent && peer.ip() == from.1 => return Ok(()),
            Ok((count, peer)) => {
                return Err(format!("{count} bytes from {peer} instead of {length} from {}", from.1));
            }
            Err(_) => {}
        }
    }
    Err(format!("{length} bytes by UDP from {} to {}: {last}", from.1, to.1))
}

/// Bytes that do not repeat within any window that TCP could shift.
fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
