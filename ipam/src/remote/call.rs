//! One call over the agent's socket, within a deadline.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::sockopt::{PeerCredentials, SendTimeout};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_to, getsockopt, setsockopt, socket,
};
use nix::sys::time::TimeVal;
use nix::unistd::geteuid;

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
            Ok(()) => {
                require_root(&stream)?;
                return Ok(stream.into());
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Err(ran_out("its backlog is full")),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// The agent is root's. Another user who listens at its path would give out addresses in its name.
fn require_root(stream: &OwnedFd) -> io::Result<()> {
    let listener = getsockopt(stream, PeerCredentials)?.uid();
    if listener == 0 || listener == geteuid().as_raw() {
        return Ok(());
    }
    let why = format!("user {listener} listens there, not root");
    Err(io::Error::new(ErrorKind::PermissionDenied, why))
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

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::io::BufRead;
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Command, Stdio};

    use super::*;

    /// Listens at its argument until its standard input ends.
    const LISTENER: &str = "use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new(Listen => 5, Local => $ARGV[0]) or die $!; $| = 1; print \"listens\\n\"; <STDIN>";

    #[test]
    fn another_user_who_listens_is_not_the_agent() {
        let folder = tempfile::tempdir_in("/run").unwrap();
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o1777)).unwrap();
        for (user, refused) in [("0", false), ("1", true)] {
            let socket = folder.path().join(user);
            let mut command = Command::new("setpriv");
            command.args(["--reuid", user, "--clear-groups", "perl", "-e", LISTENER]).arg(&socket);
            let mut listener = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let mut said = String::new();
            io::BufReader::new(listener.stdout.take().unwrap()).read_line(&mut said).unwrap();
            if said.is_empty() && refused {
                // In a user namespace with one user there is no other.
                assert!(!std::fs::read_to_string("/proc/self/uid_map").unwrap().contains("4294967295"));
                continue;
            }
            let connected = connect(&socket, Instant::now() + Duration::from_secs(10));
            match connected {
                Err(error) if refused => assert_eq!(error.to_string(), "user 1 listens there, not root"),
                other => assert!(other.is_ok() && !refused, "{other:?}"),
            }
            drop(listener.stdin.take());
            listener.wait().unwrap();
        }
    }
}
