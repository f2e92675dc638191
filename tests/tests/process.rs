//! The process itself: its three streams, its environment, and files that are none.

use octavia_bridge_tests::changes::until;
use octavia_bridge_tests::{Lab, Node, Outcome, ScriptedAgent, conf};
use serde_json::json;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Far more than a call needs; what hangs is killed, and `error` and `success` say so.
const LIMIT: [&str; 4] = ["/usr/bin/timeout", "-s", "KILL", "15"];
/// No wait for a lock exceeds 30 s; the rest is for a busy machine.
const LONGEST_WAIT: Duration = Duration::from_secs(45);

/// A shell that becomes the plugin, with other streams or variables.
fn shell(change: &str) -> [String; 3] {
    ["/bin/sh".to_owned(), "-c".to_owned(), format!("{change} exec \"$0\"")]
}

/// A named pipe without a reader or a writer.
fn pipe(node: &Node) -> PathBuf {
    let path = node.disk().join("pipe");
    let made = Command::new("mkfifo").arg(&path).status().expect("run mkfifo");
    assert!(made.success(), "mkfifo {}", path.display());
    path
}

fn wrapped(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

/// An ADD whose result cannot be delivered fails and leaves nothing: a runtime without a result assumes that there is no
/// attachment, and may never call DEL.
fn undone_when_untold(change: &str) {
    let node = Lab::new().node("node1");
    let pod = node.pod("worker");
    let before = node.snapshot(&[&pod]);
    let outcome = pod.add(&conf::octavia()).under(&wrapped(&shell(change))).run();
    assert!(!outcome.status.success(), "{change} an ADD that told nobody succeeded");
    node.snapshot(&[&pod]).assert_same_as(&before);
}

#[test]
fn an_add_whose_result_cannot_be_written_is_undone() {
    undone_when_untold("exec >/dev/full;");
    undone_when_untold("exec >/dev/full 2>&-;");
}

#[test]
fn verbs_that_have_nothing_to_say_need_no_stdout() {
    let node = Lab::new().node("node1");
    node.bridge_with_uplink();
    let pod = node.pod("worker");
    let before = node.snapshot(&[&pod]);
    pod.add(&conf::octavia()).run().attached();
    pod.del(&conf::octavia()).under(&wrapped(&shell("exec >&-;"))).run().silent_success();
    node.snapshot(&[&pod]).assert_same_as(&before);
}

#[test]
fn a_closed_stderr_does_no_harm() {
    let pod = Lab::new().node("node1").pod("worker");
    // This includes a warning that cannot be written.
    let warned = conf::octavia_with(json!({"brigde": "x"}));
    pod.add(&warned).under(&wrapped(&shell("exec 2>&-;"))).run().attached();
    assert_eq!(pod.expect_link("net1").addresses(), ["172.23.0.30/24"]);
    // Nothing of the log went where it does not belong: the files that were opened while stderr was closed.
    let conf = conf::octavia_with(json!({"cniVersion": "1.1.0"}));
    pod.del(&conf).under(&wrapped(&shell("exec 2>&-;"))).run().silent_success();
    assert_eq!(pod.link_names(), [""; 0]);
}

#[test]
fn a_closed_stdin_is_an_empty_configuration() {
    let node = Lab::new().node("node1");
    let pod = node.pod("worker");
    for change in ["exec <&-;", "exec </dev/null;"] {
        pod.add(&conf::octavia()).under(&wrapped(&shell(change))).run().error(6).says(&["stdin"]);
        assert!(node.has_no_files());
    }
}

#[test]
fn a_stdin_that_never_ends_is_given_up() {
    let node = Lab::new().node("node1");
    let pod = node.pod("worker");
    // Open for writing as well, and by the plugin itself: there will always be a writer.
    let never = shell(&format!("exec <>{};", pipe(&node).display()));
    let outcome = pod.add(&conf::octavia()).under(&wrapped(&never)).run();
    let error = outcome.any_error();
    error.says(&["stdin"]);
    assert!([6, 11].contains(&error.code), "{error:?}");
    assert!(outcome.took < Duration::from_secs(40), "{:?}", outcome.took);
    assert!(node.has_no_files());
}

#[test]
fn a_log_file_that_is_a_pipe_holds_nobody_up() {
    let node = Lab::new().node("node1");
    let pod = node.pod("worker");
    let pipe = pipe(&node);
    fs::rename(pipe, node.disk().join("whereabouts.log")).unwrap();
    let mut under = LIMIT.to_vec();
    let mount = format!("/usr/bin/mount --bind {} /var/log && exec \"$@\"", node.disk().display());
    under.extend(["/bin/sh", "-c", &mount, "sh"]);
    let conf = conf::octavia_with(json!({"ipam": {"log_file": "/var/log/whereabouts.log"}}));
    let outcome = pod.add(&conf).under(&under).run();
    outcome.attached();
    assert!(outcome.stderr.contains("log_file"), "nobody is told: {:?}", outcome.stderr);
    pod.add(&conf).plugin("octavia-ipam").ifname("net2").under(&under).run().success();
    pod.del(&conf).under(&under).run().silent_success();
}

#[test]
fn a_namespace_or_a_pool_that_is_a_pipe_holds_nobody_up() {
    let node = Lab::new().node("node1");
    let pod = node.pod("worker");
    let pipe = pipe(&node);
    let add = pod.add(&conf::octavia()).under(&LIMIT);
    add.clone().env("CNI_NETNS", "/var/lib/pipe").run().error(4).says(&["CNI_NETNS", "/var/lib/pipe"]);
    assert!(node.has_no_files());

    let pool = node.pool_file("172.23.0.0-24");
    fs::create_dir_all(pool.parent().unwrap()).unwrap();
    fs::rename(pipe, &pool).unwrap();
    let error = add.run().any_error();
    error.says(&["172.23.0.0-24.json"]);
    assert!([5, 106].contains(&error.code), "{error:?}");
    assert_eq!((node.link_names().len(), pod.link_names().len()), (0, 0));
    pod.del(&conf::octavia()).under(&LIMIT).run().silent_success();
}

/// Runs the verb with bytes in `CNI_ARGS` that are not UTF-8.
fn with_strange_args(call: octavia_bridge_tests::Call) -> Outcome {
    call.under(&wrapped(&shell("CNI_ARGS=\"$(printf 'A=\\377\\376')\"; export CNI_ARGS;"))).run()
}

#[test]
fn arguments_that_are_no_text_stop_an_add_and_not_a_del() {
    let node = Lab::new().node("node1");
    let pod = node.pod("worker");
    with_strange_args(pod.add(&conf::octavia())).error(4).says(&["CNI_ARGS"]);
    assert!(node.has_no_files());
    pod.add(&conf::octavia()).run().attached();
    with_strange_args(pod.del(&conf::octavia())).silent_success();
    assert_eq!(pod.link_names(), [""; 0]);
    assert!(node.allocations("172.23.0.0-24").is_empty());
    with_strange_args(node.version()).success();
}

#[test]
fn a_pod_may_have_a_long_name_in_any_script() {
    let node = Lab::new().node("node1");
    node.bridge_with_uplink();
    // The kernel keeps 255 bytes of an alias; these characters take one to four.
    for letter in ["a", "ü", "網", "🙂"] {
        let pod = node.pod("worker");
        let before = node.snapshot(&[&pod]);
        let args = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=openstack;K8S_POD_NAME={}", letter.repeat(250));
        let attached = pod.add(&conf::octavia()).args(&args).run().attached();
        let alias = node.expect_link(attached.host_link()).alias().to_owned();
        assert!(alias.contains(pod.container_id()) && alias.contains(letter), "{alias}");
        pod.del(&conf::octavia()).args(&args).run().silent_success();
        node.snapshot(&[&pod]).assert_same_as(&before);
    }
}

#[test]
fn a_stuck_store_costs_the_ipam_plugin_one_wait() {
    let node = Lab::new().node("node1");
    let pod = node.pod("worker");
    let pools = node.run_dir().join("pools");
    fs::create_dir_all(&pools).unwrap();
    let lock = File::create(pools.join(".lock")).unwrap();
    lock.lock().unwrap();
    let before = node.snapshot(&[&pod]);
    let outcome = pod.add(&conf::octavia()).plugin("octavia-ipam").run();
    outcome.error(11).says(&["/run/octavia-bridge/pools/.lock"]);
    assert!(outcome.took < LONGEST_WAIT, "{:?}", outcome.took);
    node.snapshot(&[&pod]).assert_same_as(&before);
}

/// Calls that wait on a frozen disk. Opening waits only in order to write, which strace cannot tell from reading.
const CHANGES: &str = "mkdir,mkdirat,write,fsync,fdatasync,rename,unlink,unlinkat,rmdir";

/// A disk that answers after so many microseconds, longer than anybody waits: strace holds up the calls that name one of the files.
/// Processes that the plugin leaves behind are not followed.
fn on_a_frozen_disk(calls: &str, files: &[String]) -> Vec<String> {
    let inject = format!("inject={calls}:delay_enter=50000000");
    let trace = format!("trace={calls}");
    let mut words: Vec<String> =
        ["/usr/bin/strace", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject].map(str::to_owned).into();
    for file in files {
        words.extend(["-P".to_owned(), file.clone()]);
    }
    words
}

#[test]
fn a_log_on_a_frozen_disk_holds_nobody_up() {
    let node = Lab::new().node("node1");
    let pod = node.pod("worker");
    let logs = node.disk().join("log");
    fs::create_dir(&logs).unwrap();
    let file = logs.join("whereabouts.log");
    fs::write(&file, "").unwrap();
    let mount = format!("/usr/bin/mount --bind {} /var/log && exec \"$@\"", logs.display());
    let frozen = ["/var/log/whereabouts.log".to_owned()];
    let strace = on_a_frozen_disk(&format!("openat,open,{CHANGES}"), &frozen);
    let mut under = vec!["/bin/sh", "-c", &mount, "sh"];
    under.extend(wrapped(&strace));
    let conf = conf::octavia_with(json!({"ipam": {"log_file": frozen[0], "log_level": "debug"}}));
    for (verb, call) in [("ADD", pod.add(&conf)), ("DEL", pod.del(&conf))] {
        let outcome = call.under(&under).run();
        outcome.success();
        assert!(outcome.took < LONGEST_WAIT, "{verb}: {:?}", outcome.took);
        assert!(fs::read_to_string(&file).unwrap().contains(verb), "{verb}: another process writes it");
    }
}

#[test]
fn processes_that_wait_for_the_disk_of_a_log_do_not_pile_up() {
    let node = Lab::new().node("node1");
    let pod = node.pod("worker");
    let logs = node.disk().join("log");
    fs::create_dir(&logs).unwrap();
    let log = format!("/var/log/octavia-bridge/{}.log", pod.container_id());
    let mount = format!("/usr/bin/mount --bind {} /var/log && exec \"$@\"", logs.display());
    let under = ["/bin/sh", "-c", &mount, "sh"];
    let conf = conf::octavia_with(json!({"ipam": {"log_file": log, "log_level": "debug"}}));
    pod.add(&conf).under(&under).run().attached();
    let file = logs.join(format!("octavia-bridge/{}.log", pod.container_id()));
    let written = fs::read_to_string(&file).unwrap();
    assert!(written.contains("Z  INFO ADD "), "time, level, message: {written}");

    // As an earlier one does while it waits.
    let lock = File::open(node.run_dir().join("log.lock")).unwrap();
    lock.lock().unwrap();
    for _ in 0..3 {
        let outcome = pod.del(&conf).under(&under).run();
        outcome.silent_success();
        assert!(outcome.stderr.contains("the disk does not answer"), "{:?}", outcome.stderr);
    }
    until(LONGEST_WAIT, "they give up", || writers_of(&log) == 0);
    lock.unlock().unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), written);
    pod.del(&conf).under(&under).run().silent_success();
    assert!(fs::read_to_string(&file).unwrap().contains("DEL"), "the next call writes again");
}

