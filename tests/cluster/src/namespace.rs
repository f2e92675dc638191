//! Listening inside another network namespace.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::{io, thread};

use nix::sched::{CloneFlags, setns};

/// Listens on loopback, in a network namespace (`/run/netns/…`) or in this one. Port 0 is any that is free.
///
/// A socket belongs for good to the namespace it was made in, and a thread may enter one. So a listener of another
/// namespace is made by a thread that then ends, and is used by any.
pub(crate) fn listen(namespace: Option<&Path>, port: u16) -> io::Result<TcpListener> {
    let bind = || {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    let Some(namespace) = namespace else { return bind() };
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            setns(File::open(namespace)?, CloneFlags::CLONE_NEWNET)?;
            // A child is in the namespace of the thread that starts it.
            let up = Command::new("ip").args(["link", "set", "lo", "up"]).status()?;
            if up.success() { bind() } else { Err(io::Error::other(format!("ip link set lo up: {up}"))) }
        });
        inside.join().unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
    })
}
