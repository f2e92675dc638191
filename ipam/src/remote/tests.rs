//! Against an agent that does what a script says; the real one has its own tests.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::{self, JoinHandle};

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::causes::chain;
use crate::name::PoolName;
use crate::range::Range;
use crate::request::Owner;
use crate::wire::{Kind, MAX_LINE};

/// What the agent does with one call.
enum Act {
    Say(Value),
    /// These bytes, and then the end of the connection.
    Write(Vec<u8>),
    Hang,
}

/// A folder with a socket and an agent behind it, one act a call.
struct Node {
    folder: TempDir,
    agent: Option<JoinHandle<Vec<Value>>>,
}

impl Node {
    fn with(acts: Vec<Act>) -> Self {
        let folder = TempDir::new().unwrap();
        let listener = UnixListener::bind(folder.path().join("agent.sock")).unwrap();
        let agent = thread::spawn(move || {
            let mut hung: Vec<UnixStream> = Vec::new();
            let mut calls = Vec::new();
            for act in acts {
                let (mut stream, _) = listener.accept().unwrap();
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                calls.push(serde_json::from_str(&line).unwrap());
                match act {
                    Act::Say(reply) => writeln!(stream, "{reply}").unwrap(),
                    // The caller may have heard enough before the end.
                    Act::Write(bytes) => stream.write_all(&bytes).unwrap_or_default(),
                    Act::Hang => hung.push(stream),
                }
            }
            // Hung connections stay open until their callers are gone.
            for stream in hung {
                BufReader::new(stream).read_line(&mut String::new()).unwrap();
            }
            calls
        });
        Self { folder, agent: Some(agent) }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn store(&self) -> RemoteStore {
        RemoteStore::new(self.path().join("agent.sock"), self.path().join("tombstones"))
    }

    fn tombstones(&self) -> Vec<Tombstone> {
        Tombstones::new(self.path().join("tombstones")).list().unwrap()
    }

    /// What the agent was asked, when all its acts are done.
    fn calls(&mut self) -> Vec<Value> {
        self.agent.take().unwrap().join().unwrap()
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(300)
}

fn later() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

fn request() -> Request {
    let subnet: IpNet = "172.23.0.0/24".parse().unwrap();
    let (range, _) = Range::new(subnet, None, None, Vec::new()).unwrap();
    let pool = PoolName::new(None, &subnet).unwrap();
    let want = |choice| Want { pool: pool.clone(), subnet, gateway: None, choice };
    Request {
        owner: Owner { container_id: "3f2a".into(), ifname: "net1".into(), pod: Some("o/p".into()) },
        network_name: None,
        overlapping: true,
        wants: vec![want(Choice::Lowest(range)), want(Choice::Exactly("172.23.0.40".parse().unwrap()))],
        reserved: Vec::new(),
    }
}

fn claim(node: &Node, deadline: Instant) -> Result<Vec<Assigned>, RemoteError> {
    node.store().claim(&request(), Some("8a0c"), deadline, &|_, _| true)
}

fn assigned(addresses: &[&str]) -> Act {
    let one = |address: &&str| json!({"address": address, "gateway": null});
    Act::Say(json!({"version": 1, "assigned": addresses.iter().map(one).collect::<Vec<_>>()}))
}

const RIGHT: [&str; 2] = ["172.23.0.30/24", "172.23.0.40/24"];

#[test]
fn a_claim_takes_what_the_agent_assigns() {
    let mut node = Node::with(vec![assigned(&RIGHT)]);
    let addresses: Vec<String> =
        claim(&node, later()).unwrap().iter().map(|assigned| assigned.address.to_string()).collect();
    assert_eq!(addresses, RIGHT);
    assert!(node.path().join("tombstones").is_dir(), "made while there is room on the disk");
    let calls = node.calls();
    assert_eq!(calls[0]["version"], 1);
    assert_eq!(calls[0]["claim"]["podUid"], "8a0c");
    let patience = calls[0]["claim"]["patienceMs"].as_u64().unwrap();
    assert!(
        (20_000..=29_500).contains(&patience),
        "it is told to answer before the caller gives up: {patience}"
    );
}

#[test]
fn what_is_no_whole_reply_assigns_nothing() {
    let whole = json!({"version": 1, "assigned": [{"address": RIGHT[0], "gateway": null},
        {"address": RIGHT[1], "gateway": null}]})
    .to_string();
    for (answer, expected) in [
        (String::new(), "after 0 bytes"),
        (whole.clone(), "closed the connection after"),
        (format!("{}\n", &whole[..whole.len() - 2]), "is not a reply"),
        ("nonsense\n".to_owned(), "is not a reply"),
        ("\n".to_owned(), "is not a reply"),
        (format!("{}\n", json!({"assigned": []})), "missing field `version`"),
        (format!("{}\n", json!({"version": 1, "done": true})), "is not a reply"),
        ("x".repeat(MAX_LINE + 1), "longer than 1048576 bytes"),
    ] {
        let node = Node::with(vec![Act::Write(answer.into_bytes())]);
        match claim(&node, later()).unwrap_err() {
            error @ RemoteError::Unanswered { .. } => {
                let why = std::error::Error::source(&error).unwrap().to_string();
                assert!(why.contains(expected), "{expected}: {why}");
                assert!(error.to_string().contains("agent.sock: asked to reserve addresses"), "{error}");
                assert!(!error.is_clean(), "it may have been done");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_assignment_that_does_not_fit_the_request_is_none() {
    for wrong in [
        &RIGHT[..1],
        &["172.23.0.30/24", "172.23.0.41/24"],
        &["172.23.0.40/24", "172.23.0.40/24"],
        &["172.23.1.30/24", "172.23.0.40/24"],
        &["172.23.0.30/16", "172.23.0.40/24"],
        &["172.23.0.30/24", "172.23.0.40/24", "172.23.0.41/24"],
    ] {
        let node = Node::with(vec![assigned(wrong)]);
        let error = claim(&node, later()).unwrap_err();
        assert!(matches!(error, RemoteError::Unanswered { .. }) && !error.is_clean(), "{wrong:?}: {error:?}");
    }
    let node = Node::with(vec![Act::Say(json!({"version": 1, "released": 2}))]);
    assert!(matches!(claim(&node, later()), Err(RemoteError::Unanswered { .. })));
}

#[test]
fn nobody_is_waited_for_beyond_the_deadline() {
    let timed_out = |error: &RemoteError| match error {
        RemoteError::Unanswered { source, .. } | RemoteError::Away { source, .. } => {
            assert_eq!(source.kind(), ErrorKind::TimedOut, "{error:?}");
        }
        other => panic!("{other:?}"),
    };
    let began = Instant::now();
    let node = Node::with(vec![Act::Hang]);
    timed_out(&claim(&node, soon()).unwrap_err());

    // Nobody accepts: a backlog of one takes two callers, and the third waits in connect(2).
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("agent.sock");
    let listener = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    listen(&listener, Backlog::new(1).unwrap()).unwrap();
    let _waiting = [call::connect(&path, later()).unwrap(), call::connect(&path, later()).unwrap()];
    let store = RemoteStore::new(path, folder.path().join("tombstones"));
    let error = store.release("3f2a", "net1", soon()).unwrap_err();
    timed_out(&error);
    assert!(matches!(error, RemoteError::Away { .. }), "it was asked: {error:?}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn no_agent_was_asked_nothing() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("agent.sock");
    let store = RemoteStore::new(path.clone(), folder.path().join("tombstones"));
    let away = |store: &RemoteStore| {
        let error = store.claim(&request(), None, later(), &|_, _| true).unwrap_err();
        assert!(matches!(error, RemoteError::Away { .. }) && error.is_clean(), "{error:?}");
        assert!(error.to_string().contains("agent.sock"), "{error}");
    };
    away(&store);
    // A socket that its agent left behind.
    drop(UnixListener::bind(&path).unwrap());
    away(&store);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "").unwrap();
    away(&store);
    let long = format!("/{}/agent.sock", "a".repeat(200));
    away(&RemoteStore::new(long.into(), folder.path().join("tombstones")));
    assert!(!folder.path().join("tombstones").exists(), "a node without an agent gathers nothing");
}

#[test]
fn an_agent_that_restarts_is_waited_for_where_there_was_one() {
    // What tells: an earlier claim, or, before the first one, the agent's own directory.
    for (stale, told_by) in [(false, "tombstones"), (true, "tombstones"), (false, "agent")] {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("agent.sock");
        let store = RemoteStore::new(path.clone(), folder.path().join("tombstones"))
            .with_agent_in(folder.path().join("agent"));
        std::fs::create_dir(folder.path().join(told_by)).unwrap();
        if stale {
            // As SIGKILL leaves it.
            drop(UnixListener::bind(&path).unwrap());
        }
        // A release does not wait: it has its tombstone.
        let error = store.release("3f2a", "net1", later()).unwrap_err();
        assert!(matches!(error, RemoteError::Away { .. }), "{error:?}");
        let claim = thread::spawn(move || store.claim(&request(), None, later(), &|_, _| true));
        sleep(2 * LOOK);
        assert!(!claim.is_finished());
        std::fs::remove_file(&path).ok();
        let listener = UnixListener::bind(&path).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        let call: Value = serde_json::from_str(&line).unwrap();
        assert!(call["claim"]["patienceMs"].as_u64().unwrap() < 29_500, "what it has waited is gone: {call}");
        writeln!(stream, "{}", json!({"version": 1, "failed": {"kind": "unavailable", "message": "here"}}))
            .unwrap();
        let error = claim.join().unwrap().unwrap_err();
        assert!(chain(&error).ends_with("here"), "{}", chain(&error));
    }
}

#[test]
fn another_version_is_told_by_its_number() {
    let node = Node::with(vec![Act::Say(json!({"version": 2, "granted": ["172.23.0.30/24"]}))]);
    let error = claim(&node, later()).unwrap_err();
    assert!(error.to_string().ends_with("speaks version 2 of the protocol, this plugin 1"), "{error}");
    assert!(!error.is_clean());

    let failed = json!({"kind": "version", "message": "this agent speaks version 2"});
    let node = Node::with(vec![Act::Say(json!({"version": 2, "failed": failed}))]);
    let error = claim(&node, later()).unwrap_err();
    assert!(
        matches!(&error, RemoteError::Failed { failure, .. } if failure.kind == Kind::Version),
        "{error:?}"
    );
    assert!(error.is_clean());
}

#[test]
fn a_refusal_before_the_call_was_read_is_heard() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("agent.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let agent = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let failed = json!({"version": 1, "failed": {"kind": "unavailable", "message": "busy"}});
        writeln!(stream, "{failed}").unwrap();
    });
    let mut big = request();
    big.reserved = (0..50_000_u32).map(|n| std::net::Ipv4Addr::from_bits(n).into()).collect();
    let store = RemoteStore::new(path, folder.path().join("tombstones"));
    let error = store.claim(&big, None, later(), &|_, _| true).unwrap_err();
    agent.join().unwrap();
    assert!(matches!(&error, RemoteError::Failed { failure, .. } if failure.message == "busy"), "{error:?}");
}

#[test]
fn a_call_longer_than_agents_read_is_not_sent() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("agent.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let mut big = request();
    big.reserved = (0..100_000_u32).map(|n| std::net::Ipv4Addr::from_bits(n).into()).collect();
    let store = RemoteStore::new(path, folder.path().join("tombstones"));
    let error = store.claim(&big, None, later(), &|_, _| true).unwrap_err();
    assert!(matches!(error, RemoteError::TooLong { limit: MAX_LINE, .. }) && error.is_clean(), "{error:?}");
}

#[test]
fn a_contested_claim_is_repeated_with_what_is_known_of_the_sandboxes() {
    let contested = |ids: &[&str]| {
        let one = |id: &&str| json!({"containerId": id, "ifname": "net1"});
        Act::Say(json!({"version": 1, "contested": ids.iter().map(one).collect::<Vec<_>>()}))
    };
    let mut node =
        Node::with(vec![contested(&["old", "older"]), contested(&["older", "new"]), assigned(&RIGHT)]);
    let alive = |id: &str, ifname: &str| {
        assert_eq!(ifname, "net1");
        id == "old"
    };
    node.store().claim(&request(), None, later(), &alive).unwrap();
    let calls = node.calls();
    assert_eq!(calls[0]["claim"].get("sandboxes"), None);
    let told = |id: &str, alive: bool| json!({"containerId": id, "ifname": "net1", "alive": alive});
    assert_eq!(calls[1]["claim"]["sandboxes"], json!([told("old", true), told("older", false)]));
    let last = json!([told("old", true), told("older", false), told("new", false)]);
    assert_eq!(calls[2]["claim"]["sandboxes"], last);

    // An agent that never has enough does not keep the caller for ever.
    let node = Node::with(vec![contested(&["old"]), contested(&["old"])]);
    let error = claim(&node, later()).unwrap_err();
    assert!(chain(&error).contains("asks again"), "{}", chain(&error));
    let node = Node::with((0..ROUNDS).map(|n| contested(&[&format!("c{n}")])).collect());
    let error = claim(&node, later()).unwrap_err();
    assert!(chain(&error).contains("further sandboxes"), "{}", chain(&error));
}

#[test]
fn a_release_that_is_not_confirmed_leaves_a_tombstone() {
    let mut node = Node::with(vec![
        Act::Say(json!({"version": 1, "released": 1})),
        Act::Say(json!({"version": 1, "failed": {"kind": "unavailable", "message": "API away"}})),
    ]);
    let store = node.store();
    assert!(matches!(store.release_or_entomb("a", "net1", later()).unwrap(), Released::Done(1)));
    assert_eq!(node.tombstones(), []);
    match store.release_or_entomb("b", "net1", later()).unwrap() {
        Released::Entombed(cause) => assert!(chain(&cause).ends_with("API away"), "{}", chain(&cause)),
        other @ Released::Done(_) => panic!("{other:?}"),
    }
    assert_eq!(node.tombstones(), [Tombstone::of("b", "net1")]);
    let calls = node.calls();
    assert_eq!(calls[0], json!({"version": 1, "release": {"containerId": "a", "ifname": "net1"}}));
    // Nowhere to note it: then it is an error.
    std::fs::remove_dir_all(node.path().join("tombstones")).unwrap();
    std::fs::write(node.path().join("tombstones"), "").unwrap();
    let error = store.release_or_entomb("c", "net1", later()).unwrap_err();
    assert!(matches!(error, RemoteError::Unreleased { .. }), "{error:?}");
    assert!(
        chain(&error).contains("agent.sock") && chain(&error).contains("tombstones"),
        "{}",
        chain(&error)
    );
}

#[test]
fn only_a_claim_that_succeeds_removes_the_attachments_tombstone() {
    let node = Node::with(vec![Act::Write(Vec::new()), assigned(&RIGHT)]);
    let tombstones = Tombstones::new(node.path().join("tombstones"));
    tombstones.write(&Tombstone::of("3f2a", "net1")).unwrap();
    tombstones.write(&Tombstone::of("other", "net1")).unwrap();
    claim(&node, later()).unwrap_err();
    assert_eq!(node.tombstones().len(), 2);
    claim(&node, later()).unwrap();
    assert_eq!(node.tombstones(), [Tombstone::of("other", "net1")]);
}

#[test]
fn lookups_ask_for_the_configurations_pools_and_ranges() {
    let usage = json!({"pool": "172.23.0.0-24", "first": "172.23.0.1", "last": "172.23.0.254", "capacity": "254",
        "used": "0", "free": "254", "excluded": "0", "reserved": "0", "holders": []});
    let mut node = Node::with(vec![
        Act::Say(json!({"version": 1, "held": ["172.23.0.30/24"]})),
        Act::Say(json!({"version": 1, "usage": [usage]})),
        Act::Say(json!({"version": 1, "usage": []})),
    ]);
    let block = json!({"range": "172.23.0.0/24", "gateway": "172.23.0.1", "network_name": "blue"});
    let ipam = crate::document::Object::at("ipam".to_owned(), &block).unwrap();
    let ipam = Ipam::parse(ipam, false).unwrap();
    let store = node.store();
    let held = store.held("3f2a", "net1", &ipam, later()).unwrap();
    assert_eq!(held, ["172.23.0.30/24".parse::<IpNet>().unwrap()]);
    assert_eq!(store.usage(&ipam, later()).unwrap()[0].free, 254);
    assert!(store.usage(&ipam, later()).is_err(), "one range, no figure");
    let calls = node.calls();
    let pools = json!([["blue-172.23.0.0-24", "172.23.0.0/24"]]);
    assert_eq!(calls[0]["held"], json!({"containerId": "3f2a", "ifname": "net1", "pools": pools}));
    let asked = &calls[1]["usage"];
    assert_eq!((&asked["networkName"], &asked["overlapping"]), (&json!("blue"), &json!(true)));
    assert_eq!(asked["reserved"], json!(["172.23.0.1"]));
}
