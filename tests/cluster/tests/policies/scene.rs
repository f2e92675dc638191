//! Nodes of a cluster, each a network namespace with a NIC `enp6s0` and an agent that follows the cluster's policies.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{env, thread};

use octavia_bridge_cluster_tests::{Access, Cluster, Proxy};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Longer than anything takes, on however busy a machine.
const DEADLINE: Duration = Duration::from_secs(120);
pub(crate) const POLICIES: &str = "/apis/nmstate.io/v1/nodenetworkconfigurationpolicies";
pub(crate) const ENACTMENTS: &str = "/apis/nmstate.io/v1beta1/nodenetworkconfigurationenactments";

/// The policies of one test and who they are for: its own nodes, by a label.
pub(crate) struct Scene {
    pub(crate) admin: Access,
    /// What tells this test's objects from those of others.
    name: String,
}

/// A node and its agent.
pub(crate) struct Node {
    pub(crate) name: String,
    admin: Access,
    proxy: Proxy,
    access: Access,
    namespace: String,
    folder: TempDir,
    agent: RefCell<Option<Child>>,
    arguments: Vec<String>,
}

impl Scene {
    pub(crate) fn new(what: &str) -> Self {
        Self::on(Cluster::shared(), what)
    }

    pub(crate) fn on(cluster: &Cluster, what: &str) -> Self {
        let admin = cluster.namespace(what);
        let name = admin.namespace().trim_start_matches("octavia-bridge-test-").to_owned();
        Self { admin, name }
    }

    /// The label of this test's nodes.
    pub(crate) fn label(&self) -> String {
        format!("octavia-bridge-test/{}", self.name)
    }

    /// A node that is ready and bears the label, with its agent running.
    pub(crate) fn node(&self, number: u8) -> Node {
        let node = self.bare_node(number, &[]);
        node.start();
        node
    }

    /// The same; the agent has yet to be started, with these arguments.
    pub(crate) fn bare_node(&self, number: u8, arguments: &[&str]) -> Node {
        let name = format!("worker-{number}.{}", self.name);
        self.register(&name);
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let namespace = format!("policies-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        command("ip", &["netns", "add", &namespace]);
        let proxy = Proxy::start(&self.admin);
        let access = proxy.listen_in(&Path::new("/run/netns").join(&namespace));
        let node = Node {
            name,
            admin: self.admin.clone(),
            proxy,
            access,
            namespace,
            folder: TempDir::with_prefix_in("node-", "/run").expect("create the node's folder in /run"),
            agent: RefCell::new(None),
            arguments: arguments.iter().map(|&word| word.to_owned()).collect(),
        };
        node.ip("link add enp6s0 type veth peer name wire");
        node.ip("link set wire up");
        node
    }

    /// Creates a node that is ready and bears the label.
    pub(crate) fn register(&self, name: &str) {
        let object = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {self.label(): ""}},
        });
        self.admin.create("/api/v1/nodes", &object);
        let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        self.admin.call("PATCH", &format!("/api/v1/nodes/{name}/status"), Some(&ready)).expect(200);
    }

    /// The name of a policy of this test.
    pub(crate) fn called(&self, what: &str) -> String {
        format!("{what}-{}", self.name)
    }

    /// Posts a policy for this test's nodes.
    pub(crate) fn post(&self, what: &str, interfaces: &Value) -> Value {
        self.post_state(what, &json!({"interfaces": interfaces}))
    }

    /// The same with all that a state may have.
    pub(crate) fn post_state(&self, what: &str, state: &Value) -> Value {
        let selector = json!({self.label(): ""});
        self.admin.create(
            POLICIES,
            &json!({
                "apiVersion": "nmstate.io/v1",
                "kind": "NodeNetworkConfigurationPolicy",
                "metadata": {"name": self.called(what)},
                "spec": {"nodeSelector": selector, "desiredState": state},
            }),
        )
    }

    /// `oc patch nncp … --type=merge` with another list of interfaces.
    pub(crate) fn patch(&self, what: &str, interfaces: &Value) -> Value {
        let patch = json!({"spec": {"desiredState": {"interfaces": interfaces}}});
        self.admin.call("PATCH", &self.path(what), Some(&patch)).expect(200)
    }

    pub(crate) fn delete(&self, what: &str) {
        self.admin.delete(&self.path(what));
    }

    pub(crate) fn path(&self, what: &str) -> String {
        format!("{POLICIES}/{}", self.called(what))
    }

    pub(crate) fn policy(&self, what: &str) -> Value {
        self.admin.get(&self.path(what))
    }

    /// `oc wait nncp … --for jsonpath='{.status.conditions[0].reason}'=REASON`. Returns the policy.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, reason: &str) -> Value {
        until(
            &format!("{what} is {reason}"),
            || self.policy(what),
            |policy| policy.pointer("/status/conditions/0/reason").is_some_and(|told| told == reason),
        )
    }

    /// The same, until the message of the condition that is true has this in it.
    #[track_caller]
    pub(crate) fn wait_for_message(&self, what: &str, part: &str) -> Value {
        until(
            &format!("{what} says {part:?}"),
            || self.policy(what),
            |policy| message(policy).is_some_and(|told| told.contains(part)),
        )
    }

    /// The enactment of a policy on a node, if there is one.
    pub(crate) fn enactment(&self, node: &Node, what: &str) -> Option<Value> {
        let path = format!("{ENACTMENTS}/{}.{}", node.name, self.called(what));
        let answer = self.admin.call("GET", &path, None);
        (answer.status == 200).then_some(answer.body)
    }

    /// The type, reason and message of each event on a policy, in the order of time.
    pub(crate) fn events(&self, what: &str) -> Vec<(String, String, String)> {
        let list = self.admin.get("/api/v1/namespaces/default/events");
        let mut events: Vec<Value> = list["items"].as_array().cloned().unwrap_or_default();
        events.retain(|event| event["involvedObject"]["name"] == *self.called(what));
        events.sort_by_key(|event| text(&event["lastTimestamp"]));
        events
            .iter()
            .map(|event| (text(&event["type"]), text(&event["reason"]), text(&event["message"])))
            .collect()
    }
}

