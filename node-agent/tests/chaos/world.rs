//! A node with NICs, pods' ports, and links of others that nobody may touch.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use octavia_bridge_ipam::host_end;
use serde_json::{Value, json};

use crate::chance::Chance;
use crate::others;
use crate::scene::{Daemon, Node};
use crate::wiring::{self, Wiring};

/// A good policy is in force by then, unless the agent says that it pauses because others undo what it does.
const SOON: Duration = Duration::from_secs(30);
/// With the longest pause.
const AFTER_A_FIGHT: Duration = Duration::from_secs(150);
/// The gateway of the default route; nothing listens there.
const ROUTER: ([u8; 4], u16) = ([10, 0, 0, 1], 9);
/// Room for the agent's files, and to be filled.
const DISK: &str = "size=512k";

pub(crate) struct World<'a> {
    pub(crate) node: &'a Node,
    daemon: Option<Daemon>,
    pub(crate) wiring: Wiring,
    /// The namespace of the node's router.
    router: String,
    /// Names of pods' ports.
    pub(crate) pods: Vec<String>,
    foreign: String,
    /// Seconds between two full looks. If there are few, damaged files are noticed soon. If there are many, the agent learns of
    /// changes only by events.
    interval: u64,
}

impl<'a> World<'a> {
    pub(crate) fn new(node: &'a Node, chance: &mut Chance) -> Self {
        fs::create_dir(node.path("state")).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(node.path("state"));
        assert!(mount.status().unwrap().success(), "mount needs the sandbox");
        for words in others::SURROUNDINGS {
            node.ip(words);
        }
        let router = format!("router-{}", node.folder.path().file_name().unwrap().display());
        for words in [
            format!("netns add {router}"),
            format!("link set router0 netns {router}"),
            format!("-n {router} link set router0 up"),
            format!("-n {router} addr add 10.0.0.1/24 dev router0"),
        ] {
            node.ip(&words);
        }
        let tagged = chance.one_in(2) && node.kernel_makes("link enp6s0 name probe type vlan id 4000");
        let mut world = Self {
            node,
            daemon: None,
            wiring: Wiring { tagged, way_out: chance.one_in(3) },
            router,
            pods: Vec::new(),
            foreign: String::new(),
            interval: *chance.of(&[2, 60]),
        };
        world.foreign = world.of_others();
        world.new_policy(chance);
        world.start();
        for number in 0..3 {
            world.pods.push(world.pod(number));
        }
        world
    }

    /// A complete attachment whose port has yet to get into its bridge.
    fn pod(&self, number: u32) -> String {
        let (id, node) = (format!("cid{number}"), self.node);
        let (name, alias) = (host_end::name(&id, "net1"), host_end::alias(&id, "net1", None));
        node.ip(&format!("link add {name} type veth peer name pod{number}"));
        let batch = node.path("batch");
        fs::write(&batch, format!("link set {name} alias \"{alias}\"\n")).unwrap();
        node.ip(&format!("-batch {}", batch.display()));
        let index = &node.link(&name).unwrap()["ifindex"];
        let intent = format!(
            r#"{{"version":1,"network":"octavia","containerId":"{id}","ifname":"net1","netns":null,"link":{{"bridge":"octbr","bridgeBefore":"up","bridgeMac":"","loopbackIpv6Off":false}},"addressing":"pool"}}"#
        );
        let outcome = format!(
            r#"{{"addresses":[],"routes":[],"hostLink":{index},"podLink":2,"hostMtu":1500,"mtu":1500,"leftDown":false}}"#
        );
        fs::create_dir_all(node.path("state/attachments")).unwrap();
        fs::write(node.path(&format!("state/attachments/{id}@net1.jsonl")), format!("{intent}\n{outcome}\n"))
            .unwrap();
        name
    }