/// How many processes have the path of this file among their arguments.
fn writers_of(log: &str) -> usize {
    let mut count = 0;
    for entry in fs::read_dir("/proc").expect("list the processes").flatten() {
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        count += usize::from(arguments.split(|byte| *byte == 0).any(|argument| argument == log.as_bytes()));
    }
    count
}

#[test]
fn a_release_owed_to_the_cluster_does_not_wait_for_a_frozen_disk() {
    let node = Lab::new().node("node1");
    let pod = node.pod("worker");
    let socket = node.disk().join("agent.sock");
    let agent = ScriptedAgent::obliging(&socket);
    let conf = conf::without(conf::octavia_with(json!({"agentSocket": socket})), "/ipam/datastore");
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=openstack;K8S_POD_NAME=worker-0";
    pod.add(&conf).args(args).run().attached();
    drop(agent);
    let folder = "/var/lib/octavia-bridge/cluster-tombstones";
    let frozen = [folder.to_owned(), format!("{folder}/{}@net1", pod.container_id())];
    let strace = on_a_frozen_disk(&format!("openat,open,{CHANGES}"), &frozen);
    let outcome = pod.del(&conf).under(&wrapped(&strace)).run();
    outcome.silent_success();
    assert!(outcome.took < LONGEST_WAIT, "{:?}", outcome.took);
    assert_eq!(pod.link_names(), [""; 0]);
    let tombstone = node.data_dir().join(format!("cluster-tombstones/{}@net1", pod.container_id()));
    assert!(tombstone.is_file(), "another process writes it");
}