impl Node {
    /// Starts the agent; with the files of the one before, if there was one.
    pub(crate) fn start(&self) {
        let path = |name: &str| self.folder.path().join(name);
        self.access.write_kubeconfig(&path("kubeconfig"));
        let log = File::options().create(true).append(true).open(path("log")).expect("open the agent's log");
        // A test's process that is killed takes its agents along.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "nsenter"]);
        command.arg(format!("--net=/run/netns/{}", self.namespace)).arg("--").arg(program());
        command.args(["run", "--cluster", "--health-bind", "none", "--node-name", &self.name]);
        command.args(["--pool-namespace", self.admin.namespace()]).args(&self.arguments);
        for (flag, name) in [
            ("--kubeconfig", "kubeconfig"),
            ("--socket", "agent.sock"),
            ("--health-socket", "health.sock"),
            ("--state-dir", "state"),
            ("--nmstate-lock", "handler_lock"),
        ] {
            command.arg(flag).arg(path(name));
        }
        // Files may be named relative to the node's own.
        command.current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        *self.agent.borrow_mut() = Some(command.spawn().expect("start the agent"));
    }

    /// Ends the agent at once, as a crash does.
    pub(crate) fn kill(&self) {
        if let Some(mut agent) = self.agent.borrow_mut().take() {
            // It may be over already.
            agent.kill().unwrap_or_default();
            let _status = agent.wait();
        }
    }

