//! A plugin killed at any instant: kill -9 before every single system call of ADD and DEL that changes something.
//!
//! strace delivers the signal when the call is entered, which the kernel then does not carry out, so the steps below are
//! all the states a killed process can leave behind.

use octavia_bridge_tests::scripted::oblige;
use octavia_bridge_tests::traffic::{AT_ONCE, Echo, expect_answer};
use octavia_bridge_tests::{Call, Lab, Node, Pod, ScriptedAgent, conf};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Calls that change files, links, or what another process sees.
const CALLS: &str = "openat,write,ftruncate,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,fsync,fdatasync,flock,sendto,sendmsg,exit_group";

const CONTAINER: &str = "{container}";

/// Where to kill: the nth time a thread makes this call, or any thread makes it for this file.
#[derive(Debug, Clone)]
struct Step {
    call: String,
    nth: usize,
    /// With [`CONTAINER`] where the container's id stands.
    path: Option<String>,
    /// Everything is done but for telling the caller.
    done: bool,
}

impl Step {
    /// Runs the call and sees to it that it was killed, or the process that writes to the disk for it. Returns whether everything was
    /// done.
    fn kill(&self, victim: Call) -> bool {
        let inject = match &self.path {
            None => format!("inject={}:signal=KILL:when={}", self.call, self.nth),
            Some(_) => format!("inject={}:signal=KILL", self.call),
        };
        let trace = format!("trace={}", self.call);
        let path = self.path.as_ref().map(|path| path.replace(CONTAINER, victim.container_id()));
        let mut words = vec!["/usr/bin/strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
        words.extend(path.iter().flat_map(|path| ["-P", path]));
        let outcome = victim.under(&words).run();
        // Or the process that writes to the disk made the call for the nth time before.
        let itself = outcome.status.signal() == Some(9);
        let instead = outcome.stdout.contains("the process for it ended with signal");
        assert!(itself || instead, "{self:?} was never reached: {outcome:#?}");
        self.done && !instead
    }
}

/// The file that a call is about: named in it, or, by strace, behind the descriptor.
fn file_of<'a>(call: &str, arguments: &'a str) -> &'a str {
    let named = ["open", "rename", "unlink", "mkdir"].iter().any(|prefix| call.starts_with(prefix));
    let (open, close) = if named { ('"', '"') } else { ('<', '>') };
    let file = arguments.split_once(open).and_then(|(_, rest)| rest.split_once(close)).map(|(file, _)| file);
    file.unwrap_or_else(|| panic!("no file in {call}({arguments}"))
}

/// Every step of a call that succeeds.
fn steps_of(call: Call) -> Vec<Step> {
    let trace = tempfile::NamedTempFile::new_in("/run").expect("make a file for the trace");
    let file = trace.path().to_str().expect("a plain path");
    let id = call.container_id().to_owned();
    let words = ["/usr/bin/strace", "-f", "-qq", "-y", "-o", file, "-e", &format!("trace={CALLS}")];
    call.under(&words).run().success();

    let text = fs::read_to_string(trace.path()).expect("read the trace");
    let mut lines = text.lines().filter_map(|line| line.split_once(' ')).peekable();
    let main_thread = lines.peek().map(|(thread, _)| *thread).expect("a trace that is not empty");
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut steps = Vec::new();
    for (thread, line) in lines {
        let line = line.trim_start();
        // Lines that are not calls: the end of an interrupted one ("<... resumed>"), and "+++ exited".
        let Some((call, arguments)) =
            line.split_once('(').filter(|(call, _)| CALLS.split(',').any(|c| c == *call))
        else {
            continue;
        };
        let changes = call != "openat"
            || ["O_CREAT", "O_WRONLY", "O_RDWR", "O_TRUNC"].iter().any(|f| arguments.contains(f));
        if thread == main_thread {
            let nth = seen.entry(call.to_owned()).or_default();
            *nth += 1;
            if changes {
                let done = call == "exit_group" || (call == "write" && arguments.starts_with("1<"));
                steps.push(Step { call: call.to_owned(), nth: *nth, path: None, done });
            }
        // Another process ends.
        } else if changes && call != "exit_group" {
            // Settings and pools are written by the thread inside the pod's namespace; strace counts each thread from one.
            let path = Some(file_of(call, arguments).replace(&id, CONTAINER));
            // A question to the kernel changes nothing. On disk, a process of its own makes directories, which ends with this one
            // or goes on.
            if path.as_deref().is_some_and(|path| path.starts_with("socket:") || is_others(path)) {
                continue;
            }
            steps.push(Step { call: call.to_owned(), nth: 1, path, done: false });
        }
    }
    steps
}

