//! What the watching library does not say: that a watch has begun, and that one leads nowhere.
//!
//! It sees every request of one watch on its way out. What comes in on a watch that has said nothing for too long, or whose
//! connection broke, simply ends: the library then begins the next watch where this one was, and that tells whether the
//! server is well.

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

/// How long a list may take to answer, and a watch to begin.
const READING: Duration = Duration::from_secs(10);
/// A watch that has said nothing for so long is begun anew. That is not a fault: a server sends a bookmark a minute, but none
/// for a kind of which it has not seen a change since its start (apiserver's cacher.go). Yet what lies between may keep a
/// connection alive that leads nowhere, and only another watch tells.
const QUIET: Duration = Duration::from_secs(90);
/// A watch that begins sooner than this after the one before waits: a server, or a proxy, that ends each at once would be asked
/// without a pause.
const SHORT: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

struct Observed {
    api: Api,
    jitter: Arc<Jitter>,
    /// How many watches have begun.
    begun: watch::Sender<u64>,
    last: Mutex<(Option<Instant>, Backoff)>,
}

/// A client for one watch, which counts in `begun` the watches that the server has begun to answer.
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

    /// How long a watch has to wait because the one before it was of no use.
    fn too_soon(&self) -> Option<Duration> {
        let (last, backoff) = &mut *lock(&self.last);
        if last.is_some_and(|last| last.elapsed() < SHORT) {
            return Some(backoff.next(&self.jitter));
        }
        backoff.reset();
        None
    }
}

/// What comes in on a watch, until it ends, breaks or is quiet for too long.
fn frames(body: Body, api: Api) -> impl Stream<Item = Result<Frame<Bytes>, BoxError>> {
    unfold((body, api), |(mut body, api)| async {
        match timeout(QUIET, body.frame()).await {
            Ok(Some(Ok(frame))) => {
                api.heard();
                Some((Ok(frame), (body, api)))
            }
            // Ended, cut as every load balancer does to connections it finds old, or quiet.
            Ok(None | Some(Err(_))) | Err(_) => None,
        }
    })
}
