//! The pools of the cluster, which the node's agent keeps: asked over its socket, one call per connection.
//!
//! An agent that is away, refuses, hangs, closes early, answers something else or speaks another version is an error,
//! never a success: addresses are assigned only by a whole reply that gives every want an address of its own.
//!
//! # Tombstones
//! A release that the agent does not confirm leaves a tombstone, as in [`crate::file`], in a directory that the agent
//! reads, too. It replays them when it can.
//!
//! A claim must not be undone by the tombstone of an earlier release of the same attachment. It is the agent that
//! removes it, under the lock that keeps claims and replays of one attachment apart. A plugin could only remove it
//! before the claim, and would lose the release should the claim fail, or after it, when a replay may have been there
//! first. It does remove what it finds after a successful claim: then the agent reads another directory, and one that
//! is started with this directory later must not release what is in use.

mod call;
mod error;

#[cfg(test)]
mod tests;

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde::Deserialize;

use crate::allocate::Usage;
use crate::conf::Ipam;
use crate::error::StoreError;
use crate::file::{Tombstone, Tombstones};
use crate::request::{Assigned, Choice, Request, Want};
use crate::wire::{Answer, Attachment, Call, Claim, Inquiry, Lookup, Reply, Sandbox, VERSION, Verb};

pub use error::RemoteError;

/// How often a claim is repeated with what the agent wanted to know. Sandboxes of one pod come one after another, so
/// one round knows them all; more only when some are made meanwhile.
const ROUNDS: usize = 8;
/// What the agent is told to answer earlier than the caller gives up, so that its own reason arrives.
const AHEAD: Duration = Duration::from_millis(500);
/// How long a claim waits for an agent that does not listen, and how often it looks. A look is one system call.
const RESTART: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(25);
/// How much of an answer that is none a message repeats, in characters.
const SHOWN: usize = 80;

/// The cluster's pools, seen through the agent of this node.
#[derive(Debug, Clone)]
pub struct RemoteStore {
    socket: PathBuf,
    tombstones: Tombstones,
    /// The directory of the tombstones: where it exists, the node has had an agent.
    kept: PathBuf,
    /// The state directory of the node's agent, which tells the same before the first claim.
    agent: Option<PathBuf>,
}

/// How a release ended that was not allowed to fail.
#[derive(Debug)]
pub enum Released {
    /// This many addresses are free again.
    Done(usize),
    /// The agent did not confirm it because of this; a tombstone will see to it.
    Entombed(RemoteError),
}

impl RemoteStore {
    /// The store behind the agent that listens on `socket`. `tombstones` is the directory it shares with the agent; it
    /// is made by the first claim that reaches one.
    pub fn new(socket: PathBuf, tombstones: PathBuf) -> Self {
        Self { socket, kept: tombstones.clone(), tombstones: Tombstones::new(tombstones), agent: None }
    }

    /// The same on a node whose agent, if it has one, makes this directory when it starts.
    #[must_use]
    pub fn with_agent_in(self, state: PathBuf) -> Self {
        Self { agent: Some(state), ..self }
    }

    /// Reserves an address for every want of the request, written down where every node sees them. Repeating it for the
    /// same owner gives the same addresses.
    ///
    /// `pod_uid` is the pod's identity if the runtime says it, `alive` tells which other sandboxes of the pod still
    /// exist, see [`crate::allocate::allocate`]. `deadline` bounds the whole of it.
    ///
    /// # Errors
    /// Unless [`RemoteError::is_clean`], the addresses may be reserved; releasing the owner is right then.
    pub fn claim(
        &self,
        request: &Request,
        pod_uid: Option<&str>,
        deadline: Instant,
        alive: &dyn Fn(&str, &str) -> bool,
    ) -> Result<Vec<Assigned>, RemoteError> {
        self.claim_with(request, pod_uid, deadline, alive, &|_| self.tombstones.prepare())
    }