#[test]
fn an_add_does_not_wait_for_a_frozen_disk() {
    let node = Lab::new().node("node1");
    let socket = node.disk().join("agent.sock");
    let _agent = ScriptedAgent::obliging(&socket);
    let cluster = conf::without(conf::octavia_with(json!({"agentSocket": socket})), "/ipam/datastore");
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=openstack;K8S_POD_NAME=worker-0";
    let pods = [node.pod("worker"), node.pod("worker")];
    let folder = "/var/lib/octavia-bridge";
    let mut frozen: Vec<String> = ["", "/pools", "/pools/.lock", "/pools/.lock/moved", "/cluster-tombstones"]
        .map(|name| format!("{folder}{name}"))
        .into();
    frozen.extend(pods.iter().map(|pod| format!("{folder}/cluster-tombstones/{}@net1", pod.container_id())));
    let strace = on_a_frozen_disk(CHANGES, &frozen);
    let under = wrapped(&strace);
    for pod in &pods {
        // One thread does it all there: strace follows no other.
        let add = pod.add(&cluster).args(args).plugin("octavia-ipam");
        let outcome = add.under(&under).run();
        outcome.success();
        assert!(outcome.took < LONGEST_WAIT, "{:?}", outcome.took);
    }
    let pod = node.pod("of-file");
    let outcome = pod.add(&conf::octavia()).under(&under).run();
    outcome.attached();
    assert!(outcome.took < LONGEST_WAIT, "{:?}", outcome.took);
    assert!(node.data_dir().join("pools/.lock/moved").is_file(), "another process closes it");
    assert!(node.data_dir().join("cluster-tombstones").is_dir(), "another process makes it");
}

