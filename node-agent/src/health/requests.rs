//! Requests to the API server, of all parts of the agent: how they end, and what the server forbids.
//!
//! A layer under the one client of the agent sees them all. So a missing permission is reported in the same words for
//! every part, and stays reported until the same request succeeds, or the server says that it would.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use octavia_bridge_cluster::lock;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::{BoxError, Layer, Service};

use super::{Line, Metrics};

/// A server without an answer for so long is away: a single request may fail for reasons of its own.
const AWAY: Duration = Duration::from_secs(3);

type Labels = [(&'static str, String); 3];

/// What became of the requests.
#[derive(Debug, Clone)]
pub(crate) struct Requests {
    server: Arc<str>,
    ended: Family<Labels, Counter>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    answered: bool,
    /// The first and the last request without an answer since there was one, and why the last had none.
    silent: Option<(Instant, Instant, String)>,
    /// With the name of the object that it was about last, if it was about one.
    refused: BTreeMap<Asked, (StatusCode, Option<String>)>,
}

/// What a request is about, as roles name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Asked {
    verb: &'static str,
    /// With the subresource behind a slash.
    resource: String,
    group: String,
    namespace: Option<String>,
}

impl Asked {
    /// The question whether an object of this name could be asked for, as a `SelfSubjectAccessReview`.
    pub(crate) fn review(&self, name: Option<&str>) -> Value {
        let (resource, subresource) = self.resource.split_once('/').unwrap_or((&self.resource, ""));
        json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {
                "verb": self.verb,
                "group": self.group,
                "resource": resource,
                "subresource": subresource,
                "namespace": self.namespace.as_deref().unwrap_or_default(),
                "name": name.unwrap_or_default(),
            }},
        })
    }

    /// Whether it is such a question itself, which no part of the agent needs an answer to.
    fn is_review(&self) -> bool {
        self.resource == "selfsubjectaccessreviews"
    }

    /// Whether it only tells how the node stands. No pod needs that, so a roll-out before the new roles does not stop there.
    fn is_report(&self) -> bool {
        self.resource.starts_with("nodenetworkstates")
    }
}

impl Requests {
    /// Those to `server`, a URL.
    pub(crate) fn new(metrics: &Metrics, server: &str) -> Self {
        let help = "Requests to the API server by verb, resource and HTTP status, none where no answer came";
        let ended = metrics.add("api_requests", help, Family::default());
        Self { server: server.into(), ended, state: Arc::default() }
    }

    /// What keeps the server from serving this agent.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let state = lock(&self.state);
        let server = &self.server;
        let mut lines = Vec::new();
        match &state.silent {
            Some((first, last, why)) if !state.answered || last.duration_since(*first) >= AWAY => {
                lines.push(Line::Missing(format!(
                    "no answer from {server} for {} s: {why}",
                    first.elapsed().as_secs()
                )));
            }
            _ if state.answered => {}
            _ => lines.push(Line::Missing(format!("{server} has not answered yet"))),
        }
        if state.refused.values().any(|(code, _)| *code == StatusCode::UNAUTHORIZED) {
            let why = "401 Unauthorized: the agent's token has expired or is not this cluster's";
            lines.push(Line::Missing(format!("{server} rejects this agent: {why}")));
        }
        let forbidden = state.refused.iter().filter(|(_, (code, _))| *code == StatusCode::FORBIDDEN);
        let (mut needed, mut reports) = (Vec::new(), Vec::new());
        for (asked, _) in forbidden {
            let why = format!("cannot {asked}: 403 Forbidden: the agent's roles lack this permission");
            match asked.is_report() {
                true => reports.push(Line::Amiss(why)),
                false => needed.push(Line::Missing(why)),
            }
        }
        lines.append(&mut needed);
        if lines.is_empty() {
            lines.push(Line::Well(format!("{server} answers")));
        }
        lines.append(&mut reports);
        lines
    }

    /// What the server forbids, and the name of the object that was asked for last.
    pub(crate) fn forbidden(&self) -> Vec<(Asked, Option<String>)> {
        let state = lock(&self.state);
        let forbidden = state.refused.iter().filter(|(_, (code, _))| *code == StatusCode::FORBIDDEN);
        forbidden.map(|(asked, (_, name))| (asked.clone(), name.clone())).collect()
    }

    /// The server says that it would allow this.
    pub(crate) fn is_allowed(&self, asked: &Asked) {
        lock(&self.state).refused.remove(asked);
    }

    fn answered(&self, asked: &Asked, name: Option<String>, code: StatusCode) {
        self.count(asked, code.as_str());
        let mut state = lock(&self.state);
        state.answered = true;
        state.silent = None;
        if code == StatusCode::FORBIDDEN && asked.is_review() {
            return;
        }
        if matches!(code, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            state.refused.insert(asked.clone(), (code, name));
        } else {
            state.refused.remove(asked);
            // Who is known for one request is known for all.
            state.refused.retain(|_, (code, _)| *code != StatusCode::UNAUTHORIZED);
        }
    }

    fn unanswered(&self, asked: &Asked, why: String) {
        self.count(asked, "none");
        let now = Instant::now();
        let mut state = lock(&self.state);
        let first = state.silent.as_ref().map_or(now, |(first, ..)| *first);
        state.silent = Some((first, now, why));
    }

    fn count(&self, asked: &Asked, code: &str) {
        let labels =
            [("verb", asked.verb.into()), ("resource", asked.resource.clone()), ("code", code.into())];
        self.ended.get_or_create(&labels).inc();
    }
}

