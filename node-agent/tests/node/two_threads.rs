//! run --cluster: whatever becomes of the links, plugins are answered. The API server is away all the time, which is no
//! matter here: the broker says so at once, or does not say anything.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::json;

use crate::scene::{Daemon, Node, POLICY, complete, on_a_node, until};

const START: Duration = Duration::from_secs(20);
/// A plugin has its answer long before this, and a probe of kubelet too.
const ANSWER: Duration = Duration::from_secs(5);
/// Most memory that the agent may ever have had, in KiB.
const MEMORY: u64 = 48 << 10;

const KUBECONFIG: &str = "
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: here, user: me}}]
clusters: [{name: here, cluster: {server: 'http://127.0.0.1:1'}}]
users: [{name: me, user: {token: none}}]
";

/// The agent of a cluster's node, with these words more.
fn start(node: &Node, words: &str) -> Daemon {
    fs::write(node.path("kubeconfig"), KUBECONFIG).unwrap();
    let (config, socket) = (node.path("kubeconfig"), node.path("run/agent.sock"));
    let of_cluster = format!("--kubeconfig {} --socket {}", config.display(), socket.display());
    let daemon = node.start(&format!("run --cluster --node-name worker-0 {of_cluster} {words}"));
    until(START, "the broker listens", || answers(node));
    daemon
}

/// Whether the broker answers a plugin; what, is in other tests.
fn answers(node: &Node) -> bool {
    let Ok(mut stream) = UnixStream::connect(node.path("run/agent.sock")) else { return false };
    stream.set_read_timeout(Some(ANSWER)).unwrap();
    stream.write_all(b"{\"version\":1}\n").unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).is_ok() && line.contains("\"version\":1")
}

fn page(path: &str) -> String {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, 29808));
    let Ok(mut stream) = stream else { return String::new() };
    stream.set_read_timeout(Some(ANSWER)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\n\r\n").unwrap();
    let mut answer = String::new();
    // One that does not come in time is empty.
    let _: Result<usize, _> = stream.read_to_string(&mut answer);
    answer
}

fn is_alive() -> bool {
    page("/healthz").starts_with("HTTP/1.1 200")
}

fn assert_small(daemon: &Daemon) {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.0.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < MEMORY, "{peak} KiB");
}

/// strace at the thread that keeps the links, doing this to its system calls.
struct Fault(Child);

impl Fault {
    fn on_links(daemon: &Daemon, calls: &str, fault: &str) -> Self {
        let threads = fs::read_dir(format!("/proc/{}/task", daemon.0.id())).unwrap();
        let named = |id: &String| {
            let name = fs::read_to_string(format!("/proc/{}/task/{id}/comm", daemon.0.id()));
            name.is_ok_and(|name| name.trim() == "links")
        };
        let mut ids = threads.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let thread = ids.find(named).expect("a thread of that name");
        let mut command = Command::new("strace");
        command.args(["-qq", "-o", "/dev/null", "-p", &thread, "-e", &format!("trace={calls}")]);
        command.args(["-e", &format!("inject={calls}:{fault}")]);
        let fault = Self(command.stdin(Stdio::null()).spawn().unwrap());
        let traced = || {
            let status = fs::read_to_string(format!("/proc/{}/task/{thread}/status", daemon.0.id()));
            status.is_ok_and(|status| !status.contains("TracerPid:\t0\n"))
        };
        until(START, "strace is there", traced);
        fault
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        let _: Result<(), _> = self.0.kill();
        let _: Result<_, _> = self.0.wait();
    }
}

fn policy(node: &Node) -> String {
    fs::write(node.path("policy.yaml"), POLICY).unwrap();
    format!("-f {}", node.path("policy.yaml").display())
}

/// The runtime panics when it is not allowed to wait for events.
#[test]
fn a_panic_of_the_links_thread_ends_that_thread_alone_and_it_begins_anew() {
    on_a_node(|node| {
        let words = policy(node);
        let daemon = start(node, &words);
        until(START, "the bridge", || complete(node));
        let fault = Fault::on_links(&daemon, "epoll_wait,epoll_pwait", "error=EINVAL:when=1");
        node.ip("link set octbr down");
        let said = "wait  policy   the loop that keeps the links ended: it panicked: ";
        until(START, said, || page("/readyz").contains(said) || node.log().contains("it begins anew in 1 s"));
        assert!(answers(node) && is_alive());
        drop(fault);
        until(START, "the repair", || complete(node));
        until(START, "nothing of it is left to say", || {
            page("/readyz").contains("ok    policy   in force: octbr")
        });
        assert!(node.log().contains("panicked"), "{}", node.log());
        assert!(answers(node) && is_alive());
    });
}

