//! `health`: what kubelet's probes run, and the socket where `run` answers it.
//!
//! The socket is its own and not the broker's: an agent without a cluster has none of that, and the broker takes up no
//! more connections when it has many calls to answer. It lies in a directory of root's, and each side lets the kernel say
//! that the other is root, so that no other process of the node answers in the agent's name or keeps it from answering.
//! Both ways run in the runtime of the broker: an agent that answers here has a thread that gives addresses.
//!
//! A question is one line. So is the head of the answer, `yes` or `no`; the rest is text for people.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use octavia_bridge_ipam::causes::chain;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use super::{Health, Line, Report};
use crate::socket::{self, Socket};

/// How long an answer may take. Kubelet's deadline is a little later (`timeoutSeconds` in daemonset/base), so that it gets
/// the reason; on a node where a hundred pods start at once, a process alone takes seconds to start.
pub(crate) const DEADLINE: Duration = Duration::from_secs(8);
/// Pause before a socket is tried again, and between two looks at one that may have been removed.
const RETRY: Duration = Duration::from_secs(5);
/// Longest question, in bytes.
const QUESTION: u64 = 64;
/// Longest answer, in bytes.
const ANSWER: u64 = 1 << 20;

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Question {
    /// As /healthz: the agent's loop runs and the agent answers plugins; if not, restart the agent.
    Live,
    /// As /readyz: one line for each component; the agent is not ready while a line begins with "wait".
    Ready,
    /// Same as live, for a startup probe.
    Started,
    /// As ready, after a line with the agent's version.
    Status,
}

impl Question {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Ready => "ready",
            Self::Started => "started",
            Self::Status => "status",
        }
    }

    /// Whether it is so, and the text.
    fn answer(self, health: &Health) -> (bool, String) {
        match self {
            Self::Live | Self::Started => health.alive(),
            Self::Ready => health.readiness.report(),
            Self::Status => {
                let (ready, text) = health.readiness.report();
                (ready, format!("agent {}\n{text}", env!("CARGO_PKG_VERSION")))
            }
        }
    }
}

/// Answers at `path` until the task ends.
pub(super) async fn answer(path: PathBuf, health: Arc<Health>, report: Report) {
    let mut told = String::new();
    loop {
        match Socket::bind(&path, "--health-socket") {
            Ok(socket) => {
                report.set(Vec::new());
                serve(&socket, &health).await;
                tracing::warn!("{} was removed or replaced; the agent listens there again", path.display());
            }
            Err(error) => {
                let why = format!("cannot answer on the socket: {}; the agent retries", chain(&error));
                if why != told {
                    tracing::warn!("kubelet's probes: {why}");
                }
                report.set(vec![Line::Note(why.clone())]);
                told = why;
                sleep(RETRY).await;
            }
        }
    }
}

/// Answers for as long as clients find the socket.
async fn serve(socket: &Socket, health: &Arc<Health>) {
    while socket.stands() {
        match timeout(RETRY, socket.accept()).await {
            Ok(Ok(stream)) => {
                let health = health.clone();
                tokio::spawn(async move {
                    // What becomes of its connection is the client's matter.
                    timeout(DEADLINE, converse(stream, &health)).await.ok();
                });
            }
            Ok(Err(error)) => {
                tracing::warn!("cannot accept a connection for a probe: {error}");
                sleep(RETRY).await;
            }
            Err(_) => {}
        }
    }
}

async fn converse(mut stream: UnixStream, health: &Health) -> io::Result<()> {
    if !socket::is_of_root(&stream)? {
        return Ok(());
    }
    let mut question = String::new();
    BufReader::new((&mut stream).take(QUESTION)).read_line(&mut question).await?;
    let known = Question::value_variants().iter().find(|known| known.word() == question.trim_end());
    let (so, text) = match known {
        Some(question) => question.answer(health),
        None => (false, format!("{question:?} is not a question that this version knows\n")),
    };
    stream.write_all(format!("{}\n{text}", if so { "yes" } else { "no" }).as_bytes()).await?;
    stream.shutdown().await
}

/// Asks the agent at `path`: whether it is so, and the text.
///
/// # Errors
/// No answer.
pub(crate) async fn exchange(question: Question, path: &Path) -> anyhow::Result<(bool, String)> {
    let mut stream = UnixStream::connect(path).await.context(
        "connect: the agent is not running, or listens on another --health-socket (HEALTH_SOCKET)",
    )?;
    anyhow::ensure!(socket::is_of_root(&stream)?, "the process that listens there belongs to another user");
    stream.write_all(format!("{}\n", question.word()).as_bytes()).await?;
    let mut answer = String::new();
    stream.take(ANSWER).read_to_string(&mut answer).await?;
    match answer.split_once('\n') {
        Some(("yes", text)) => Ok((true, text.to_owned())),
        Some(("no", text)) => Ok((false, text.to_owned())),
        _ => anyhow::bail!("the answer begins with neither yes nor no: {answer:?}"),
    }
}

#[cfg(test)]
mod tests;