impl Asked {
    /// With the name of the object, if it is about one.
    fn of<B>(request: &Request<B>) -> (Self, Option<String>) {
        let uri = request.uri();
        let mut parts: Vec<&str> = uri.path().split('/').filter(|part| !part.is_empty()).collect();
        // /api/v1/… and /apis/GROUP/VERSION/…
        let (skipped, group) = match parts[..] {
            ["api", ..] => (2, ""),
            ["apis", group, ..] => (3, group),
            _ => (0, ""),
        };
        parts.drain(..skipped.min(parts.len()));
        let mut namespace = None;
        if parts.len() > 2 && parts[0] == "namespaces" {
            namespace = Some(parts[1].to_owned());
            parts.drain(..2);
        }
        let mut resource = parts.first().copied().unwrap_or("/").to_owned();
        if let Some(part) = parts.get(2) {
            resource = format!("{resource}/{part}");
        }
        let query = uri.query().unwrap_or_default();
        let watch = query.split('&').any(|pair| matches!(pair, "watch=1" | "watch=true"));
        let verb = match (request.method(), parts.len() > 1) {
            (&Method::GET, _) if watch => "watch",
            (&Method::GET, true) => "get",
            (&Method::GET, false) => "list",
            (&Method::POST, _) => "create",
            (&Method::PUT, _) => "update",
            (&Method::PATCH, _) => "patch",
            (&Method::DELETE, true) => "delete",
            (&Method::DELETE, false) => "deletecollection",
            _ => "ask",
        };
        let name = parts.get(1).map(|name| (*name).to_owned());
        (Self { verb, resource, group: group.to_owned(), namespace }, name)
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        self.namespace.iter().try_for_each(|namespace| write!(f, " in {namespace}"))
    }
}

impl<S> Layer<S> for Requests {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed { inner, requests: self.clone() }
    }
}

/// A client's service whose requests are seen.
#[derive(Debug, Clone)]
pub(crate) struct Observed<S> {
    inner: S,
    requests: Requests,
}

/// A request under way. One that its caller gives up ends, too.
struct Pending {
    requests: Requests,
    asked: Asked,
    name: Option<String>,
    over: bool,
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.over {
            self.requests.unanswered(&self.asked, "no answer".into());
        }
    }
}

impl<S, B, R> Service<Request<B>> for Observed<S>
where
    S: Service<Request<B>, Response = Response<R>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<R>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<R>, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (asked, name) = Asked::of(&request);
        let mut pending = Pending { requests: self.requests.clone(), asked, name, over: false };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            pending.over = true;
            match &answer {
                Ok(response) => {
                    pending.requests.answered(&pending.asked, pending.name.take(), response.status());
                }
                Err(error) => pending.requests.unanswered(&pending.asked, innermost(error.as_ref())),
            }
            answer
        })
    }
}

/// The first cause: the outer layers of an HTTP client say only that there was an error.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests;
