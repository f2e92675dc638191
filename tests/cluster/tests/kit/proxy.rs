//! The proxy makes the failures it says it makes, and tells the truth about them.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use octavia_bridge_cluster_tests::{Access, Answer, Cluster, Exchange, Fault, Proxy, Refusal, Relay, Rule};
use serde_json::{Value, json};

/// Longer than any answer takes, shorter than patience.
const NO_ANSWER: Duration = Duration::from_secs(5);

fn config_map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
}

/// The answer, or none if there is none; `call` panics then, and its thread with it.
fn attempt(access: &Access, method: &'static str, path: String, body: Option<Value>) -> Option<Answer> {
    let access = access.clone();
    let (done, answer) = mpsc::channel();
    thread::spawn(move || done.send(access.call(method, &path, body.as_ref())));
    answer.recv_timeout(NO_ANSWER).ok()
}

fn create(access: &Access, name: &str) -> Option<Answer> {
    attempt(access, "POST", access.core("configmaps"), Some(config_map(name)))
}

fn exists(access: &Access, name: &str) -> bool {
    access.call("GET", &access.core(&format!("configmaps/{name}")), None).status == 200
}

#[test]
fn each_fault_is_what_it_says() {
    let admin = Cluster::shared().namespace("faults");
    let gone = |answer: Option<Answer>| answer.is_none();
    let status =
        |status: u16| move |answer: Option<Answer>| answer.is_some_and(|answer| answer.status == status);
    type Seen = Box<dyn Fn(Option<Answer>) -> bool>;
    let cases: [(&str, Fault, Seen, bool); 11] = [
        ("refuse-409", Fault::answer(409), Box::new(status(409)), false),
        ("refuse-422", Fault::answer(422), Box::new(status(422)), false),
        ("refuse-500", Fault::answer(500), Box::new(status(500)), false),
        ("refuse-after", Fault::RefuseAfter(Refusal::new(504)), Box::new(status(504)), true),
        ("cut-before", Fault::CutBefore, Box::new(gone), false),
        ("cut-after", Fault::CutAfter, Box::new(gone), true),
        ("hang", Fault::Hang, Box::new(gone), false),
        ("hang-after", Fault::HangAfter, Box::new(gone), true),
        ("end", Fault::End(9), Box::new(gone), true),
        ("break", Fault::Break(9), Box::new(gone), true),
        ("delay", Fault::Delay(Duration::from_millis(300)), Box::new(status(201)), true),
    ];
    for (name, fault, seen, done) in cases {
        let proxy = Proxy::start(&admin);
        let hits = proxy.rule(Rule::on("POST", "/configmaps", fault).first(1));
        let started = Instant::now();
        let answer = create(&proxy.access(), name);
        assert!(seen(answer.clone()), "{name}: {answer:?}");
        assert_eq!((hits.hits(), exists(&admin, name)), (1, done), "{name}");
        assert!(name != "delay" || started.elapsed() >= Duration::from_millis(300), "{name}");
        // The next request of the kind is none of the rule's business.
        assert_eq!(create(&proxy.access(), &format!("{name}-2")).expect("an answer").status, 201);
    }
}

#[test]
fn a_refusal_reads_like_the_server_s() {
    let admin = Cluster::shared().namespace("refusal");
    let proxy = Proxy::start(&admin);
    proxy.rule(Rule::on("POST", "/configmaps", Fault::answer(409)));
    proxy.rule(Rule::on("PUT", "/configmaps", Fault::answer(409)));
    proxy.rule(Rule::on("GET", "/configmaps", Fault::Refuse(Refusal::new(429).retry_after(7))));
    let access = proxy.access();
    assert_eq!(create(&access, "a").expect("an answer").reason(), "AlreadyExists");
    let path = access.core("configmaps/a");
    assert_eq!(access.call("PUT", &path, Some(&config_map("a"))).reason(), "Conflict");
    let later = access.call("GET", &path, None);
    assert_eq!((later.reason(), &later.body["details"]["retryAfterSeconds"]), ("TooManyRequests", &json!(7)));
    proxy.clear_rules();
    assert_eq!(access.call("GET", &path, None).status, 404, "without rules it is the server that answers");
}

#[test]
fn a_server_that_is_down_refuses_until_it_is_up() {
    let admin = Cluster::shared().namespace("down");
    let proxy = Proxy::start(&admin);
    let access = proxy.access();
    access.get(&access.core("pods"));
    // A watch that runs is cut, too.
    let watch = format!("{}?watch=true&timeoutSeconds=600", access.core("pods"));
    let (cut, is_cut) = mpsc::channel();
    let watcher = access.clone();
    thread::spawn(move || {
        // Ends by a panic or an answer, either way the sender is dropped.
        let _cut = cut;
        watcher.call("GET", &watch, None);
    });
    wait_until("the watch runs", || proxy.exchanges().iter().any(|seen| seen.path.contains("watch=true")));
    proxy.down();
    assert_eq!(is_cut.recv_timeout(NO_ANSWER), Err::<(), _>(mpsc::RecvTimeoutError::Disconnected));
    assert!(attempt(&access, "GET", access.core("pods"), None).is_none());
    let address = access.url().trim_start_matches("https://").to_owned();
    assert!(TcpStream::connect(&address).is_err(), "{address} accepts");
    proxy.up();
    access.get(&access.core("pods"));
}