#[test]
fn an_add_does_not_wait_for_the_disk_of_another_network() {
    let node = Lab::new().node("node1");
    let socket = node.disk().join("agent.sock");
    let _agent = ScriptedAgent::obliging(&socket);
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=openstack;K8S_POD_NAME=worker-0";
    let add = |disk: &str| {
        let change = json!({"agentSocket": socket, "dataDir": format!("/var/lib/octavia-bridge/{disk}")});
        let conf = conf::without(conf::octavia_with(change), "/ipam/datastore");
        let outcome = node.pod(disk).add(&conf).args(args).run();
        outcome.attached();
        outcome.stderr
    };
    add("a");
    // As a process does that waits for the disk, which has not made the directory yet.
    fs::remove_dir(node.data_dir().join("a/cluster-tombstones")).unwrap();
    let mut locks = Vec::new();
    for directory in [node.run_dir().to_owned(), node.run_dir().join("a")] {
        if let Ok(lock) = File::open(directory.join("directory.lock")) {
            lock.lock().unwrap();
            locks.push(lock);
        }
    }
    assert_eq!(locks.len(), 1);
    let said = add("a");
    assert!(said.contains("the disk does not answer"), "{said:?}");
    let said = add("b");
    assert!(!said.contains("the disk does not answer"), "{said:?}");
    assert!(node.data_dir().join("b/cluster-tombstones").is_dir());
}