fn is_others(path: &str) -> bool {
    path == "/run/octavia-bridge" || Path::new(path).starts_with("/var/lib")
}

/// The steps of an ADD on a host that never saw one; the host is as before afterwards.
fn steps_of_add(node: &Node) -> Vec<Step> {
    let steps = steps_of(node.pod("sample").add(&conf::octavia()));
    reset(node);
    // The record, the pool, the pair, the addresses … fewer would mean that the trace was not understood.
    assert!(steps.len() >= 20, "{steps:#?}");
    // Settings are written beside the main thread: to be killed there, too.
    let beside = |call: &str| steps.iter().any(|step| step.call == call && step.path.is_some());
    let done = |call: &str| steps.iter().any(|step| step.call == call);
    assert!(beside("write") && done("rename"), "{steps:#?}");
    // No ADD waits for a disk.
    assert!(!done("fsync") && !done("fdatasync"), "{steps:#?}");
    steps
}

/// Makes the host as new, whatever the last step left: each step is reached and judged by itself.
fn reset(node: &Node) {
    // Nothing there yet is as good as removed.
    fs::remove_dir_all(node.data_dir()).unwrap_or_default();
    node.forget_memory();
    let deadline = Instant::now() + Duration::from_secs(5);
    while let Some(link) = node.link_names().first() {
        assert!(Instant::now() < deadline, "{link} does not go");
        // It may go by itself meanwhile, with the namespace of its other end.
        node.output(Command::new("ip").args(["link", "del", link]));
    }
}

#[test]
fn an_add_killed_at_any_step_and_then_deleted_leaves_nothing() {
    let node = Lab::new().node("node1");
    let before = node.snapshot(&[]);
    let mut leaks = Vec::new();
    for step in steps_of_add(&node) {
        let pod = node.pod("worker");
        let done = step.kill(pod.add(&conf::octavia()));
        pod.del(&conf::octavia()).run().silent_success();
        let mut difference = node.snapshot(&[]).difference_from(&before);
        if done {
            // After a complete attachment DEL leaves the bridge, because others may use it. DEL cannot know that the runtime
            // did not get the result.
            difference.retain(|line| !line.starts_with("+ node: link octbr bridge"));
        }
        if !difference.is_empty() || !pod.link_names().is_empty() {
            leaks.push(format!("{step:?}: {difference:#?} in the pod {:?}", pod.link_names()));
        }
        reset(&node);
    }
    assert!(leaks.is_empty(), "{} steps leak:\n{}", leaks.len(), leaks.join("\n"));
}

/// A pod that lives, and one that is gone, of an older release: their files are on disk.
fn older_release(node: &Node) -> (Pod, Pod) {
    node.bridge_with_uplink();
    let pods = [node.pod("living"), node.pod("gone")];
    let links = pods.each_ref().map(|pod| pod.add(&conf::octavia()).run().attached().host_link().to_owned());
    fs::remove_dir_all(node.data_dir()).expect("remove the word that all is moved");
    fs::create_dir(node.data_dir()).expect("make the data directory");
    for folder in ["attachments", "pools", "tombstones"] {
        fs::rename(node.run_dir().join(folder), node.data_dir().join(folder)).expect("move to the disk");
    }
    node.forget_memory();
    node.ip(&format!("link del {}", links[1]));
    let [living, gone] = pods;
    (living, gone)
}

#[test]
fn an_add_killed_while_it_takes_over_an_older_release_s_files_loses_nothing() {
    let node = Lab::new().node("node1");
    let _pods = older_release(&node);
    let steps = steps_of(node.pod("sample").add(&conf::octavia()));
    reset(&node);
    assert!(steps.iter().any(|step| step.call == "mkdir"), "{steps:#?}");
    for step in steps {
        let (living, _gone) = older_release(&node);
        let pod = node.pod("worker");
        let done = step.kill(pod.add(&conf::octavia()));
        let again = pod.add(&conf::octavia()).run();
        match done {
            true => drop(again.error(103)),
            false => assert_eq!(again.attached().address(), "172.23.0.31/24", "{step:?}"),
        }
        let held = node.allocations("172.23.0.0-24");
        assert_eq!(held["30"]["id"].as_str(), Some(living.container_id()), "{step:?}");
        assert_eq!(held["31"]["id"].as_str(), Some(pod.container_id()), "{step:?}");
        for pod in [&living, &pod] {
            pod.del(&conf::octavia()).run().silent_success();
        }
        assert!(node.allocations("172.23.0.0-24").is_empty(), "{step:?}");
        assert_eq!(living.link_names(), [""; 0], "{step:?}");
        reset(&node);
    }
}

