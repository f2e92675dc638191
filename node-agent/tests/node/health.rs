//! run: what it tells of itself, over HTTP and to `health`.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::panic::{catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::scene::{Daemon, Node, POLICY, complete, on_a_node, until};

const START: Duration = Duration::from_secs(20);

/// The answer to a request for one page, status line and all; `None` if nobody listens.
fn page(path: &str) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, 29808)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    Some(answer)
}

fn says(path: &str, status: u16, what: &str) -> bool {
    page(path).is_some_and(|answer| {
        answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.lines().any(|line| line == what)
    })
}

fn policy(node: &Node) -> String {
    fs::write(node.path("policy.yaml"), POLICY).unwrap();
    format!("run -f {}", node.path("policy.yaml").display())
}

#[test]
fn it_tells_what_the_policy_waits_for_and_counts_repairs() {
    on_a_node(|node| {
        node.ip("link del enp6s0");
        let words = policy(node);
        let _daemon = node.start(&words);
        let waits = "wait  policy   octbr: enp6s0 does not exist";
        until(START, waits, || says("/readyz", 503, waits));
        assert!(says("/healthz", 200, "ok"));
        assert!(says("/metrics", 200, "octavia_bridge_policy_state{state=\"waiting\"} 1"));
        node.ip("link add enp6s0 type veth peer name wire");
        let done = "ok    policy   in force: octbr";
        until(START, done, || says("/readyz", 200, done));
        assert!(says("/metrics", 200, "octavia_bridge_policy_state{state=\"in_force\"} 1"));
        assert!(says("/metrics", 200, "octavia_bridge_policy_state{state=\"waiting\"} 0"));
        assert!(says("/metrics", 200, "octavia_bridge_repairs_total 0"));
        node.ip("link set octbr down");
        until(START, "the repair is counted", || says("/metrics", 200, "octavia_bridge_repairs_total 1"));
        let metrics = page("/metrics").unwrap();
        assert!(!metrics.contains("pool"), "an agent without a cluster knows no pools\n{metrics}");
        assert!(metrics.contains("octavia_bridge_apply_duration_seconds_count 2\n"), "{metrics}");
        assert!(metrics.contains("octavia_bridge_applies_total{result=\"done\"} 2\n"), "{metrics}");
    });
}

#[test]
fn a_policy_that_cannot_be_brought_about_is_told() {
    on_a_node(|node| {
        // In the bridge's place stands a link of another kind, which is not the agent's to delete.
        node.ip("link add octbr type veth peer name other");
        let words = policy(node);
        let _daemon = node.start(&words);
        until(START, "it says what stands in the way", || {
            page("/readyz").is_some_and(|answer| answer.contains("\r\n\r\nwait  policy   octbr"))
        });
        assert!(says("/metrics", 200, "octavia_bridge_policy_state{state=\"failed\"} 1"));
        assert!(!says("/metrics", 200, "octavia_bridge_applies_total{result=\"failed\"} 0"));
    });
}

#[test]
fn a_wrong_newer_policy_is_noted_until_it_is_mended() {
    on_a_node(|node| {
        let words = policy(node);
        let daemon = node.start(&words);
        let done = "ok    policy   in force: octbr";
        until(START, done, || says("/readyz", 200, done));
        fs::write(node.path("policy.yaml"), "interfaces: [{}]").unwrap();
        daemon.signal(Signal::SIGHUP);
        let noted = "note  policy   a newer one has no effect: ";
        until(START, noted, || {
            page("/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200") && answer.contains(noted))
        });
        fs::write(node.path("policy.yaml"), POLICY).unwrap();
        daemon.signal(Signal::SIGHUP);
        until(START, "the note is gone", || {
            says("/readyz", 200, done) && !page("/readyz").unwrap().contains("note")
        });
    });
}

#[test]
fn kubernetes_nmstate_at_work_is_noted_and_is_no_reason_to_wait() {
    on_a_node(|node| {
        let words = policy(node);
        let lock = File::create(node.path("lock")).unwrap();
        lock.lock().unwrap();
        let _daemon = node.start(&words);
        until(START, "it stands down", || {
            page("/readyz").is_some_and(|answer| {
                answer.starts_with("HTTP/1.1 200")
                    && answer.contains("note  policy   kubernetes-nmstate is running")
            })
        });
        assert!(says("/metrics", 200, "octavia_bridge_policy_state{state=\"stood_down\"} 1"));
    });
}

#[test]
fn a_port_that_another_process_has_taken_is_noted_and_makes_no_probe_fail() {
    on_a_node(|node| {
        // It answers kubelet as it likes.
        let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 29808)).unwrap();
        let words = policy(node);
        let _daemon = node.start(&words);
        until(START, "the bridge", || complete(node));
        until(START, "it is ready", || node.run("health ready", "").status == 0);
        assert_eq!(node.ok("health live", ""), "ok\n");
        let ready = node.ok("health ready", "");
        let note = "note  http     cannot listen on 127.0.0.1:29808: Address already in use";
        assert!(ready.contains(note), "{ready}");
        assert!(node.log().contains("cannot listen on 127.0.0.1:29808"), "{}", node.log());
        drop(other);
        until(START, "it listens", || says("/healthz", 200, "ok"));
        assert!(!node.ok("health ready", "").contains("http"), "the note has gone");
    });
}

