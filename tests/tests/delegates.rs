//! IPAM plugins that misbehave: addresses that they may have reserved are released, and they can neither block nor flood the plugin.

use octavia_bridge_tests::{Lab, Node, conf};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A delegate that has ended is not waited for any longer; the rest is for a busy machine.
const AT_ONCE: Duration = Duration::from_secs(10);
const RESULT: &str = r#"{"cniVersion":"1.0.0","ips":[{"address":"10.9.0.7/24"}]}"#;

/// An IPAM plugin that is a shell script and records each verb.
struct Scripted {
    lab: Lab,
    node: Node,
    log: PathBuf,
}

impl Scripted {
    /// `add` and `del` are what it does on ADD and DEL.
    fn new(add: &str, del: &str) -> Self {
        let lab = Lab::new();
        let node = lab.node("node1");
        let log = lab.bin().join("scripted.log");
        install(&lab.bin(), &log, add, del);
        Self { lab, node, log }
    }

    fn conf(&self) -> Value {
        conf::layer2_with(json!({"ipam": {"type": "scripted"}}))
    }

    fn verbs(&self) -> Vec<String> {
        let log = fs::read_to_string(&self.log).expect("read the script's log");
        log.lines().map(str::to_owned).collect()
    }

    /// A file in the lab's folder by which script and test tell each other something.
    fn file(&self, name: &str) -> PathBuf {
        self.lab.bin().join(name)
    }
}

/// Installs the script as `scripted` in a folder.
fn install(folder: &Path, log: &Path, add: &str, del: &str) {
    let file = folder.join("scripted");
    // Standard input is read to its end first, so that writing it never fails.
    let text = format!(
        "#!/bin/sh\nwhile read -r line; do :; done\necho \"$CNI_COMMAND\" >> {}\n\
         here={}\ncase $CNI_COMMAND in\nADD) {add} ;;\nDEL) {del} ;;\nesac\n",
        log.display(),
        folder.display()
    );
    fs::write(&file, text).expect("write the script");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("make the script executable");
}

/// Asserts that the process whose number is in `file` ends soon: one that was killed may take a moment.
#[track_caller]
fn expect_end_of(file: &Path) {
    let pid = fs::read_to_string(file).expect("read the process number");
    let stat = PathBuf::from(format!("/proc/{}/stat", pid.trim()));
    let deadline = Instant::now() + Duration::from_secs(5);
    // A zombie does not run any more; its new parent reaps it.
    while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < deadline, "process {} still runs", pid.trim());
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_a_delegate_could_not_take_back_is_remembered() {
    let refusing = r#"[ -e $here/mended ] || { echo '{"code":142,"msg":"not now"}'; exit 1; }"#;
    let scripted = Scripted::new("echo nonsense", refusing);
    let pod = scripted.node.pod("worker");
    let before = scripted.node.snapshot(&[&pod]);
    pod.add(&scripted.conf()).run().error(105).says(&["scripted", "not now"]);
    assert_eq!(scripted.verbs(), ["ADD", "DEL"]);
    assert_eq!((pod.link_names().len(), scripted.node.link_names().len()), (0, 0));

    // The address may still be reserved: DEL says so instead of forgetting it.
    let stripped = conf::layer2();
    pod.del(&stripped).run().error(142).says(&["not now"]);
    fs::write(scripted.file("mended"), "").unwrap();
    pod.del(&stripped).run().silent_success();
    assert_eq!(scripted.verbs(), ["ADD", "DEL", "DEL", "DEL"]);
    scripted.node.snapshot(&[&pod]).assert_same_as(&before);
    // And it is forgotten now.
    pod.del(&stripped).run().silent_success();
    assert_eq!(scripted.verbs().len(), 4);
}

/// DEL makes a file for its lock, which is not the trace of an ADD.
#[test]
fn what_a_del_by_another_container_id_could_not_take_back_is_ended_by_the_next_one() {
    let refusing = r#"[ -e $here/mended ] || { echo '{"code":142,"msg":"not now"}'; exit 1; }"#;
    let scripted = Scripted::new(&format!("echo '{RESULT}'"), refusing);
    let pod = scripted.node.pod("worker");
    scripted.node.bridge_with_uplink();
    let before = scripted.node.snapshot(&[&pod]);
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=openstack;K8S_POD_NAME=worker-0;K8S_POD_UID=u1";
    let attached = pod.add(&scripted.conf()).args(args).run().attached();
    let mut with_result = conf::layer2();
    with_result["prevResult"] = attached.result.clone();
    let del = pod.del(&with_result).args(args).env("CNI_CONTAINERID", "sandbox2");
    for _ in 0..2 {
        del.run().error(142).says(&["not now"]);
    }
    fs::write(scripted.file("mended"), "").unwrap();
    del.run().silent_success();
    assert_eq!(scripted.verbs(), ["ADD", "DEL", "DEL", "DEL"]);
    scripted.node.snapshot(&[&pod]).assert_same_as(&before);
}

#[test]
fn a_delegate_killed_after_it_reserved_is_told_to_take_it_back() {
    let scripted = Scripted::new("kill -9 $$", ":");
    let pod = scripted.node.pod("worker");
    let before = scripted.node.snapshot(&[&pod]);
    pod.add(&scripted.conf()).run().error(105).says(&["scripted"]);
    assert_eq!(scripted.verbs(), ["ADD", "DEL"]);
    scripted.node.snapshot(&[&pod]).assert_same_as(&before);
}

