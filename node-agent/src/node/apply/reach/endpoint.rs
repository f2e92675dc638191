//! A TCP endpoint by name or address.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;

/// Time that a name may take to be resolved.
const RESOLVING: Duration = Duration::from_secs(5);
/// Most addresses of a name that are asked.
const MOST: usize = 8;

/// A host, by name or address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    host: String,
    port: u16,
}

impl Endpoint {
    /// `host` is a name or an address; an IPv6 address may stand in brackets.
    pub(crate) fn new(host: &str, port: u16) -> Self {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        Self { host: bare.unwrap_or(host).to_owned(), port }
    }

    /// Its address, if it is given by one.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.host.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, self.port))
    }

    /// Its addresses now.
    ///
    /// # Errors
    /// The attempt and its cause, in words.
    pub(super) async fn resolve(&self) -> Result<Vec<SocketAddr>, String> {
        let failed = |why: String| format!("resolve {}: {why}", self.host);
        match timeout(RESOLVING, lookup_host((self.host.as_str(), self.port))).await {
            Ok(Ok(addresses)) => Ok(addresses.take(MOST).collect()),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed(format!("no answer within {} s", RESOLVING.as_secs()))),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self { host: address.ip().to_string(), port: address.port() });
        }
        let wrong = || format!("{text:?} is not HOST:PORT (an IPv6 address stands in brackets)");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port: u16 = port.parse().map_err(|_| wrong())?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if host.is_empty() || port == 0 || !host.chars().all(is_name) {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_read_and_written_alike() {
        for text in ["10.0.0.1:443", "[fd00::1]:443", "api-int.example.com:6443"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        assert_eq!(Endpoint::new("[fd00::1]", 443), "[fd00::1]:443".parse().unwrap());
        for text in ["", "host", ":443", "host:", "host:0", "host:99999", "fd00::1:443", "a b:1", "h/x:1"] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }
}
