//! An API server in memory: versions, watches, patches and preconditions as the real one has them, and faults by chance.
//!
//! It is for interleavings that no real server would repeat: time is virtual, and one number decides who comes first and
//! what fails. What a server really does is tested against a real one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;

use super::super::lock;
use super::patch;
use octavia_bridge_cluster::Jitter;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Answer = Result<Response<UnsyncBoxBody<Bytes, BoxError>>, BoxError>;

/// Plural and name.
pub(super) type Key = (String, String);

/// What may go wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Refused, and nothing is done.
    Status(u16),
    /// Done, and then said to have failed.
    StatusAfter(u16),
    /// The connection breaks before anything is done.
    Cut,
    /// It breaks when everything is done.
    CutAfter,
    /// Nothing is done, and no answer comes.
    Silent,
    /// Everything is done, and no answer comes.
    SilentAfter,
    /// It is done after so long, unless nobody waits any more.
    Late(Duration),
    /// It is done at once, and answered after so long.
    LateAfter(Duration),
}

/// Faults that a storm of them consists of.
const STORM: [Fault; 10] = [
    Fault::Status(409),
    Fault::Status(422),
    Fault::Status(429),
    Fault::Status(500),
    Fault::StatusAfter(500),
    Fault::StatusAfter(504),
    Fault::Cut,
    Fault::CutAfter,
    Fault::Silent,
    Fault::SilentAfter,
];

/// When a fault happens: in requests whose method and path have these words in them.
#[derive(Debug)]
struct Rule {
    method: &'static str,
    path: &'static str,
    times: usize,
    fault: Fault,
}

#[derive(Debug, Default)]
struct World {
    version: u64,
    objects: BTreeMap<Key, Value>,
    /// Every change: its version, whose, the type of its event, and the object.
    log: Vec<(u64, String, &'static str, Value)>,
    /// Versions up to this are forgotten.
    compacted: u64,
    requests: Vec<String>,
    rules: Vec<Rule>,
    /// Of a thousand requests so many fail.
    storm: usize,
    /// No watch comes about.
    deaf: bool,
    /// Watches lead nowhere, and are not ended.
    dead: bool,
    /// How often it was restored from a backup, which ends all watches.
    restored: u64,
    /// The schema of pools knows no interfaces.
    prunes: bool,
    /// One for each watch under way, beside this one.
    watches: Arc<()>,
}

/// The server; clones are the same one.
#[derive(Clone)]
pub(super) struct Server {
    world: Arc<Mutex<World>>,
    jitter: Arc<Jitter>,
    changed: watch::Sender<u64>,
}

impl Server {
    pub(super) fn new(seed: u64) -> Self {
        let world = Arc::new(Mutex::new(World { version: 100, ..World::default() }));
        Self { world, jitter: Arc::new(Jitter::seeded(seed)), changed: watch::Sender::new(0) }
    }