    /// The same for a caller that makes the directory of the tombstones by itself, which is told if it is missing.
    ///
    /// # Errors
    /// As [`RemoteStore::claim`], and the caller's own.
    pub fn claim_with(
        &self,
        request: &Request,
        pod_uid: Option<&str>,
        deadline: Instant,
        alive: &dyn Fn(&str, &str) -> bool,
        prepare: &dyn Fn(&Path) -> Result<(), StoreError>,
    ) -> Result<Vec<Assigned>, RemoteError> {
        let owner = &request.owner;
        let mut sandboxes: Vec<Sandbox> = Vec::new();
        for _ in 0..ROUNDS {
            let stream = self.reach(deadline)?;
            // Not before there is an agent: a node that never had one gathers no tombstones of releases either.
            if !self.kept.is_dir() {
                prepare(&self.kept)?;
            }
            let patience = deadline.saturating_duration_since(Instant::now()).saturating_sub(AHEAD);
            let claim = Claim {
                request: request.clone(),
                pod_uid: pod_uid.map(str::to_owned),
                patience_ms: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
                sandboxes: sandboxes.clone(),
            };
            match self.ask_over(&stream, Verb::Claim(Box::new(claim)), deadline)? {
                Answer::Assigned(assigned) if fits(request, &assigned) => {
                    self.tombstones.remove(&Tombstone::of(&owner.container_id, &owner.ifname))?;
                    return Ok(assigned);
                }
                Answer::Contested(asked) => {
                    let known = sandboxes.len();
                    for attachment in asked {
                        if !sandboxes.iter().any(|sandbox| sandbox.attachment == attachment) {
                            let alive = alive(&attachment.container_id, &attachment.ifname);
                            sandboxes.push(Sandbox { attachment, alive });
                        }
                    }
                    if sandboxes.len() == known {
                        return Err(self.nonsense(RESERVE, "asks again about sandboxes it was told about"));
                    }
                }
                other => return Err(self.unfit(RESERVE, &other)),
            }
        }
        Err(self.nonsense(RESERVE, &format!("asked {ROUNDS} times about further sandboxes of the pod")))
    }

    /// Frees every address of the attachment, in every pool. Returns how many; repeating it is no error.
    pub fn release(&self, id: &str, ifname: &str, deadline: Instant) -> Result<usize, RemoteError> {
        match self.ask(Verb::Release(attachment(id, ifname)), deadline)? {
            Answer::Released(count) => Ok(count),
            other => Err(self.unfit(RELEASE, &other)),
        }
    }

    /// As [`RemoteStore::release`], but what the agent does not confirm is left as a tombstone.
    ///
    /// # Errors
    /// [`RemoteError::Unreleased`]: the tombstone cannot be written either.
    pub fn release_or_entomb(
        &self,
        id: &str,
        ifname: &str,
        deadline: Instant,
    ) -> Result<Released, RemoteError> {
        self.release_or(id, ifname, deadline, |_, tombstone| self.tombstones.write(tombstone))
    }

    /// The same for a caller that leaves the tombstone by itself, in the directory that it is told.
    ///
    /// # Errors
    /// [`RemoteError::Unreleased`]: the caller could not.
    pub fn release_or(
        &self,
        id: &str,
        ifname: &str,
        deadline: Instant,
        entomb: impl FnOnce(&Path, &Tombstone) -> Result<(), StoreError>,
    ) -> Result<Released, RemoteError> {
        let cause = match self.release(id, ifname, deadline) {
            Ok(count) => return Ok(Released::Done(count)),
            Err(cause) => cause,
        };
        match entomb(self.tombstones.directory(), &Tombstone::of(id, ifname)) {
            Ok(()) => Ok(Released::Entombed(cause)),
            Err(second) => Err(RemoteError::Unreleased { cause: Box::new(cause), source: second }),
        }
    }

    /// The addresses that the attachment has in the pools of `ipam`, lowest first within each pool.
    pub fn held(
        &self,
        id: &str,
        ifname: &str,
        ipam: &Ipam,
        deadline: Instant,
    ) -> Result<Vec<IpNet>, RemoteError> {
        let lookup = Lookup { attachment: attachment(id, ifname), pools: ipam.pools() };
        match self.ask(Verb::Held(lookup), deadline)? {
            Answer::Held(held) => Ok(held),
            other => Err(self.unfit(LOOK_UP, &other)),
        }
    }

    /// State of every range of `ipam`, in order.
    pub fn usage(&self, ipam: &Ipam, deadline: Instant) -> Result<Vec<Usage>, RemoteError> {
        let inquiry = Inquiry {
            network_name: ipam.network_name.clone(),
            overlapping: ipam.enable_overlapping_ranges,
            ranges: ipam.ranges.clone(),
            reserved: ipam.reserved(),
        };
        match self.ask(Verb::Usage(inquiry), deadline)? {
            Answer::Usage(usage) if usage.len() == ipam.ranges.len() => Ok(usage),
            other => Err(self.unfit(COUNT, &other)),
        }
    }

