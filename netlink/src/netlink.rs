//! The handle callers hold: one route socket in one namespace, with a deadline on every request.

use std::fmt;
use std::io;
use std::time::Duration;

use futures_util::lock::Mutex;
use rtnetlink::packet_core::{DecodeError, NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use crate::channel::{Answer, Channel, Decode, Request};
use crate::wire::Fault;
use crate::{Error, Inside, Link, Namespace, Result};

/// Default deadline of a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a dump is repeated if the kernel reports it as inconsistent. On a busy node links come and go
/// in bursts; with the pauses below, the repetitions last about a third of a second.
const DUMP_ROUNDS: u32 = 25;

/// Flags of a request that creates an object, and fails with EEXIST if it exists.
pub(crate) const CREATE_NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;

/// A route socket that lives in one network namespace for good.
///
/// Requests of several tasks run one after the other. Each has a deadline (5 s, or that of
/// [`Netlink::with_timeout`]), which includes the wait for earlier requests. It cannot interrupt the time in
/// which the kernel blocks the calling thread, because another process holds the kernel's RTNL lock. After
/// a cancelled request, the socket is replaced before the next one.
pub struct Netlink {
    /// Empty while a request runs, and after one was cancelled half-way.
    channel: Mutex<Option<Channel>>,
    namespace: Namespace,
    per_request: Duration,
    pub(crate) decode_link: Decode<Link>,
}

impl Netlink {
    /// Opens a socket in the namespace the calling thread is in.
    ///
    /// # Errors
    /// [`Error::Connection`], or [`Error::Namespace`] if procfs is not mounted.
    ///
    /// # Panics
    /// Outside a tokio runtime, or in one without an I/O driver.
    pub async fn open() -> Result<Self> {
        Self::new(Channel::for_requests(&Handle::current()), Namespace::current()?)
    }

    /// Opens a socket in `namespace`.
    ///
    /// # Errors
    /// [`Error::Connection`], or [`Error::Namespace`] if the namespace may not be entered.
    ///
    /// # Panics
    /// Outside a tokio runtime, or in one without an I/O driver.
    pub async fn open_in(namespace: &Namespace) -> Result<Self> {
        let runtime = Handle::current();
        Self::new(namespace.run(|| Channel::for_requests(&runtime))?, namespace.clone())
    }

    /// Opens a socket in `namespace`, with a thread that stays there for other work.
    ///
    /// # Errors
    /// As [`Netlink::open_in`].
    ///
    /// # Panics
    /// As [`Netlink::open_in`].
    pub async fn open_with_thread(namespace: &Namespace) -> Result<(Inside, Self)> {
        let runtime = Handle::current();
        let (inside, channel) = namespace.enter(move || Channel::for_requests(&runtime))?;
        Ok((inside, Self::new(channel, namespace.clone())?))
    }

    fn new(channel: io::Result<Channel>, namespace: Namespace) -> Result<Self> {
        let channel = channel.map_err(|source| connection(&namespace, source))?;
        Ok(Self {
            channel: Mutex::new(Some(channel)),
            namespace,
            per_request: REQUEST_TIMEOUT,
            decode_link: Link::from_message,
        })
    }

    /// Sets the deadline of each single request.
    #[must_use]
    pub fn with_timeout(mut self, per_request: Duration) -> Self {
        self.per_request = per_request;
        self
    }

    /// Leaves [`Link::options`] empty, for programs that are in a hurry and do not look at them.
    #[must_use]
    pub fn without_link_options(mut self) -> Self {
        self.decode_link = Link::without_options;
        self
    }

    /// The namespace this socket lives in.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Sends a request and returns the answer. `attempt` describes the request in errors.
    pub(crate) async fn request<T>(
        &self,
        request: Request,
        decode: Decode<T>,
        attempt: impl Fn() -> String,
    ) -> Result<Vec<T>> {
        let read = async || self.exchange(&request, decode, &attempt).await;
        settled(self.per_request, &attempt, read).await
    }

    /// Sends a request that changes something and waits for its acknowledgement.
    pub(crate) async fn change(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
        attempt: impl Fn() -> String,
    ) -> Result<()> {
        self.request(Request::change(message, flags), ignore, attempt).await.map(drop)
    }

    /// One request on the one socket. The channel is taken out while it is busy, so that a future that is
    /// dropped half-way (a deadline, a `select!`) leaves no channel with half an answer.
    async fn exchange<T>(
        &self,
        request: &Request,
        decode: Decode<T>,
        attempt: &impl Fn() -> String,
    ) -> Result<Answer<T>> {
        let mut slot = self.channel.lock().await;
        let mut channel = match slot.take() {
            Some(channel) => channel,
            None => self.reopen()?,
        };
        let answer = channel.exchange(request, decode).await;
        // After a refusal the answer was read to its end, and a request that is too long was not sent. After other faults the
        // socket may still contain answers.
        if matches!(answer, Ok(_) | Err(Fault::Refused { .. } | Fault::TooLong { .. })) {
            *slot = Some(channel);
        }
        answer.map_err(|fault| worded(fault, attempt()))
    }

    fn reopen(&self) -> Result<Channel> {
        let runtime = Handle::current();
        let channel = self.namespace.run(|| Channel::for_requests(&runtime))?;
        channel.map_err(|source| connection(&self.namespace, source))
    }
}

impl fmt::Debug for Netlink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Netlink").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// Reads within the limit, and repeats a dump that is inconsistent.
pub(crate) async fn settled<T>(
    limit: Duration,
    attempt: impl Fn() -> String,
    read: impl AsyncFnMut() -> Result<Answer<T>>,
) -> Result<Vec<T>> {
    match timeout(limit, until_consistent(read)).await {
        Ok(Ok(Some(items))) => Ok(items),
        Ok(Ok(None)) => Err(Error::Interrupted { attempt: attempt(), rounds: DUMP_ROUNDS }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(Error::Timeout { attempt: attempt(), after: limit, link: None }),
    }
}

/// Repeats a dump until the kernel reports that its table did not change meanwhile; `None` if every
/// repetition failed. An inconsistent answer can lack a link that exists.
async fn until_consistent<T>(mut read: impl AsyncFnMut() -> Result<Answer<T>>) -> Result<Option<Vec<T>>> {
    for round in 0..DUMP_ROUNDS {
        let answer = read().await?;
        if !answer.interrupted {
            return Ok(Some(answer.items));
        }
        sleep(Duration::from_millis(u64::from(round))).await;
    }
    Ok(None)
}

/// For requests whose answer is only an acknowledgement.
fn ignore(_kind: u16, _payload: &[u8]) -> std::result::Result<Option<()>, DecodeError> {
    Ok(None)
}

/// Adds the attempt to a fault.
pub(crate) fn worded(fault: Fault, attempt: String) -> Error {
    match fault {
        Fault::Refused { errno, message } => Error::Refused { attempt, errno, message },
        Fault::Undecodable(detail) => Error::Undecodable { attempt, detail },
        Fault::Io(source) => Error::Connection { attempt, source },
        Fault::TooLong { length, limit } => Error::Invalid {
            attempt,
            reason: format!("the request would have {length} bytes, and netlink can express {limit} at most"),
        },
    }
}

pub(crate) fn connection(namespace: &Namespace, source: io::Error) -> Error {
    Error::Connection { attempt: format!("open a netlink socket in {}", namespace.path().display()), source }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::panic::resume_unwind;
    use std::pin::pin;
    use std::thread;

    use nix::sched::{CloneFlags, unshare};
    use rtnetlink::packet_route::link::LinkMessage;
    use tokio::runtime::Builder;

    use super::*;
    use crate::NewBridge;

    /// Runs a test on a separate thread in an empty network namespace. The test fails if it cannot create
    /// one.
    fn privately<F: Future>(test: impl FnOnce() -> F + Send + 'static) {
        let inside = || {
            unshare(CloneFlags::CLONE_NEWNET)
                .expect("make a network namespace (as root, or in a user namespace)");
            Builder::new_current_thread().enable_all().build().unwrap().block_on(test());
        };
        thread::spawn(inside).join().unwrap_or_else(|panic| resume_unwind(panic));
    }

    fn all_links() -> Request {
        Request::dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))
    }

    #[test]
    fn a_request_without_an_answer_ends_at_its_deadline_and_hurts_no_other() {
        privately(async || {
            let netlink = Netlink::open().await.unwrap().with_timeout(Duration::from_millis(50));
            let silence = netlink.request(Request::unanswered(), ignore, || "wait in vain".into());
            let error = silence.await.unwrap_err();
            assert!(error.is_timeout(), "{error:?}");
            assert_eq!(error.to_string(), "wait in vain: no answer from the kernel within 50ms");
            assert_eq!(netlink.links().await.unwrap().len(), 1);
        });
    }

    #[test]
    fn a_request_dropped_half_way_hurts_no_other() {
        privately(async || {
            let netlink = Netlink::open().await.unwrap();
            let bridge = NewBridge { name: "here".into(), ..NewBridge::default() };
            netlink.create_bridge(&bridge).await.unwrap();
            {
                let mut silence = pin!(netlink.request(Request::unanswered(), ignore, String::new));
                assert!(timeout(Duration::from_millis(10), &mut silence).await.is_err());
            }
            // The socket was replaced, in the same namespace.
            assert!(netlink.link("here").await.unwrap().is_some());
        });
    }

    #[test]
    fn an_undecodable_answer_is_an_error_at_once() {
        privately(async || {
            let netlink = Netlink::open().await.unwrap();
            let unreadable: Decode<()> = |_, _| Err("odd length".into());
            let error = netlink.request(all_links(), unreadable, || "list links".into()).await.unwrap_err();
            assert_eq!(error.to_string(), "list links: undecodable answer from the kernel: odd length");
            assert_eq!(netlink.links().await.unwrap().len(), 1);
        });
    }

    #[test]
    fn an_interrupted_dump_is_repeated_but_not_for_ever() {
        privately(async || {
            for good in [1, 3, DUMP_ROUNDS, DUMP_ROUNDS + 1] {
                let mut rounds = 0;
                let read = async || {
                    rounds += 1;
                    Ok(Answer { items: vec![rounds], interrupted: rounds < good })
                };
                let items = until_consistent(read).await.unwrap();
                assert_eq!(items, (good <= DUMP_ROUNDS).then(|| vec![good]));
                assert_eq!(rounds, good.min(DUMP_ROUNDS));
            }
        });
    }
}