    pub(super) fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { server.answer(request).await }
        });
        Client::new(service, "default")
    }

    /// The next `times` such requests fail.
    pub(super) fn fail(&self, method: &'static str, path: &'static str, times: usize, fault: Fault) {
        lock(&self.world).rules.push(Rule { method, path, times, fault });
    }

    /// Ends all faults by rule.
    pub(super) fn heal(&self) {
        lock(&self.world).rules.clear();
    }

    /// Of a thousand requests so many fail, until told otherwise.
    pub(super) fn storm(&self, permille: usize) {
        lock(&self.world).storm = permille;
    }

    /// Ends all watches, and lets none begin, until told otherwise.
    pub(super) fn deafen(&self, deaf: bool) {
        lock(&self.world).deaf = deaf;
        self.compact();
        self.changed.send_modify(|_| {});
    }

    /// While it is so, watches that have something to say never say anything again.
    pub(super) fn lose_watches(&self, dead: bool) {
        lock(&self.world).dead = dead;
    }

    /// Forgets the past: watches from before have to begin with a reading.
    pub(super) fn compact(&self) {
        let mut world = lock(&self.world);
        world.compacted = world.version;
        world.log.clear();
    }

    /// What a backup of etcd has.
    pub(super) fn backup(&self) -> (u64, BTreeMap<Key, Value>) {
        let world = lock(&self.world);
        (world.version, world.objects.clone())
    }

    /// Puts it back, and its version with it. A watch that goes on where it was is told nothing until the server has come so far
    /// again.
    pub(super) fn restore(&self, (version, objects): (u64, BTreeMap<Key, Value>)) {
        let mut world = lock(&self.world);
        (world.version, world.compacted, world.objects) = (version, version, objects);
        world.log.clear();
        world.restored += 1;
        self.changed.send_modify(|_| {});
    }

    /// Drops the interface of each entry from now on, as the schema of an older CRD has it.
    pub(super) fn prune_interfaces(&self) {
        lock(&self.world).prunes = true;
    }

    /// How many watches are under way.
    pub(super) fn watches(&self) -> usize {
        Arc::strong_count(&lock(&self.world).watches) - 1
    }

    /// Puts a backup back as etcd does with `--bump-revision --mark-compacted`: objects as they were, in a version that no watch
    /// can go on from.
    pub(super) fn restore_bumped(&self, (_, objects): (u64, BTreeMap<Key, Value>)) {
        let mut world = lock(&self.world);
        world.version += 1_000_000;
        (world.compacted, world.objects) = (world.version, objects);
        world.log.clear();
        world.restored += 1;
        self.changed.send_modify(|_| {});
    }

    /// Requests since the last call of this, watches left out with the question that comes with each.
    pub(super) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.world).requests)
    }

    /// The object as stored.
    pub(super) fn object(&self, plural: &str, name: &str) -> Option<Value> {
        lock(&self.world).objects.get(&(plural.to_owned(), name.to_owned())).cloned()
    }

    /// The names of all objects of a kind.
    pub(super) fn names(&self, plural: &str) -> Vec<String> {
        let world = lock(&self.world);
        world.objects.keys().filter(|(kind, _)| kind == plural).map(|(_, name)| name.clone()).collect()
    }

    /// Writes an object as anybody could; `None` deletes it.
    pub(super) fn put(&self, plural: &str, name: &str, object: Option<Value>) {
        let mut world = lock(&self.world);
        let key = (plural.to_owned(), name.to_owned());
        match object {
            Some(mut object) => {
                object["metadata"]["name"] = name.into();
                let old = world.objects.get(&key).cloned();
                store(&mut world, key, object, old.as_ref());
            }
            None => drop(remove(&mut world, &key)),
        }
        self.changed.send_replace(world.version);
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        let (head, body) = request.into_parts();
        let body = body.collect_bytes().await?;
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let (method, uri) = (head.method, head.uri.to_string());
        let accept = head.headers.get("accept").and_then(|value| value.to_str().ok());
        let metadata = accept.is_some_and(|accept| accept.contains("as=PartialObjectMetadata"));
        sleep(Duration::from_micros(200 + self.jitter.roll(5000) as u64)).await;
        if uri.contains("watch=true") {
            return self.watch(&uri, metadata);
        }
        let fault = self.fault(&method, &uri);
        match fault {
            Some(Fault::Status(code)) => return Ok(refusal(code, "injected")),
            Some(Fault::Cut) => return Err("connection reset".into()),
            Some(Fault::Silent) => sleep(Duration::from_secs(3600)).await,
            Some(Fault::Late(time)) => sleep(time).await,
            _ => {}
        }
        let (code, answer) = self.change(&method, &uri, body);
        sleep(Duration::from_micros(200 + self.jitter.roll(5000) as u64)).await;
        match fault {
            Some(Fault::StatusAfter(code)) => return Ok(refusal(code, "injected")),
            Some(Fault::CutAfter) => return Err("connection reset".into()),
            Some(Fault::SilentAfter) => sleep(Duration::from_secs(3600)).await,
            Some(Fault::LateAfter(time)) => sleep(time).await,
            _ => {}
        }
        Ok(response(code, &if metadata && code < 300 { only_metadata(&answer) } else { answer }))
    }

    fn fault(&self, method: &Method, uri: &str) -> Option<Fault> {
        let mut world = lock(&self.world);
        let path = uri.split('?').next().unwrap_or_default();
        let short = path.trim_start_matches("/apis/whereabouts.cni.cncf.io/v1alpha1/namespaces/");
        // How far it is, is asked when a watch begins.
        if !uri.ends_with("?limit=1") {
            world.requests.push(format!("{method} {short}"));
        }
        let hit = |rule: &&mut Rule| {
            rule.times > 0 && method.as_str().contains(rule.method) && path.contains(rule.path)
        };
        if let Some(rule) = world.rules.iter_mut().find(hit) {
            rule.times -= 1;
            return Some(rule.fault);
        }
        // Lists fail, too, but not with what only changes meet.
        let fault = (self.jitter.roll(1000) < world.storm).then(|| STORM[self.jitter.roll(STORM.len())]);
        fault.filter(|fault| method == Method::PATCH || !matches!(fault, Fault::Status(409 | 422)))
    }

    /// Carries out a request: status and body.
    fn change(&self, method: &Method, uri: &str, body: Value) -> (u16, Value) {
        let mut world = lock(&self.world);
        let mut parts = uri.split(['?', '/']).skip(6).map(str::to_owned);
        let plural = parts.next().unwrap_or_default();
        let name = parts.next().filter(|part| !part.contains('=')).unwrap_or_default();
        let key = (plural, name);
        let answer = match (method, world.objects.get(&key).cloned()) {
            (&Method::GET, _) if key.1.is_empty() => {
                let items: Vec<&Value> = world
                    .objects
                    .iter()
                    .filter(|((plural, _), _)| *plural == key.0)
                    .map(|(_, object)| object)
                    .collect();
                (200, json!({ "metadata": { "resourceVersion": world.version.to_string() }, "items": items }))
            }
            (&Method::POST, _) => {
                let name = body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                let key = (key.0, name);
                if world.objects.contains_key(&key) {
                    (409, json!({ "message": "already exists" }))
                } else {
                    (201, store(&mut world, key, body, None))
                }
            }
            (_, None) => (404, json!({ "message": "not found" })),
            (&Method::GET, Some(object)) => (200, object),
            (&Method::PATCH, Some(old)) if body.is_array() => match patch::apply(&old, &body) {
                Some(new) => (200, store(&mut world, key, new, Some(&old))),
                None => (
                    422,
                    json!({ "message": "the server rejected our request due to an error in our request" }),
                ),
            },
            (&Method::PATCH, Some(old)) => {
                let named = &body["metadata"];
                let differs =
                    |field: &str| named.get(field).is_some_and(|value| *value != old["metadata"][field]);
                if differs("uid") || differs("resourceVersion") {
                    (409, json!({ "message": "the object has been modified" }))
                } else {
                    (200, store(&mut world, key, patch::merge(old.clone(), &body), Some(&old)))
                }
            }
            (_, Some(old)) => {
                let named = &body["preconditions"];
                let differs =
                    |field: &str| named.get(field).is_some_and(|value| *value != old["metadata"][field]);
                if differs("uid") || differs("resourceVersion") {
                    (409, json!({ "message": "precondition failed" }))
                } else {
                    remove(&mut world, &key);
                    (200, json!({ "kind": "Status", "status": "Success" }))
                }
            }
        };
        self.changed.send_replace(world.version);
        answer
    }

    /// Tells what changes, sooner or later, and breaks off now and then.
    fn watch(&self, uri: &str, metadata: bool) -> Answer {
        let plural = uri.split(['?', '/']).nth(6).unwrap_or_default().to_owned();
        let from = uri.rsplit_once("resourceVersion=").and_then(|(_, text)| text.parse::<u64>().ok());
        let from = from.unwrap_or_default();
        if lock(&self.world).deaf {
            return Ok(refusal(403, "watch is forbidden"));
        }
        if from < lock(&self.world).compacted {
            return Ok(refusal(410, "too old resource version"));
        }
        let restored = lock(&self.world).restored;
        let one = lock(&self.world).watches.clone();
        let state = (self.clone(), self.changed.subscribe(), from, 20 + self.jitter.roll(100));
        let events = futures_util::stream::unfold(state, move |(server, mut changed, mut from, mut left)| {
            let (plural, _one) = (plural.clone(), one.clone());
            async move {
                loop {
                    sleep(Duration::from_micros(server.jitter.roll(8000) as u64)).await;
                    let next = {
                        let world = lock(&server.world);
                        if world.deaf || from < world.compacted || world.restored != restored {
                            return None;
                        }
                        world
                            .log
                            .iter()
                            .find(|(version, kind, ..)| *version > from && *kind == plural)
                            .cloned()
                    };
                    let Some((version, _, kind, object)) = next else {
                        changed.changed().await.ok()?;
                        continue;
                    };
                    if lock(&server.world).dead {
                        std::future::pending::<()>().await;
                    }
                    left = left.checked_sub(1)?;
                    from = version;
                    let object = if metadata { only_metadata(&object) } else { object };
                    let line = format!("{}\n", json!({ "type": kind, "object": object }));
                    let frame = http_body::Frame::data(Bytes::from(line));
                    return Some((Ok::<_, BoxError>(frame), (server, changed, from, left)));
                }
            }
        });
        Ok(Response::new(StreamBody::new(events).boxed_unsync()))
    }
}

