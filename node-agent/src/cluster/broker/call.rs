//! One connection: a line comes in, a line goes out.

use std::time::Duration;

use octavia_bridge_ipam::causes::chain;
use octavia_bridge_ipam::kubernetes::{Claimed, Error, Refused, Residue, Turn};
use octavia_bridge_ipam::request::Owner;
use octavia_bridge_ipam::wire::{
    Answer, Attachment, Call, Claim, Failure, Kind, MAX_LINE, Reply, VERSION, Verb,
};
use octavia_bridge_netlink::validate_link_name;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::Broker;

/// How long a caller may take to say what it wants, and to take in the answer.
const CALLER: Duration = Duration::from_secs(5);
/// Read ahead of a caller, in bytes: a call is one line, and hundreds may come at once.
const BUFFER: usize = 1 << 10;
/// The longest that a claim may take, whatever deadline its plugin names.
const LONGEST: Duration = Duration::from_secs(25);
/// The answer is on its way this long before the deadline that the plugin names, which is before its own.
const MARGIN: Duration = Duration::from_millis(250);
/// How long a release may take; a plugin that does not wait so long leaves a tombstone and loses nothing.
const RELEASE: Duration = Duration::from_secs(20);
/// How long a question may take.
const QUESTION: Duration = Duration::from_secs(5);

impl Broker {
    /// Answers one connection.
    pub(super) async fn answer(&self, stream: UnixStream) {
        match stream.peer_cred() {
            Ok(peer) if peer.uid() == 0 || peer.uid() == self.user => {}
            Ok(peer) => {
                tracing::warn!("refused a connection of user {}: only root may connect", peer.uid());
                return;
            }
            Err(error) => {
                tracing::warn!("refused a connection whose user cannot be read: {error}");
                return;
            }
        }
        let mut stream = BufReader::with_capacity(BUFFER, stream);
        let line = match timeout(CALLER, line(&mut stream)).await {
            Ok(Ok(line)) if line.is_empty() => return,
            Ok(Ok(line)) => line,
            Ok(Err(error)) => {
                tracing::debug!("a plugin closed the connection: {error}");
                return;
            }
            Err(_) => {
                let message = format!("no complete line within {} s", CALLER.as_secs());
                reply(stream.get_mut(), failed(Kind::Malformed, message)).await;
                return;
            }
        };
        let verb = read(&line);
        // A call has one line. Hundreds of claims may wait: what it came in is not kept for so long.
        drop(line);
        let mut stream = stream.into_inner();
        match verb {
            Ok(verb) => self.answer_verb(verb, &mut stream).await,
            Err(failure) => drop(reply(&mut stream, Answer::Failed(failure)).await),
        }
    }

    async fn answer_verb(&self, verb: Verb, stream: &mut UnixStream) {
        let answer = match verb {
            Verb::Claim(claim) => return self.claim(claim, stream).await,
            Verb::Release(attachment) => self.release(&attachment).await,
            Verb::Held(lookup) => {
                let held = self.store.held(&lookup, Instant::now() + QUESTION).await;
                held.map_or_else(|error| Answer::Failed(Failure::from(&error)), Answer::Held)
            }
            Verb::Usage(inquiry) => {
                self.metrics.asked(&inquiry);
                let usage = self.store.usage(&inquiry, Instant::now() + QUESTION).await;
                usage.map_or_else(|error| Answer::Failed(Failure::from(&error)), Answer::Usage)
            }
        };
        reply(stream, answer).await;
    }

    async fn claim(&self, mut claim: Box<Claim>, stream: &mut UnixStream) {
        let limit = Duration::from_millis(claim.patience_ms).min(LONGEST);
        let begun = Instant::now();
        let deadline = begun + limit.saturating_sub(MARGIN);
        self.metrics.wanted(&claim.request);
        let Owner { container_id, ifname, .. } = &claim.request.owner;
        let attachment = Attachment { container_id: container_id.clone(), ifname: ifname.clone() };
        let turn = match self.store.turn_unless_away(&attachment, deadline).await {
            Ok(turn) => turn,
            Err(error) => {
                let failure = Failure::from(&error);
                tracing::warn!("no address for container {}: {failure}", attachment.container_id);
                self.metrics.claimed(&Err(Refused { error, residue: None }), begun.elapsed());
                reply(stream, Answer::Failed(failure)).await;
                return;
            }
        };
        self.judge(&mut claim, deadline).await;
        let claimed = self.store.claim(&turn, &claim, deadline).await;
        self.metrics.claimed(&claimed, begun.elapsed());
        match claimed {
            Ok(Claimed::Assigned(assigned)) => {
                // An earlier release that could not be done must not be done from now on.
                if let Err(error) = self.pending.remove(&attachment).await {
                    let answer =
                        failed(Kind::Unavailable, format!("the addresses were released again: {error:#}"));
                    self.take_back(&turn).await;
                    reply(stream, answer).await;
                    return;
                }
                for assigned in &assigned {
                    let pod = claim.request.owner.pod.as_deref().unwrap_or_default();
                    let Attachment { container_id, ifname } = &attachment;
                    tracing::info!("{} for {pod} {ifname} (container {container_id})", assigned.address);
                }
                if !reply(stream, Answer::Assigned(assigned)).await {
                    tracing::warn!(
                        "the plugin of container {} did not wait for its addresses; the agent releases them",
                        attachment.container_id
                    );
                    self.take_back(&turn).await;
                }
            }
            Ok(Claimed::Contested(sandboxes)) => drop(reply(stream, Answer::Contested(sandboxes)).await),
            Err(Refused { error, residue }) => {
                let mut failure = Failure::from(&error);
                if let Error::Exhausted(full) = &error {
                    failure.message += &self.leaked(&full.0);
                }
                tracing::warn!("no address for container {}: {failure}", attachment.container_id);
                match residue {
                    None => drop(reply(stream, Answer::Failed(failure)).await),
                    Some(residue) => self.undo(&turn, residue, failure, stream).await,
                }
            }
        }
    }

