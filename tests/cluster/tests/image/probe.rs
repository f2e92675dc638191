//! A page of the agent's, as kubelet asks for it.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Kubelet's default would be 1 s, which a busy machine may miss; the deadline of the whole wait is the caller's.
const PATIENCE: Duration = Duration::from_secs(10);

/// Status and text of `http://SERVER/PATH`, asked from the network namespace of the calling thread.
pub(crate) fn get(server: &str, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, text) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or(io::ErrorKind::InvalidData)?, text.to_owned()))
}