/// A request to the kernel that takes a minute, as where the kernel itself hangs.
#[test]
fn while_the_links_thread_hangs_plugins_probes_and_signals_are_answered() {
    on_a_node(|node| {
        let words = policy(node);
        let mut daemon = start(node, &words);
        until(START, "the bridge", || complete(node));
        let fault = Fault::on_links(&daemon, "sendto", "delay_enter=120000000");
        node.ip("link set octbr down");
        std::thread::sleep(Duration::from_millis(500));
        for _ in 0..10 {
            assert!(answers(node) && is_alive());
        }
        assert!(!complete(node), "it did not hang");
        daemon.signal(Signal::SIGTERM);
        let said = "stopping while the links are still worked at";
        until(START + START, said, || node.log().contains(said));
        assert!(!complete(node), "it did not hang");
        // A process is not gone before its tracer lets go.
        drop(fault);
        assert_eq!(daemon.0.wait().unwrap().code(), Some(0));
    });
}

/// 97 interfaces, 7 KB: two VLANs of each bridge stand on the next one.
#[test]
fn a_policy_that_took_hours_to_plan_is_refused_by_path() {
    on_a_node(|node| {
        let mut yaml = "interfaces:\n- {name: br32, type: linux-bridge}\n".to_owned();
        for level in 0..32 {
            let next = level + 1;
            yaml += &format!(
                "- {{name: br{level}, bridge: {{port: [{{name: va{level}}}, {{name: vb{level}}}]}}}}\n"
            );
            yaml += &format!("- {{name: va{level}, vlan: {{base-iface: br{next}, id: 1}}}}\n");
            yaml += &format!("- {{name: vb{level}, vlan: {{base-iface: br{next}, id: 2}}}}\n");
        }
        let said = "name: br28 stands on 8 links by way of bases and ports";
        let answer = node.run("plan -f -", &yaml);
        assert_eq!(answer.status, 2, "{}", answer.stderr);
        assert!(answer.stderr.contains(said), "{}", answer.stderr);
        fs::write(node.path("policy.yaml"), yaml).unwrap();
        let mut daemon = start(node, &format!("-f {}", node.path("policy.yaml").display()));
        until(START, said, || page("/readyz").contains(said));
        assert!(answers(node) && is_alive());
        assert_small(&daemon);
        assert_eq!(daemon.stop(), Some(0));
    });
}

#[test]
fn a_file_that_does_not_end_holds_up_nobody() {
    on_a_node(|node| {
        let fifo = node.path("fifo");
        mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        let fifo = fifo.display();
        for words in ["plan", "apply", "run --health-bind none"] {
            let begun = Instant::now();
            let answer = node.run(&format!("{words} -f {fifo}"), "");
            assert_eq!(answer.status, 2, "{words}: {}", answer.stderr);
            assert!(answer.stderr.contains("not read within 5 s; name a regular file"), "{}", answer.stderr);
            assert!(begun.elapsed() < START, "{words}");
        }
        let answer =
            node.run(&format!("run --cluster --node-name n --kubeconfig {fifo} --health-bind none"), "");
        assert_eq!(answer.status, 1, "{}", answer.stderr);
        assert!(answer.stderr.contains("not read within 5 s; name a regular file"), "{}", answer.stderr);
        let mut daemon = start(node, &format!("-f {fifo}"));
        assert!(is_alive());
        let said = "a newer one has no effect: read ";
        until(START, said, || page("/readyz").contains(said));
        assert!(answers(node));
        assert_eq!(daemon.stop(), Some(0));
    });
}

#[test]
fn standard_input_has_the_limit_of_files() {
    on_a_node(|node| {
        let long = format!("interfaces: [] #{}", "x".repeat(4 << 20));
        fs::write(node.path("long"), &long).unwrap();
        for words in [
            "plan -f -".to_owned(),
            "apply -f -".to_owned(),
            format!("plan -f {}", node.path("long").display()),
        ] {
            let answer = node.run(&words, &long);
            assert_eq!(answer.status, 2, "{words}");
            assert!(answer.stderr.contains("more than 4194304 bytes"), "{words}: {}", answer.stderr);
        }
    });
}

/// As after a rollback: the later release knew a type of link that this one does not.
#[test]
fn files_that_another_release_kept_hold_up_no_policy() {
    on_a_node(|node| {
        let interfaces = json!([{"name": "octbr", "type": "linux-bridge", "state": "up", "mtu": 1500,
            "bridge": {"options": {"stp": {"enabled": false}}, "port": [{"name": "enp6s0"}]}}]);
        let policy = json!({"apiVersion": "nmstate.io/v1", "kind": "NodeNetworkConfigurationPolicy",
            "metadata": {"name": "octavia"}, "spec": {"desiredState": {"interfaces": interfaces}}});
        let kept = json!({
            "texts": [{"origin": "site.yaml", "yaml": "interfaces: [{name: x0, type: of-a-later-release}]"}],
            "policies": [{"origin": "policy octavia", "yaml": policy.to_string()}],
            "choice": {"labels": [], "all_policies": false, "ours_only": false},
        });
        fs::create_dir_all(node.path("state/agent")).unwrap();
        fs::write(node.path("state/agent/desired.json"), kept.to_string()).unwrap();
        let _daemon = start(node, "--health-bind none");
        until(START, "the policy is in force", || complete(node));
        assert!(node.log().contains("of-a-later-release"), "{}", node.log());
    });
}
