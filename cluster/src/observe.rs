//! Events that kube-runtime does not report: a watch began, or a watch is dead.
//!
//! This layer sees every request of one watch. If a watch is quiet for too long, or its connection breaks, the layer ends the
//! response. kube-runtime then starts the next watch at the same version, which shows whether the server works.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::unfold;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use kube::Client;
use kube::client::Body;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::{Api, Backoff, Jitter, lock};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Answer = UnsyncBoxBody<Bytes, BoxError>;

/// Deadline for the answer to a list, and for the start of a watch.
const READING: Duration = Duration::from_secs(10);
/// After so long without an event, the watch is started again. Silence is not a fault: a server sends a bookmark every minute, but
/// not for a resource without a change since the server's start (apiserver's cacher.go). But a proxy may keep a dead connection
/// open, and only a new watch shows that.
const QUIET: Duration = Duration::from_secs(90);
/// Least time between the starts of two watches: a server or proxy that ends each watch at once would otherwise get requests
/// without a pause.
const SHORT: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

struct Observed {
    api: Api,
    jitter: Arc<Jitter>,
    /// Number of watches that began.
    begun: watch::Sender<u64>,
    last: Mutex<(Option<Instant>, Backoff)>,
}

/// A client for one watch. It counts in `begun` the watches that the server began to answer.
pub(crate) fn observed(api: &Api, jitter: Arc<Jitter>, begun: watch::Sender<u64>) -> Client {
    let last = Mutex::new((None, Backoff::new(FIRST_PAUSE, LONGEST_PAUSE)));
    let observed = Arc::new(Observed { api: api.clone(), jitter, begun, last });
    let service = tower::service_fn(move |request: Request<Body>| {
        let observed = observed.clone();
        async move { observed.send(request).await }
    });
    Client::new(service, "default")
}

impl Observed {
    async fn send(&self, request: Request<Body>) -> Result<Response<Answer>, BoxError> {
        let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        if is_watch && let Some(pause) = self.too_soon() {
            sleep(pause).await;
        }
        self.api.sent();
        let late = |_| format!("no answer within {} s", READING.as_secs());
        let answer = timeout(READING, self.api.client.send(request)).await.map_err(late)??;
        self.api.heard();
        if !is_watch || !answer.status().is_success() {
            return Ok(answer.map(|body| body.map_err(BoxError::from).boxed_unsync()));
        }
        lock(&self.last).0 = Some(Instant::now());
        self.begun.send_modify(|begun| *begun += 1);
        let api = self.api.clone();
        Ok(answer.map(|body| StreamBody::new(frames(body, api)).boxed_unsync()))
    }

    /// How long the next watch has to wait because the previous one ended too soon.
    fn too_soon(&self) -> Option<Duration> {
        let (last, backoff) = &mut *lock(&self.last);
        if last.is_some_and(|last| last.elapsed() < SHORT) {
            return Some(backoff.next(&self.jitter));
        }
        backoff.reset();
        None
    }
}

/// The response to a watch, until it ends, breaks or is quiet for too long.
fn frames(body: Body, api: Api) -> impl Stream<Item = Result<Frame<Bytes>, BoxError>> {
    unfold((body, api), |(mut body, api)| async {
        match timeout(QUIET, body.frame()).await {
            Ok(Some(Ok(frame))) => {
                api.heard();
                Some((Ok(frame), (body, api)))
            }
            // Ended by the server, cut by a load balancer because of its age, or quiet.
            Ok(None | Some(Err(_))) | Err(_) => None,
        }
    })
}