#[test]
fn a_process_that_a_delegate_leaves_behind_is_not_waited_for() {
    // It holds the delegate's stdout, which therefore never ends; its stderr is ours and must not be held.
    let leave = format!("/bin/sleep 45 2>/dev/null & echo $! > $here/pid; echo '{RESULT}'");
    let scripted = Scripted::new(&leave, ":");
    let pod = scripted.node.pod("worker");
    let before = scripted.node.snapshot(&[&pod]);
    let outcome = pod.add(&scripted.conf()).run();
    assert!(outcome.took < AT_ONCE, "{:?}", outcome.took);
    if outcome.status.success() {
        assert_eq!(outcome.attached().address(), "10.9.0.7/24");
        pod.del(&scripted.conf()).run().silent_success();
    } else {
        outcome.any_error().says(&["scripted"]);
    }
    // Taken back once, by the failed ADD or by DEL.
    assert_eq!(scripted.verbs(), ["ADD", "DEL"]);
    scripted.node.snapshot(&[&pod]).assert_same_as(&before);
    expect_end_of(&scripted.file("pid"));
}

#[test]
fn a_delegate_that_floods_us_is_stopped() {
    let scripted = Scripted::new("echo $$ > $here/pid; exec /usr/bin/yes", ":");
    let pod = scripted.node.pod("worker");
    let before = scripted.node.snapshot(&[&pod]);
    // 1 GB of address space, so that a plugin that keeps all it hears fails here and not the machine.
    let limited = pod.add(&scripted.conf()).under(&["/bin/sh", "-c", "ulimit -v 1000000; exec \"$0\""]);
    let outcome = limited.run();
    let error = outcome.any_error();
    error.says(&["scripted"]);
    assert!([11, 105].contains(&error.code), "{error:?}");
    assert!(outcome.took < AT_ONCE, "{:?}", outcome.took);
    // Not even a part of it belongs into an event of Kubernetes.
    assert!(outcome.stdout.len() < 4096, "{} bytes", outcome.stdout.len());
    assert_eq!(scripted.verbs(), ["ADD", "DEL"]);
    scripted.node.snapshot(&[&pod]).assert_same_as(&before);
    expect_end_of(&scripted.file("pid"));
}

#[test]
fn an_error_object_counts_whatever_the_exit_status_says() {
    let object =
        r#"echo '{"cniVersion":"1.0.0","code":142,"msg":"no ranges left","details":"today"}'; exit 0"#;
    let scripted = Scripted::new(object, ":");
    let pod = scripted.node.pod("worker");
    let before = scripted.node.snapshot(&[&pod]);
    pod.add(&scripted.conf()).run().error(142).says(&["no ranges left", "today"]);
    assert_eq!(scripted.verbs(), ["ADD", "DEL"]);
    scripted.node.snapshot(&[&pod]).assert_same_as(&before);
}

#[test]
fn folders_of_cni_path_that_are_not_absolute_are_passed_over() {
    // The runtime's working directory is arbitrary; a program in it must not run as root.
    let scripted = Scripted::new(&format!("echo '{RESULT}'"), ":");
    let trap = scripted.file("trap");
    fs::create_dir(&trap).unwrap();
    install(&trap, &trap.join("log"), &format!("echo '{RESULT}'"), ":");
    let there = format!("cd {} && exec \"$0\"", trap.display());
    let there = ["/bin/sh", "-c", &there];
    let good = scripted.lab.bin();
    for list in [format!(":{}", good.display()), format!(".:{}", good.display()), "../trap::.".to_owned()] {
        let pod = scripted.node.pod("worker");
        let outcome = pod.add(&scripted.conf()).env("CNI_PATH", &list).under(&there).run();
        assert!(!trap.join("log").exists(), "CNI_PATH={list} ran the program of the working directory");
        if list.contains('/') && !list.starts_with("..") {
            outcome.attached();
            pod.del(&scripted.conf()).run().silent_success();
        } else {
            outcome.error(7).says(&["scripted", "CNI_PATH"]);
        }
        assert_eq!(pod.link_names(), [""; 0], "{list}");
    }
    assert_eq!(scripted.verbs(), ["ADD", "DEL", "ADD", "DEL"]);
}

#[test]
fn the_plugin_does_not_delegate_to_itself() {
    let lab = Lab::new();
    // The binary may be installed under any name.
    let binary = fs::read_link(lab.bin().join("octavia-bridge")).unwrap();
    symlink(binary, lab.bin().join("our-bridge")).unwrap();
    let node = lab.node("node1");
    // Each would start the next for ever. Killed as a group, should it come to that.
    let limit = ["/usr/bin/timeout", "-s", "KILL", "3"];
    for name in ["octavia-bridge", "our-bridge"] {
        let conf = conf::layer2_with(json!({"cniVersion": "1.1.0", "ipam": {"type": name}}));
        let pod = node.pod("worker");
        let before = node.snapshot(&[&pod]);
        pod.add(&conf).under(&limit).run().error(7).says(&["ipam.type", name]);
        node.status(&conf).under(&limit).run().error(7).says(&["ipam.type", name]);
        pod.del(&conf).under(&limit).run().silent_success();
        node.snapshot(&[&pod]).assert_same_as(&before);
    }
}