    /// Writes another policy into the agent's file.
    pub(crate) fn new_policy(&self, chance: &mut Chance) {
        let draft = self.node.path("policy.tmp");
        fs::write(&draft, wiring::random(chance, self.wiring)).unwrap();
        fs::rename(draft, self.node.path("policy.yaml")).unwrap();
    }

    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(daemon) = &self.daemon {
            daemon.signal(signal);
        }
    }

    pub(crate) fn kill(&mut self) {
        self.daemon = None;
    }

    pub(crate) fn start(&mut self) {
        self.daemon = None;
        let policy = self.node.path("policy.yaml");
        let words = format!("run --health-bind none --interval {} -f {}", self.interval, policy.display());
        self.daemon = Some(self.node.start(&words));
    }

    /// Runs `ip`, which may fail: links come and go.
    pub(crate) fn try_ip(&self, words: &str) {
        let output = Command::new("ip").args(words.split_whitespace()).output().unwrap();
        assert!(output.status.code().is_some(), "ip {words} was killed");
    }

    /// Everything of others, which stays as it is.
    fn of_others(&self) -> String {
        let links = if self.wiring.way_out { &others::OWN[..2] } else { &others::OWN };
        others::belongings(links, |words| self.node.ip(words))
    }

    /// Ends what others hold, and waits until everything is as the policy says.
    pub(crate) fn quiet(&self) {
        drop(fs::remove_file(self.node.path("state/fill")));
        self.signal(Signal::SIGCONT);
        for link in self.wiring.nics().into_iter().chain(self.pods.iter().map(String::as_str)) {
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
        let started = Instant::now();
        loop {
            let Some(amiss) = self.amiss() else { return };
            let log = self.node.log();
            let fights = log.contains("time and again");
            let limit = if fights { AFTER_A_FIGHT } else { SOON };
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            assert!(
                started.elapsed() < limit,
                "not within {limit:?}: {amiss}\nthe agent's log:\n{}",
                tail.join("\n")
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn amiss(&self) -> Option<String> {
        let now = self.of_others();
        assert_eq!(now, self.foreign, "what belongs to others has changed");
        for pod in &self.pods {
            let link = self.node.link(pod).expect("nobody deletes pods");
            let up = link["flags"].as_array().is_some_and(|flags| flags.contains(&"UP".into()));
            if link["master"] != "octbr" || !up {
                return Some(format!("{pod} is not up in octbr: {link}"));
            }
        }
        let plan = self.node.run(&format!("plan --check -f {}", self.node.path("policy.yaml").display()), "");
        if plan.status != 0 {
            return Some(format!("plan: {}{}", plan.stdout, plan.stderr));
        }
        if self.interval < 60
            && let Some(amiss) = self.amiss_on_disk()
        {
            return Some(amiss);
        }
        // The router refuses the connection, and that is an answer.
        let answer = TcpStream::connect_timeout(&ROUTER.into(), Duration::from_secs(2));
        if let Err(e) = answer.as_ref()
            && e.kind() != ErrorKind::ConnectionRefused
        {
            return Some(format!("the router does not answer: {e}"));
        }
        let ways = self.node.ip("-4 route show default");
        if !ways.starts_with("default via 10.0.0.1 dev ") || ways.lines().count() != 1 {
            return Some(format!("default routes: {ways}"));
        }
        let ready = self.node.run("health ready", "");
        (ready.status != 0).then(|| format!("readiness: {}{}", ready.stdout, ready.stderr))
    }
}

impl World<'_> {
    /// What the plugin, and the next boot, would not know.
    fn amiss_on_disk(&self) -> Option<String> {
        let read = |name: &str| -> Value {
            let text = fs::read_to_string(self.node.path("state/agent").join(name)).unwrap_or_default();
            serde_json::from_str(&text).unwrap_or_default()
        };
        let policy = fs::read_to_string(self.node.path("policy.yaml")).unwrap();
        if read("desired.json")["texts"][0]["yaml"] != policy.as_str() {
            return Some("desired.json is not the policy in force".into());
        }
        let told = read("bridges.json")["bridges"]["octbr"] == json!([self.wiring.uplink()]);
        (!told).then(|| "bridges.json does not tell the plugin of octbr".into())
    }
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        self.signal(Signal::SIGCONT);
        self.kill();
        self.try_ip(&format!("netns del {}", self.router));
        let unmounted = Command::new("umount").arg("-l").arg(self.node.path("state")).status();
        drop(unmounted);
    }
}
