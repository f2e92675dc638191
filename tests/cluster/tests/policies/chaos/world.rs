//! A node of the cluster with NICs, pods' ports and links of others, and what has to be so when all is quiet.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use super::chance::Chance;
use super::others;
use super::policies::{NAMES, Policies};
use crate::scene::{ENACTMENTS, Node, Scene, command};

pub(super) const STATES: &str = "/apis/nmstate.io/v1beta1/nodenetworkstates";
/// The links are as they should be by then.
const SOON: Duration = Duration::from_secs(30);
/// And the API knows of it by then: after a request that hung, the pause that follows, and a question for permissions.
const TOLD: Duration = Duration::from_secs(60);
/// After the longest pause that the agent says it makes: for a policy that was not taken, and for links that others undo.
const AFTER_A_PAUSE: Duration = Duration::from_secs(100);
/// Room for the agent's files, and to be filled.
const DISK: &str = "size=512k";
const PODS: usize = 2;

pub(super) struct World<'a> {
    pub(super) scene: &'a Scene,
    pub(super) node: Node,
    pub(super) policies: Policies,
    /// Names of pods' ports.
    pub(super) pods: Vec<String>,
    /// The node's state was deleted by hand: it is written again with the next change, or minutes later.
    pub(super) state_is_deleted: bool,
    /// Requests may hang for ever.
    pub(super) hangs: bool,
    /// How much the agent had said at the last quiet point.
    heard: usize,
    namespaces: Vec<String>,
    /// Everything of others, as it was at first.
    pub(super) foreign: String,
    /// Seconds between two full looks. If there are many, the agent learns of changes only by events.
    interval: u64,
}

impl<'a> World<'a> {
    pub(super) fn new(scene: &'a Scene, chance: &mut Chance) -> Self {
        let interval = *chance.of(&[2, 60]);
        let node = scene.bare_node(0, &["--interval", &interval.to_string()]);
        let state = node.file("state");
        fs::create_dir(&state).expect("create the state directory");
        command("mount", &["-t", "tmpfs", "-o", DISK, "tmpfs", &state.display().to_string()]);
        for words in others::SURROUNDINGS {
            node.ip(words);
        }
        let foreign = others::belongings(&others::OWN, |words| node.ip(words));
        let mut world = Self {
            scene,
            node,
            policies: Policies::default(),
            pods: Vec::new(),
            state_is_deleted: false,
            hangs: false,
            heard: 0,
            namespaces: Vec::new(),
            foreign,
            interval,
        };
        world.policies.begin(scene, chance);
        world.node.start();
        world.quiet();
        for number in 0..PODS {
            world.attach(number);
        }
        world
    }

    fn attach(&mut self, number: usize) {
        let namespace = format!("pod-{number}-of-{}", self.node.name);
        command("ip", &["netns", "add", &namespace]);
        let path = format!("/run/netns/{namespace}");
        self.namespaces.push(namespace);
        let answer = self.node.plugin("ADD", &format!("cid-{number}-{}", self.node.name), &path);
        let interfaces = answer["interfaces"].as_array().cloned().unwrap_or_default();
        let port = interfaces.iter().find(|one| one.get("sandbox").is_none() && one["name"] != "octbr");
        let port = port.and_then(|port| port["name"].as_str());
        self.pods.push(port.unwrap_or_else(|| panic!("no port of the host's in {answer}")).to_owned());
    }

    pub(super) fn looks_often(&self) -> bool {
        self.interval < 60
    }

    /// Runs `ip`, which may fail: links come and go.
    pub(super) fn try_ip(&self, words: &str) {
        let output =
            self.node.inside(Path::new("ip")).args(words.split_whitespace()).output().expect("run ip");
        assert!(output.status.code().is_some(), "ip {words} was killed");
    }