#[test]
fn a_silent_server_answers_when_it_is_heard_again() {
    let admin = Cluster::shared().namespace("silent");
    let proxy = Proxy::start(&admin);
    let access = proxy.access();
    access.get(&access.core("pods"));
    proxy.silent();
    assert!(create(&access, "late").is_none(), "an open connection");
    assert!(create(&access.at(access.url()), "later").is_none(), "a new one");
    assert!(!exists(&admin, "late"));
    proxy.up();
    // A watch that was running tells nothing, not even that its time is over.
    let (ended, watch_ended) = mpsc::channel();
    let (watcher, watch) = (access.clone(), format!("{}?watch=true&timeoutSeconds=2", access.core("pods")));
    thread::spawn(move || ended.send(watcher.call("GET", &watch, None).status));
    let runs = |seen: &Exchange| seen.path.contains("watch=true") && seen.status == Some(200);
    wait_until("the watch runs", || proxy.exchanges().iter().any(runs));
    proxy.silent();
    assert!(watch_ended.recv_timeout(2 * NO_ANSWER).is_err());
    proxy.up();
    assert_eq!(watch_ended.recv_timeout(15 * NO_ANSWER), Ok(200));
    // What was under way arrives now.
    wait_until("the request has arrived", || exists(&admin, "late"));
    access.get(&access.core("pods"));
}

#[test]
fn latency_is_added_to_each_request() {
    let admin = Cluster::shared().namespace("latency");
    let proxy = Proxy::start(&admin);
    let access = proxy.access();
    proxy.latency(Duration::from_millis(100));
    let started = Instant::now();
    for _ in 0..5 {
        access.get(&access.core("pods"));
    }
    assert!(started.elapsed() >= Duration::from_millis(500));
    let seen = proxy.exchanges();
    assert_eq!(seen.len(), 5);
    assert!(seen.iter().all(|seen| seen.method == "GET" && seen.status == Some(200)), "{seen:?}");
}

#[test]
fn bytes_of_head_and_body_are_counted() {
    let admin = Cluster::shared().namespace("bytes");
    create(&admin, "a").expect("an answer").expect(201);
    let proxy = Proxy::start(&admin);
    let body = proxy.access().size(&admin.core("configmaps/a"), false);
    let counted = proxy.exchanges()[0].bytes;
    assert!((body + 100..body + 1000).contains(&counted), "{counted} with a body of {body}");
}

#[test]
fn the_server_counts_what_it_is_asked() {
    let cluster = Cluster::shared();
    let admin = cluster.namespace("audit");
    let proxy = Proxy::start(&admin);
    let mark = cluster.audit().mark();
    proxy.rule(Rule::on("POST", "/configmaps", Fault::CutBefore).nth(2));
    let access = proxy.access();
    create(&access, "a");
    assert!(create(&access, "never").is_none());
    access.get(&access.core("configmaps/a"));
    let asked =
        cluster.audit().since(mark).into_iter().filter(|request| request.namespace == admin.namespace());
    let asked: Vec<_> = asked.map(|request| (request.verb, request.resource, request.name)).collect();
    let expected = [("create", "configmaps", "a"), ("get", "configmaps", "a")];
    let names = |(verb, resource, name): &(String, String, String)| {
        // A name that the body alone has is known only when the request is done, which is written later.
        let name = if verb == "create" { "a" } else { name }.to_owned();
        (verb.clone(), resource.clone(), name)
    };
    let expected =
        expected.map(|(verb, resource, name)| (verb.to_owned(), resource.to_owned(), name.to_owned()));
    assert_eq!(asked.iter().map(names).collect::<Vec<_>>(), expected);
}

#[test]
fn the_server_is_reached_from_other_namespaces() {
    let admin = Cluster::shared().namespace("elsewhere");
    let node = namespace("node1");
    let proxy = Proxy::start(&admin);
    let hits = proxy.rule(Rule::on("POST", "/ippools", Fault::Delay(Duration::from_millis(1))));
    work_in(&node, &proxy.listen_in(&node), "proxied");
    assert_eq!(hits.hits(), 1, "the pool was created through the proxy");
    proxy.down();
    proxy.up();
    work_in(&node, &proxy.listen_in(&node), "proxied-again");

    let relay = Relay::start(&admin, &node);
    work_in(&node, &relay.access(), "relayed");
}

#[test]
fn a_server_of_one_s_own_ends_when_it_is_dropped() {
    let cluster = Cluster::start();
    let address = cluster.admin().url().trim_start_matches("https://").to_owned();
    assert!(TcpStream::connect(&address).is_ok());
    drop(cluster);
    assert!(TcpStream::connect(&address).is_err(), "{address} accepts");
}

/// A rival's ADD as a process of the node.
fn work_in(node: &Path, access: &Access, name: &str) {
    let file = PathBuf::from(format!("/run/{name}.kubeconfig"));
    access.write_kubeconfig(&file);
    let output = Command::new("nsenter")
        .arg(format!("--net={}", node.display()))
        .arg(env!("CARGO_BIN_EXE_rival"))
        .args(["--range", "10.9.0.0/24", "--operations", "1", "--name", name, "--kubeconfig"])
        .arg(&file)
        .output()
        .expect("run nsenter");
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("\"address\":\"10.9.0."), "{text}{errors}");
}

fn namespace(name: &str) -> PathBuf {
    let status = Command::new("ip").args(["netns", "add", name]).status().expect("run ip");
    assert!(status.success(), "ip netns add {name}: {status}");
    Path::new("/run/netns").join(name)
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(30), "waited in vain until {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