    fn ask(&self, verb: Verb, deadline: Instant) -> Result<Answer, RemoteError> {
        let stream = call::connect(&self.socket, deadline).map_err(|source| self.away(source))?;
        self.ask_over(&stream, verb, deadline)
    }

    fn ask_over(&self, stream: &UnixStream, verb: Verb, deadline: Instant) -> Result<Answer, RemoteError> {
        let attempt = attempt(&verb);
        let line = call::line(&Call { version: VERSION, verb })?;
        let reply = call::exchange(stream, &line, deadline).map_err(|source| self.lost(attempt, source))?;
        self.read(attempt, &reply)
    }

    /// Connects to the agent. One that restarts, as at a rollout, is waited for on a node that has had one:
    /// kubelet would try again only a quarter of a minute later.
    fn reach(&self, deadline: Instant) -> Result<UnixStream, RemoteError> {
        let until = deadline.min(Instant::now() + RESTART);
        loop {
            let cause = match call::connect(&self.socket, deadline) {
                Ok(stream) => return Ok(stream),
                Err(cause) => cause,
            };
            let restarts = matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused);
            if !restarts || Instant::now() + LOOK >= until || !self.has_agent() {
                return Err(self.away(cause));
            }
            sleep(LOOK);
        }
    }

    /// Whether the node has, or has had, an agent.
    fn has_agent(&self) -> bool {
        self.kept.is_dir() || self.agent.as_ref().is_some_and(|state| state.is_dir())
    }

    fn away(&self, source: io::Error) -> RemoteError {
        RemoteError::Away { socket: self.socket.clone(), source }
    }

    fn read(&self, attempt: &'static str, line: &[u8]) -> Result<Answer, RemoteError> {
        /// What replies of all versions have in common.
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let none = |cause: serde_json::Error| {
            let text: String = String::from_utf8_lossy(line).chars().take(SHOWN).collect();
            self.nonsense(attempt, &format!("is not a reply: {cause}: {text:?}"))
        };
        let Versioned { version } = serde_json::from_slice(line).map_err(none)?;
        match serde_json::from_slice(line) {
            // Failures read alike whoever speaks; this one may be about the version.
            Ok(Reply { answer: Answer::Failed(failure), .. }) => {
                Err(RemoteError::Failed { socket: self.socket.clone(), failure })
            }
            _ if version != VERSION => {
                Err(RemoteError::Version { socket: self.socket.clone(), theirs: version })
            }
            Ok(Reply { answer, .. }) => Ok(answer),
            Err(cause) => Err(none(cause)),
        }
    }

    fn unfit(&self, attempt: &'static str, answer: &Answer) -> RemoteError {
        let text: String = format!("{answer:?}").chars().take(SHOWN).collect();
        self.nonsense(attempt, &format!("does not fit the question: {text}"))
    }

    fn nonsense(&self, attempt: &'static str, why: &str) -> RemoteError {
        self.lost(attempt, io::Error::new(ErrorKind::InvalidData, format!("its answer {why}")))
    }

    fn lost(&self, attempt: &'static str, source: io::Error) -> RemoteError {
        RemoteError::Unanswered { socket: self.socket.clone(), attempt, source }
    }
}

const RESERVE: &str = "reserve addresses";
const RELEASE: &str = "release addresses";
const LOOK_UP: &str = "look up addresses";
const COUNT: &str = "count free addresses";

fn attempt(verb: &Verb) -> &'static str {
    match verb {
        Verb::Claim(_) => RESERVE,
        Verb::Release(_) => RELEASE,
        Verb::Held(_) => LOOK_UP,
        Verb::Usage(_) => COUNT,
    }
}

fn attachment(id: &str, ifname: &str) -> Attachment {
    Attachment { container_id: id.to_owned(), ifname: ifname.to_owned() }
}

/// Whether every want got an address of its own, in its subnet, and the one it named if it named one.
fn fits(request: &Request, assigned: &[Assigned]) -> bool {
    let suits = |(want, got): (&Want, &Assigned)| {
        let address = got.address.addr();
        let named = match want.choice {
            Choice::Exactly(wanted) => wanted == address,
            Choice::Lowest(_) => true,
        };
        named && want.subnet.contains(&address) && want.subnet.prefix_len() == got.address.prefix_len()
    };
    let once = |(i, got): (usize, &Assigned)| {
        !assigned[..i].iter().any(|before| before.address.addr() == got.address.addr())
    };
    assigned.len() == request.wants.len()
        && request.wants.iter().zip(assigned).all(suits)
        && assigned.iter().enumerate().all(once)
}