    /// Deletes what a node of this name owned that is not there any more, as the controllers do that this cluster lacks.
    pub(super) fn collect(&self) {
        let node = self.scene.admin.call("GET", &format!("/api/v1/nodes/{}", self.node.name), None);
        let mut paths = vec![format!("{STATES}/{}", self.node.name)];
        paths
            .extend(NAMES.map(|name| format!("{ENACTMENTS}/{}.{}", self.node.name, self.scene.called(name))));
        for path in paths {
            let object = self.scene.admin.call("GET", &path, None).body;
            let owner = &object["metadata"]["ownerReferences"][0]["uid"];
            if owner.is_string() && *owner != node.body["metadata"]["uid"] {
                let this_one = json!({"preconditions": {"uid": object["metadata"]["uid"]}});
                // Whether it is gone already or not.
                self.scene.admin.call("DELETE", &path, Some(&this_one));
            }
        }
    }

    /// Ends what others hold, and waits until everything is as the policies say and is told.
    pub(super) fn quiet(&mut self) {
        self.release();
        self.collect();
        let proxy = self.node.proxy();
        proxy.clear_rules();
        proxy.latency(Duration::ZERO);
        if std::mem::take(&mut self.hangs) {
            proxy.down();
        }
        proxy.up();
        self.wait(SOON, Self::undone);
        self.wait(TOLD, |world| world.undone().or_else(|| world.untold()));
        let in_force = self.in_force();
        self.policies.settle(&in_force);
        self.heard = self.node.log().len();
    }

    /// The same without the API: what was in force at the last quiet point still is.
    pub(super) fn quiet_without_the_api(&self) {
        self.release();
        self.wait(SOON, Self::given_up);
    }

    /// Waits until the status of each policy is the sum over all nodes, which is this one.
    pub(super) fn sums(&self) {
        self.wait(TOLD, Self::unsummed);
    }

    fn release(&self) {
        drop(fs::remove_file(self.node.file("state/fill")));
        for link in others::NICS.iter().copied().chain(self.pods.iter().map(String::as_str)) {
            if self.node.link(link).is_some_and(|link| link["master"] == "foreign") {
                self.try_ip(&format!("link set {link} nomaster"));
            }
        }
        // A link of another kind in a bridge's place is a conflict for as long as it is there.
        for bridge in others::BRIDGES {
            if self.node.link(bridge).is_some_and(|link| link["linkinfo"]["info_kind"] != "bridge") {
                self.try_ip(&format!("link del {bridge}"));
            }
        }
    }

    fn wait(&self, soon: Duration, amiss: impl Fn(&Self) -> Option<String>) {
        let started = Instant::now();
        loop {
            let Some(amiss) = amiss(self) else { return };
            let log = self.node.log();
            let news = &log[self.heard..];
            let pauses = news.contains("time and again") || news.contains("is not in force");
            let limit = if pauses { AFTER_A_PAUSE } else { soon };
            assert!(started.elapsed() < limit, "not within {limit:?}: {amiss}\n{}", self.last_words(&log));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What the agent said last, and asked.
    fn last_words(&self, log: &str) -> String {
        let mut lines: Vec<String> = log.lines().map(str::to_owned).collect();
        lines.drain(..lines.len().saturating_sub(60));
        lines.push("the agent's requests:".into());
        let exchanges = self.node.proxy().exchanges();
        for one in &exchanges[exchanges.len().saturating_sub(60)..] {
            lines.push(format!("{} {} {:?}", one.method, one.path, one.status));
        }
        lines.join("\n")
    }
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        self.node.kill();
        let mut unmount = Command::new("umount");
        drop(unmount.arg("-l").arg(self.node.file("state")).status());
        for namespace in &self.namespaces {
            drop(Command::new("ip").args(["netns", "del", namespace]).status());
        }
        // The agents of later seeds list them, too.
        let mut paths =
            vec![format!("/api/v1/nodes/{}", self.node.name), format!("{STATES}/{}", self.node.name)];
        for name in NAMES {
            paths.push(self.scene.path(name));
            paths.push(format!("{ENACTMENTS}/{}.{}", self.node.name, self.scene.called(name)));
        }
        for path in paths {
            self.scene.admin.call("DELETE", &path, None);
        }
    }
}