#[test]
fn probes_are_told_what_the_pages_say_by_a_socket_of_root_s() {
    on_a_node(|node| {
        let gone = node.run("health live", "");
        assert_eq!((gone.status, gone.stdout.as_str()), (1, ""), "{}", gone.stderr);
        for word in ["health.sock", "the agent is not running", "No such file"] {
            assert!(gone.stderr.contains(word), "{word}: {}", gone.stderr);
        }
        node.ip("link del enp6s0");
        let words = policy(node);
        let mut daemon = node.start(&words);
        let waits = "wait  policy   octbr: enp6s0 does not exist";
        until(START, waits, || node.run("health ready", "").stdout.lines().any(|line| line == waits));
        for question in ["live", "started"] {
            assert_eq!(node.ok(&format!("health {question}"), ""), "ok\n");
        }
        assert_eq!(node.run("health ready", "").status, 1);
        assert_eq!(fs::metadata(node.path("health.sock")).unwrap().mode() & 0o777, 0o600);
        assert_eq!(daemon.stop(), Some(0));
        assert!(!node.path("health.sock").exists());
        let usage = node.run("health well", "");
        assert_eq!(usage.status, 2);
        assert!(usage.stderr.contains("live, ready, started"), "{}", usage.stderr);
    });
}

#[test]
fn a_folder_in_which_others_could_put_a_socket_of_their_own_is_not_used() {
    on_a_node(|node| {
        fs::create_dir(node.path("open")).unwrap();
        fs::set_permissions(node.path("open"), Permissions::from_mode(0o777)).unwrap();
        let words = policy(node);
        let mut agent = node.agent(&words);
        let _daemon = Daemon(agent.env("HEALTH_SOCKET", node.path("open/health.sock")).spawn().unwrap());
        until(START, "the bridge", || complete(node));
        let noted = "note  probes   cannot answer on the socket: listen on ";
        until(START, noted, || page("/readyz").is_some_and(|answer| answer.contains(noted)));
        assert!(!node.path("open/health.sock").exists());
    });
}

/// As unprivileged users of a node may, in loops of their own.
#[test]
fn those_who_only_connect_keep_no_request_from_its_answer() {
    on_a_node(|node| {
        let words = policy(node);
        let _daemon = node.start(&words);
        until(START, "it listens", || says("/healthz", 200, "ok"));
        for held in [1, 300] {
            let over = AtomicBool::new(false);
            thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        let mut open = VecDeque::new();
                        while !over.load(Ordering::Relaxed) {
                            // Out of descriptors or refused, it goes on.
                            open.extend(TcpStream::connect((Ipv4Addr::LOCALHOST, 29808)).ok());
                            open.drain(..open.len().saturating_sub(held));
                        }
                    });
                }
                let asked = catch_unwind(|| {
                    for n in 0..50 {
                        let answer = page("/healthz").unwrap_or_default();
                        assert!(answer.starts_with("HTTP/1.1 200"), "request {n} beside {held}: {answer:?}");
                    }
                });
                over.store(true, Ordering::Relaxed);
                asked.unwrap_or_else(|panic| resume_unwind(panic));
            });
            assert_eq!(node.ok("health live", ""), "ok\n");
        }
    });
}

#[test]
fn nowhere_means_nowhere() {
    on_a_node(|node| {
        let words = policy(node);
        let _daemon = node.start(&format!("{words} --health-bind none"));
        until(START, "the bridge", || complete(node));
        assert_eq!(page("/healthz"), None);
        let answer = node.run(&format!("{words} --health-bind 29808"), "");
        assert_eq!(answer.status, 2, "{}", answer.stderr);
        assert!(
            answer.stderr.contains("expected ADDRESS:PORT such as 127.0.0.1:29808, or none"),
            "{}",
            answer.stderr
        );
    });
}

#[test]
fn the_loop_says_until_when_it_will_be_back_and_comes_back() {
    on_a_node(|node| {
        let words = policy(node);
        let _daemon = node.start(&format!("{words} --interval 2"));
        let left = || {
            let answer = page("/metrics")?;
            let line = answer.lines().find_map(|line| line.strip_prefix("octavia_bridge_loop_due_seconds "));
            line.map(|left| left.parse::<f64>().unwrap())
        };
        // Asleep it names its interval, and half a minute more for a busy node; at work it would be three minutes.
        until(START, "the loop sleeps", || left().is_some_and(|left| left <= 32.0));
        let lowest = Cell::new(f64::INFINITY);
        until(START, "it has come back", || {
            let now = left().unwrap();
            let back = now > lowest.get();
            lowest.set(lowest.get().min(now));
            back
        });
    });
}
