//! One call over the agent's socket, within a deadline.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::sockopt::SendTimeout;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_to, setsockopt, socket,
};
use nix::sys::time::TimeVal;

use crate::wire::{Call, MAX_LINE};

use super::RemoteError;

/// The call as it goes over the socket.
pub(super) fn line(call: &Call) -> Result<Vec<u8>, RemoteError> {
    let mut line = serde_json::to_vec(call).expect("a call has nothing that JSON cannot say");
    line.push(b'\n');
    match line.len() {
        length if length > MAX_LINE => Err(RemoteError::TooLong { length, limit: MAX_LINE }),
        _ => Ok(line),
    }
}

/// Connects to the agent.
///
/// An agent with much to do lets callers wait in its backlog. When that is full, too, `connect(2)` itself waits; only
/// the send timeout bounds it (unix(7)), and std offers no way to set one before the socket is connected.
pub(super) fn connect(path: &Path, deadline: Instant) -> io::Result<UnixStream> {
    let address = UnixAddr::new(path)?;
    let stream = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    loop {
        setsockopt(&stream, SendTimeout, &time_value(remaining(deadline)?))?;
        match connect_to(stream.as_raw_fd(), &address) {
            Ok(()) => return Ok(stream.into()),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Err(ran_out("its backlog is full")),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Writes the line and reads the one that answers it, without its end.
pub(super) fn exchange(stream: &UnixStream, line: &[u8], deadline: Instant) -> io::Result<Vec<u8>> {
    let sent = send(stream, line, deadline);
    // An agent that refuses before it has read all has its reason in the socket already.
    receive(stream, deadline).map_err(|cause| sent.err().unwrap_or(cause))
}

fn send(mut stream: &UnixStream, mut rest: &[u8], deadline: Instant) -> io::Result<()> {
    while !rest.is_empty() {
        stream.set_write_timeout(Some(remaining(deadline)?))?;
        match stream.write(rest) {
            Ok(count) => rest = &rest[count..],
            Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
            Err(cause) if cause.kind() == ErrorKind::WouldBlock => return Err(ran_out("it does not read")),
            Err(cause) => return Err(cause),
        }
    }
    Ok(())
}

fn receive(mut stream: &UnixStream, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut part = [0; 4096];
    loop {
        stream.set_read_timeout(Some(remaining(deadline)?))?;
        let count = match stream.read(&mut part) {
            Ok(0) => {
                let why = format!("it closed the connection after {} bytes of its answer", line.len());
                return Err(io::Error::new(ErrorKind::UnexpectedEof, why));
            }
            Ok(count) => count,
            Err(cause) if cause.kind() == ErrorKind::Interrupted => continue,
            Err(cause) if cause.kind() == ErrorKind::WouldBlock => return Err(ran_out("it does not answer")),
            Err(cause) => return Err(cause),
        };
        if let Some(end) = part[..count].iter().position(|byte| *byte == b'\n') {
            line.extend_from_slice(&part[..end]);
            return Ok(line);
        }
        line.extend_from_slice(&part[..count]);
        if line.len() >= MAX_LINE {
            let why = format!("its answer is longer than {MAX_LINE} bytes");
            return Err(io::Error::new(ErrorKind::InvalidData, why));
        }
    }
}

/// Time left. Never zero, which the kernel takes for "no limit".
fn remaining(deadline: Instant) -> io::Result<Duration> {
    match deadline.checked_duration_since(Instant::now()) {
        Some(left) if !left.is_zero() => Ok(left),
        _ => Err(ran_out("no time is left")),
    }
}

fn time_value(left: Duration) -> TimeVal {
    let micros = left.as_micros().max(1);
    // A deadline is seconds away, not ages.
    let micros = i64::try_from(micros).unwrap_or(i64::MAX);
    TimeVal::new(micros / 1_000_000, micros % 1_000_000)
}

fn ran_out(why: &str) -> io::Error {
    io::Error::new(ErrorKind::TimedOut, format!("timed out: {why}"))
}