#[test]
fn an_add_killed_at_any_step_may_be_tried_again() {
    let node = Lab::new().node("node1");
    let before = node.snapshot(&[]);
    for step in steps_of_add(&node) {
        let pod = node.pod("worker");
        let done = step.kill(pod.add(&conf::octavia()));
        let again = pod.add(&conf::octavia()).run();
        if done {
            again.error(103);
        } else {
            assert_eq!(again.attached().address(), "172.23.0.30/24", "{step:?}");
        }
        assert_eq!(pod.link_names(), ["net1"], "{step:?}");
        assert_eq!(node.allocations("172.23.0.0-24").len(), 1, "{step:?}");
        pod.del(&conf::octavia()).run().silent_success();
        node.ip("link del octbr");
        let difference = node.snapshot(&[]).difference_from(&before);
        assert!(difference.is_empty(), "{step:?}: {difference:#?}");
        reset(&node);
    }
}

#[test]
fn an_add_killed_at_any_step_and_then_deleted_keeps_no_address_of_the_clusters() {
    let node = Lab::new().node("node1");
    let before = node.snapshot(&[]);
    let socket = node.disk().join("agent.sock");
    // What the cluster has written down: who claimed and has not released.
    let held: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let book = held.clone();
    let _agent = ScriptedAgent::at(&socket, move |call: &Value| {
        let mut book = book.lock().expect("nobody panics while he holds it");
        let id = |owner: &Value| owner["containerId"].as_str().map(str::to_owned);
        book.extend(id(&call["claim"]["request"]["owner"]));
        if let Some(released) = id(&call["release"]) {
            book.remove(&released);
        }
        oblige(call)
    });
    let conf = conf::without(conf::octavia_with(json!({"agentSocket": socket})), "/ipam/datastore");
    let add =
        |pod: &Pod| pod.add(&conf).args("IgnoreUnknown=1;K8S_POD_NAMESPACE=openstack;K8S_POD_NAME=worker-0");
    let steps = steps_of(add(&node.pod("sample")));
    reset(&node);
    held.lock().unwrap().clear();
    assert!(steps.len() >= 20, "{steps:#?}");
    let mut claimed = 0;
    for step in steps {
        let pod = node.pod("worker");
        let done = step.kill(add(&pod));
        claimed += held.lock().unwrap().len();
        pod.del(&conf).run().silent_success();
        assert!(held.lock().unwrap().is_empty(), "{step:?}: the address is lost");
        let mut difference = node.snapshot(&[]).difference_from(&before);
        difference.retain(|line| !done || !line.starts_with("+ node: link octbr bridge"));
        assert!(difference.is_empty() && pod.link_names().is_empty(), "{step:?}: {difference:#?}");
        reset(&node);
    }
    assert!(claimed >= 5, "killed with an address only {claimed} times");
}

#[test]
fn a_del_killed_at_any_step_may_be_repeated() {
    let node = Lab::new().node("node1");
    node.bridge_with_uplink();
    let before = node.snapshot(&[]);
    let attach = || {
        let pod = node.pod("worker");
        pod.add(&conf::octavia()).run().attached();
        pod
    };
    let steps = steps_of(attach().del(&conf::octavia()));
    assert!(steps.len() >= 8, "{steps:#?}");
    for step in steps {
        let pod = attach();
        step.kill(pod.del(&conf::octavia()));
        pod.del(&conf::octavia()).run().silent_success();
        let difference = node.snapshot(&[]).difference_from(&before);
        assert!(difference.is_empty(), "{step:?}: {difference:#?}");
        assert_eq!(pod.link_names(), [""; 0], "{step:?}");
    }
}

#[test]
fn a_bridge_that_a_killed_add_made_stays_if_another_pod_uses_it() {
    let node = Lab::new().node("node1");
    let steps = steps_of_add(&node);
    // The first step after which the bridge is there.
    let left_a_bridge = steps.iter().find_map(|step| {
        reset(&node);
        let pod = node.pod("killed");
        step.kill(pod.add(&conf::octavia()));
        node.link("octbr").map(|_| pod)
    });
    let killed = left_a_bridge.expect("one of the killed ADDs left a bridge");
    let (one, two) = (node.pod("one"), node.pod("two"));
    one.add(&conf::octavia()).run().attached();
    let attached = two.add(&conf::octavia()).run().attached();
    killed.del(&conf::octavia()).run().silent_success();
    let _echo = Echo::start(&two, attached.ip());
    expect_answer(&one, attached.ip(), AT_ONCE);
}