    /// Sends the agent a signal.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.agent.borrow().as_ref().expect("it runs").id().to_string();
        command("kill", &["-s", name, &pid]);
    }

    /// A file of the node's.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn log(&self) -> String {
        // None until the agent was started.
        fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    /// What kubelet's readiness probe says.
    pub(crate) fn readiness(&self) -> String {
        self.is_ready().1
    }

    /// Whether that probe succeeds, and what it says.
    pub(crate) fn is_ready(&self) -> (bool, String) {
        let mut command = Command::new(program());
        let output =
            command.args(["health", "ready", "--health-socket"]).arg(self.file("health.sock")).output();
        let output = output.expect("run the agent's program");
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        (output.status.success(), said.concat())
    }

    /// The API as the agent sees it.
    pub(crate) fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    pub(crate) fn ip(&self, words: &str) -> String {
        let words: Vec<&str> = ["-n", &self.namespace].into_iter().chain(words.split_whitespace()).collect();
        command("ip", &words)
    }

    /// An administrator's way to the API from here.
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// A program on this node.
    pub(crate) fn inside(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace)).arg("--").arg(program);
        command
    }

    /// What the plugin answers, called by a runtime of this node for an attachment to `octbr` without addresses; null if it has
    /// nothing to say.
    pub(crate) fn plugin(&self, verb: &str, container: &str, namespace: &str) -> Value {
        let conf = json!({
            "cniVersion": "1.1.0", "name": "octavia", "type": "octavia-bridge", "bridge": "octbr", "dataDir": self.file("state"),
        });
        let mut command = self.inside(&program().with_file_name("octavia-bridge"));
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_PATH", "/nowhere")
            .env("OCTAVIA_BRIDGE_DIRECTORIES", "/run");
        if verb == "ADD" {
            command.env("CNI_CONTAINERID", container).env("CNI_IFNAME", "net1").env("CNI_NETNS", namespace);
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start the plugin");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(conf.to_string().as_bytes()).expect("write the configuration");
        drop(stdin);
        let output = child.wait_with_output().expect("wait for the plugin");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// A link as `ip` describes it.
    pub(crate) fn link(&self, name: &str) -> Option<Value> {
        let words = ["-n", &self.namespace, "-j", "-d", "link", "show", "dev", name];
        let output = Command::new("ip").args(words).output().expect("run ip");
        let links: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
        links.into_iter().next()
    }

    /// Waits until a link is there, and as `so` says.
    #[track_caller]
    pub(crate) fn wait_link(&self, name: &str, so: impl Fn(&Value) -> bool) -> Value {
        let link = until(name, || self.link(name), |link| link.as_ref().is_some_and(&so));
        link.expect("just seen")
    }

    /// Sets or, with null, takes away a label.
    pub(crate) fn set_label(&self, key: &str, value: &Value) {
        let patch = json!({"metadata": {"labels": {key: value}}});
        self.admin.call("PATCH", &format!("/api/v1/nodes/{}", self.name), Some(&patch)).expect(200);
    }

    /// The node is no more; what it owned is collected, as the controllers do it that this cluster lacks.
    pub(crate) fn vanish(&self, enactments: &[String]) {
        self.kill();
        self.admin.delete(&format!("/api/v1/nodes/{}", self.name));
        for policy in enactments {
            self.admin.delete(&format!("{ENACTMENTS}/{}.{policy}", self.name));
        }
    }
}

impl Drop for Node {
    #[expect(clippy::print_stderr, reason = "what the agent said belongs to the failure")]
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("log of {}:\n{}", self.name, self.log());
        }
        self.kill();
    }
}

/// A bridge over `enp6s0`, as the seed's policy has it over a VLAN.
pub(crate) fn octbr(mtu: u32) -> Value {
    json!([{
        "name": "octbr", "description": "Configuring bridge octbr", "type": "linux-bridge", "state": "up", "mtu": mtu,
        "bridge": {"options": {"stp": {"enabled": false}}, "port": [{"name": "enp6s0"}]},
    }])
}

/// A bridge over nothing.
pub(crate) fn bridge(name: &str) -> Value {
    json!({"name": name, "type": "linux-bridge", "state": "up", "bridge": {"port": []}})
}

/// The message of the condition that is true.
pub(crate) fn message(object: &Value) -> Option<String> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    let told = conditions.iter().find(|condition| condition["status"] == "True")?;
    Some(text(&told["message"]))
}

/// Type, status, reason and message of each condition.
pub(crate) fn conditions(object: &Value) -> Vec<[String; 4]> {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let row = |one: &Value| ["type", "status", "reason", "message"].map(|key| text(&one[key]));
    conditions.into_iter().flatten().map(row).collect()
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Waits until what is `seen` is `so`.
#[track_caller]
pub(crate) fn until<T: std::fmt::Debug>(what: &str, seen: impl Fn() -> T, so: impl Fn(&T) -> bool) -> T {
    let started = Instant::now();
    loop {
        let now = seen();
        if so(&now) {
            return now;
        }
        assert!(started.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}\n{now:#?}");
        thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn command(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output().expect("run a program");
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The agent: what `OCTAVIA_BRIDGE_AGENT_BIN` names, or else what was built beside this test,
/// `target/<profile>/deps/<test>` → `target/<profile>/octavia-bridge-agent`.
pub(crate) fn program() -> PathBuf {
    let beside = || {
        let test = env::current_exe().expect("path of the test binary");
        test.ancestors().nth(2).expect("folder of the build profile").join("octavia-bridge-agent")
    };
    let program = env::var_os("OCTAVIA_BRIDGE_AGENT_BIN").map_or_else(beside, PathBuf::from);
    assert!(
        program.is_file(),
        "{} does not exist: use scripts/test-cluster, or name it in OCTAVIA_BRIDGE_AGENT_BIN",
        program.display()
    );
    program
}
