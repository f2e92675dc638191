//! A writer that behaves over the API as whereabouts v0.9 does: the other half of a cluster that is being migrated.
//!
//! The same requests in the same order: a lease for the whole cluster around each operation, a LIST of all pools, the
//! pool, the reservation of the candidate, a JSON patch of the pool that tests its resourceVersion, then the reservation;
//! lowest address first. A patch that fails its test (422) is tried again at once, up to 100 times within 10 s.
//!
//! It is better than the original in one thing: where that reports success although its write was refused (upstream
//! #712), this is an error, as otherwise every fault in a test would be the rival's. It has no client-side rate limit.

mod lease;
mod pool;
mod reconcile;
mod work;

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use kube::Client;
use serde_json::Value;

use crate::call::{self, Answer};
use crate::driver::Background;
use crate::{Access, ledger};

use lease::Lease;

/// Whereabouts' `RequestTimeout` of an operation, once it has the lease.
const OPERATION: Duration = Duration::from_secs(10);

/// How long [`Rival::add`] may take in all, as in whereabouts. A DEL gives up after half of it.
const ADD: Duration = Duration::from_secs(120);
const DEL: Duration = Duration::from_secs(60);

/// Whose address it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// Container ID of the pod's sandbox.
    pub id: String,
    /// `namespace/name` of the pod.
    pub podref: String,
    /// The pod's interface.
    pub ifname: String,
}

impl Claim {
    /// A pod's `net1`.
    pub fn new(id: &str, podref: &str) -> Self {
        Self { id: id.to_owned(), podref: podref.to_owned(), ifname: "net1".to_owned() }
    }
}

/// Why an operation failed. An ADD that failed may have left something behind: a runtime follows it with a DEL.
#[derive(Debug, thiserror::Error)]
pub enum RivalError {
    /// Somebody else had the lease all the time, or the API did not answer.
    #[error("no lease within {0:?}")]
    NoLease(Duration),
    /// Somebody else took the lease while it was ours: we were too slow to renew it.
    #[error("the lease was lost")]
    LeaseLost,
    /// No address is free.
    #[error("no address is free in {0}")]
    Exhausted(IpNet),
    /// The server refused a request.
    #[error("{request}: {}: {}", .answer.status, .answer.body)]
    Refused {
        /// Method and path.
        request: String,
        /// Its answer.
        answer: Answer,
    },
    /// A request had no answer.
    #[error("{request}: no answer")]
    NoAnswer {
        /// Method and path.
        request: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// The pool was changed by others before each of our writes, or the operation took too long.
    #[error("the operation did not succeed within {OPERATION:?} and 100 tries")]
    GaveUp,
}

/// One node's whereabouts. It does one operation at a time.
pub struct Rival {
    background: Background,
    requests: Requests,
    scope: Scope,
}

/// Which addresses, under which names.
#[derive(Debug, Clone)]
struct Scope {
    range: IpNet,
    first: u64,
    last: u64,
    /// `NETWORK-` or nothing.
    prefix: String,
}

/// The API as one rival sees it.
#[derive(Clone)]
struct Requests {
    client: Client,
    access: Access,
}

impl Rival {
    /// A rival on the range `range`, all of it but its first and last address.
    pub fn new(access: &Access, range: IpNet) -> Self {
        let background = Background::new("rival");
        let host_bits = u32::from(range.max_prefix_len() - range.prefix_len());
        assert!((2..=62).contains(&host_bits), "{range} is too small or too large a range for a rival");
        let (config, access) = (access.config(), access.clone());
        let client =
            background.run(OPERATION, async { Client::try_from(config).expect("make a client of the API") });
        let scope =
            Scope { range: range.trunc(), first: 1, last: (1 << host_bits) - 2, prefix: String::new() };
        Self { background, requests: Requests { client, access }, scope }
    }

    /// Only these addresses, both included, as `range_start` and `range_end`.
    ///
    /// # Panics
    /// When they are not in the range.
    pub fn between(mut self, first: IpAddr, last: IpAddr) -> Self {
        self.scope.first = self.scope.offset(first);
        self.scope.last = self.scope.offset(last);
        self
    }

    /// In a network of its own, as `network_name`.
    pub fn network(mut self, name: &str) -> Self {
        self.scope.prefix = format!("{name}-");
        self
    }

    /// The address of a claim: the one it has, or the lowest that is free.
    ///
    /// # Errors
    /// See [`RivalError`].
    pub fn add(&self, claim: &Claim) -> Result<IpAddr, RivalError> {
        let (requests, scope, claim) = (self.requests.clone(), self.scope.clone(), claim.clone());
        self.background.run(ADD + OPERATION, async move {
            let mut lease = Lease::acquire(&requests, &claim.podref, ADD).await?;
            let added =
                tokio::time::timeout(OPERATION, pool::add(&requests, &mut lease, &scope, &claim)).await;
            lease.release().await;
            added.unwrap_or(Err(RivalError::GaveUp))
        })
    }

    /// Releases what a claim has; nothing is no error.
    ///
    /// # Errors
    /// See [`RivalError`]. Whereabouts itself hides them.
    pub fn del(&self, claim: &Claim) -> Result<(), RivalError> {
        let (requests, scope, claim) = (self.requests.clone(), self.scope.clone(), claim.clone());
        self.background.run(DEL + OPERATION, async move {
            let mut lease = Lease::acquire(&requests, &claim.podref, DEL).await?;
            let done =
                tokio::time::timeout(OPERATION, pool::del(&requests, &mut lease, &scope, &claim)).await;
            lease.release().await;
            done.unwrap_or(Err(RivalError::GaveUp))
        })
    }
}

impl Scope {
    fn pool_name(&self) -> String {
        format!("{}{}", self.prefix, ledger::object_name(&self.range.to_string()))
    }

    fn reservation_name(&self, address: IpAddr) -> String {
        format!("{}{}", self.prefix, ledger::object_name(&address.to_string()))
    }

    fn address(&self, offset: u64) -> IpAddr {
        ledger::address_at(self.range.network(), offset)
    }

    fn offset(&self, address: IpAddr) -> u64 {
        assert!(self.range.contains(&address), "{address} is not in {}", self.range);
        let bits = |address: IpAddr| match address {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        let offset = bits(address) - bits(self.range.network());
        offset.try_into().unwrap_or_else(|e| panic!("{address} in {}: {e}", self.range))
    }
}

impl Requests {
    /// The answer, whatever it is.
    async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer, RivalError> {
        call::send(&self.client, method, path, body).await.map_err(|source| RivalError::NoAnswer {
            request: format!("{method} {path}"),
            source: Box::new(source),
        })
    }
}

/// An error, unless the status is one of those.
fn expect(answer: Answer, method: &str, path: &str, statuses: &[u16]) -> Result<Answer, RivalError> {
    if statuses.contains(&answer.status) {
        Ok(answer)
    } else {
        Err(RivalError::Refused { request: format!("{method} {path}"), answer })
    }
}