/// What is sent to those who ask for no more: of an object or of a list.
fn only_metadata(object: &Value) -> Value {
    if let Some(items) = object["items"].as_array() {
        let items: Vec<Value> = items.iter().map(only_metadata).collect();
        return json!({ "kind": "PartialObjectMetadataList", "metadata": object["metadata"], "items": items });
    }
    json!({ "kind": "PartialObjectMetadata", "metadata": object["metadata"] })
}

fn store(world: &mut World, key: Key, mut object: Value, old: Option<&Value>) -> Value {
    world.version += 1;
    if world.prunes
        && let Some(entries) = object["spec"]["allocations"].as_object_mut()
    {
        for entry in entries.values_mut().filter_map(Value::as_object_mut) {
            entry.remove("ifname");
        }
    }
    let uid =
        old.map_or_else(|| json!(format!("uid-{}", world.version)), |old| old["metadata"]["uid"].clone());
    object["metadata"]["uid"] = uid;
    object["metadata"]["resourceVersion"] = json!(world.version.to_string());
    let generation = old.and_then(|old| old["metadata"]["generation"].as_u64()).unwrap_or(0);
    let changed = old.is_none_or(|old| old["spec"] != object["spec"]);
    object["metadata"]["generation"] = json!(generation + u64::from(changed));
    let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
    world.log.push((world.version, key.0.clone(), kind, object.clone()));
    world.objects.insert(key, object.clone());
    object
}

fn remove(world: &mut World, key: &Key) -> Option<Value> {
    let mut object = world.objects.remove(key)?;
    world.version += 1;
    object["metadata"]["resourceVersion"] = json!(world.version.to_string());
    world.log.push((world.version, key.0.clone(), "DELETED", object.clone()));
    Some(object)
}

fn response(code: u16, body: &Value) -> Response<UnsyncBoxBody<Bytes, BoxError>> {
    let body = Full::new(Bytes::from(body.to_string())).map_err(BoxError::from).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    if code == 429 {
        response.headers_mut().insert("retry-after", "1".parse().unwrap());
    }
    response
}

fn refusal(code: u16, message: &str) -> Response<UnsyncBoxBody<Bytes, BoxError>> {
    response(code, &json!({ "kind": "Status", "status": "Failure", "code": code, "message": message }))
}
