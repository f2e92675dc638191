//! Addresses of names, for a while: a name server that does not answer would hold up each look at the links for seconds.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use octavia_bridge_cluster::lock;
use tokio::time::Instant;

use super::endpoint::Endpoint;

/// How long addresses are good.
const FRESH: Duration = Duration::from_secs(10);
/// Pause before a name that cannot be resolved is asked for again.
const FAILED: Duration = Duration::from_secs(60);

/// What was resolved.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<Vec<Known>>);

#[derive(Clone, Debug)]
struct Known {
    endpoint: Endpoint,
    found: Result<Vec<SocketAddr>, String>,
    until: Instant,
}

impl Names {
    /// The endpoint's addresses; none if its name cannot be resolved, which is logged when it is new.
    pub(super) async fn resolve(&self, endpoint: &Endpoint) -> Vec<SocketAddr> {
        if let Some(address) = endpoint.address() {
            return vec![address];
        }
        let known = self.known(endpoint);
        if let Some(known) = known.as_ref().filter(|known| Instant::now() < known.until) {
            return known.found.clone().unwrap_or_default();
        }
        let found = endpoint.resolve().await;
        if let Err(why) = &found
            && known.is_none_or(|known| known.found != found)
        {
            tracing::warn!("{why}");
        }
        self.note(endpoint, found.clone());
        found.unwrap_or_default()
    }

    fn known(&self, endpoint: &Endpoint) -> Option<Known> {
        lock(&self.0).iter().find(|known| known.endpoint == *endpoint).cloned()
    }

    fn note(&self, endpoint: &Endpoint, found: Result<Vec<SocketAddr>, String>) {
        let until = Instant::now() + if found.is_ok() { FRESH } else { FAILED };
        let mut all = lock(&self.0);
        all.retain(|known| known.endpoint != *endpoint);
        all.push(Known { endpoint: endpoint.clone(), found, until });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_not_asked_for_again_at_once() {
        let names = Names::default();
        let endpoint: Endpoint = "localhost:9".parse().unwrap();
        let address = SocketAddr::from(([10, 0, 0, 1], 9));
        names.note(&endpoint, Ok(vec![address]));
        assert_eq!(names.resolve(&endpoint).await, [address], "as it is known");
        names.note(&endpoint, Err("no answer".into()));
        assert!(names.resolve(&endpoint).await.is_empty(), "nor is one that failed");
        let numbers: Endpoint = "10.0.0.1:9".parse().unwrap();
        assert_eq!(names.resolve(&numbers).await, [address], "which needs no name server");
    }
}