    /// Takes back what a failed claim has written. The tombstone comes first: the agent may be killed before it is done,
    /// and the plugin need not wait for it.
    async fn undo(&self, turn: &Turn, residue: Residue, failure: Failure, stream: &mut UnixStream) {
        let attachment = turn.attachment();
        // One of which nothing is known is replayed once more, and finds nothing.
        let stood = self.pending.has(attachment).await.unwrap_or(true);
        self.write_tombstone(attachment).await;
        reply(stream, Answer::Failed(failure)).await;
        match self.store.undo(turn, residue, Instant::now() + RELEASE).await {
            // One from before asks for more than this claim's.
            Ok(()) if !stood => self.remove_tombstone(attachment).await,
            Ok(()) => {}
            Err(error) => later(attachment, &error),
        }
    }

    /// Releases what was claimed for a plugin that is gone.
    async fn take_back(&self, turn: &Turn) {
        self.write_tombstone(turn.attachment()).await;
        match self.store.release(turn, Instant::now() + RELEASE).await {
            Ok(_) => self.remove_tombstone(turn.attachment()).await,
            Err(error) => later(turn.attachment(), &error),
        }
    }

    async fn release(&self, attachment: &Attachment) -> Answer {
        let deadline = Instant::now() + RELEASE;
        let Some(turn) = self.turn(attachment, deadline).await else { return busy(attachment) };
        let released = self.store.release(&turn, deadline).await;
        self.metrics.released(&released);
        match released {
            Ok(released) => {
                let Attachment { container_id, ifname } = attachment;
                tracing::info!("released {released} addresses of container {container_id} {ifname}");
                self.remove_tombstone(attachment).await;
                Answer::Released(released)
            }
            Err(error) => {
                // The plugin does so, too, if it still waits.
                self.write_tombstone(attachment).await;
                later(attachment, &error);
                Answer::Failed(Failure::from(&error))
            }
        }
    }

    pub(super) async fn turn(&self, attachment: &Attachment, deadline: Instant) -> Option<Turn> {
        timeout_at(deadline, self.store.turn(attachment)).await.ok()
    }

    /// Leaves a tombstone. One that is late finds nothing to release.
    async fn write_tombstone(&self, attachment: &Attachment) {
        if let Err(error) = self.pending.write(attachment).await {
            tracing::error!(
                "cannot note that container {} is to be released: {error:#}",
                attachment.container_id
            );
        }
    }

    /// Removes a tombstone whose release is done. One that stays finds nothing the next time.
    pub(super) async fn remove_tombstone(&self, attachment: &Attachment) {
        if let Err(error) = self.pending.remove(attachment).await {
            tracing::warn!("the release of container {} stays noted: {error:#}", attachment.container_id);
        }
    }
}

fn later(attachment: &Attachment, error: &Error) {
    let failure = Failure::from(error);
    tracing::warn!("cannot release container {} now, and will retry: {failure}", attachment.container_id);
}

fn busy(attachment: &Attachment) -> Answer {
    let Attachment { container_id, ifname } = attachment;
    failed(Kind::Unavailable, format!("another call for container {container_id} {ifname} is still running"))
}

fn failed(kind: Kind, message: String) -> Answer {
    Answer::Failed(Failure { kind, message })
}

/// One line without its end; empty if the caller said nothing.
async fn line(stream: &mut BufReader<UnixStream>) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    stream.take(MAX_LINE as u64).read_until(b'\n', &mut line).await?;
    Ok(line)
}

/// Understands a line, or says what is wrong with it.
pub(crate) fn read(line: &[u8]) -> Result<Verb, Failure> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let malformed = |message: String| Failure { kind: Kind::Malformed, message };
    if !line.ends_with(b"\n") {
        return Err(malformed(format!("the call is not one line of at most {MAX_LINE} bytes")));
    }
    // The version first: what another one says need not be understood.
    let Version { version } = serde_json::from_slice(line)
        .map_err(|error| malformed(format!("the call has no version: {error}")))?;
    if version != VERSION {
        let message = format!(
            "the plugin speaks version {version}, the agent version {VERSION}; install the {} of the same release",
            if version < VERSION { "plugin" } else { "agent" }
        );
        return Err(Failure { kind: Kind::Version, message });
    }
    let call: Call =
        serde_json::from_slice(line).map_err(|error| malformed(format!("the call is malformed: {error}")))?;
    call.verb.check()?;
    if let Verb::Claim(claim) = &call.verb {
        validate_link_name(&claim.request.owner.ifname).map_err(|error| malformed(chain(&error)))?;
    }
    Ok(call.verb)
}

/// Writes the answer; whether the plugin was there to take it.
async fn reply(stream: &mut UnixStream, answer: Answer) -> bool {
    let reply = Reply { version: VERSION, answer };
    let text = serde_json::to_vec(&reply).map(|mut text| {
        text.push(b'\n');
        text
    });
    match text {
        Ok(text) => matches!(timeout(CALLER, stream.write_all(&text)).await, Ok(Ok(()))),
        Err(error) => {
            tracing::error!("an answer has no JSON form: {error}");
            false
        }
    }
}
