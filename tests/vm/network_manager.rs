//! NetworkManager on the same node: it manages the trunk's end, and the agent the links above, without disturbing each other.

mod nmstate;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use octavia_bridge_tests::changes::until;
use octavia_bridge_tests::traffic::{Echo, expect_answer};
use octavia_bridge_tests::{Lab, Node, Stream, conf};

use crate::nodes::{PATIENCE, POLICY, attach, report, two_kept_nodes};

/// NetworkManager's start, of which an emulated processor makes 5 s and more.
const START: Duration = Duration::from_secs(60);

/// NetworkManager and its bus, with separate files: Debian's, unpacked in a directory and not installed.
struct NetworkManager {
    node: Node,
    /// The directory of the unpacked programs.
    files: PathBuf,
    libraries: PathBuf,
    folder: PathBuf,
    bus: Child,
    process: Option<Child>,
}

impl NetworkManager {
    /// With a bus, not started yet.
    fn on(node: &Node) -> Self {
        let files = std::env::var("OCTAVIA_BRIDGE_NETWORK_MANAGER");
        let files = PathBuf::from(files.expect("OCTAVIA_BRIDGE_NETWORK_MANAGER names the folder it is in"));
        let in_lib = fs::read_dir(files.join("usr/lib")).expect("list the libraries' folder");
        let libraries = in_lib.map(|entry| entry.expect("list the libraries' folder").path());
        let libraries = libraries.into_iter().find(|path| path.to_string_lossy().ends_with("-linux-gnu"));
        let folder = node.disk().join("network-manager");
        for name in ["connections", "conf.d"] {
            fs::create_dir_all(folder.join(name)).expect("create NetworkManager's folders");
        }
        for name in ["/run/NetworkManager", "/var/lib/NetworkManager"] {
            fs::create_dir_all(name).expect("create NetworkManager's own folders, on the sandbox's tmpfs");
        }
        let socket = folder.join("bus");
        let bus_conf = format!(
            "<busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\n\
             <policy context=\"default\"><allow send_destination=\"*\" eavesdrop=\"true\"/>\
             <allow eavesdrop=\"true\"/><allow own=\"*\"/></policy></busconfig>\n",
            socket.display()
        );
        fs::write(folder.join("bus.conf"), bus_conf).expect("configure the bus");
        // Debian's rules for udev (85-nm-unmanaged.rules) say the same of veths; there is no udev here. The end of the
        // trunk stands for a NIC.
        let conf = format!(
            "[main]\nplugins=keyfile\nauth-polkit=false\ndhcp=internal\nrc-manager=unmanaged\ndns=none\n\
             [keyfile]\npath={}\n\
             [device-veth]\nmatch-device=driver:veth,except:interface-name:enp6s0\nmanaged=0\n",
            folder.join("connections").display()
        );
        fs::write(folder.join("NetworkManager.conf"), conf).expect("configure NetworkManager");
        // Where all are installed, there is none.
        let libraries = libraries.unwrap_or_else(|| files.join("usr/lib"));
        let mut bus = program(&libraries, &files.join("usr/bin/dbus-daemon"));
        bus.arg("--nofork").arg("--config-file").arg(folder.join("bus.conf"));
        let bus = node.spawn(bus.stdin(Stdio::null()));
        until(PATIENCE, "the bus listens", || socket.exists());
        Self { node: node.clone(), files, libraries, folder, bus, process: None }
    }

    /// Where parts of its configuration are.
    fn parts(&self) -> PathBuf {
        self.folder.join("conf.d")
    }

    fn command(&self, program_name: &str) -> Command {
        let mut command = program(&self.libraries, &self.files.join(program_name));
        command.env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", self.folder.join("bus").display()));
        command
    }

    /// Starts it, and returns when it manages the trunk.
    fn start(&mut self) {
        let start = self.command("usr/sbin/NetworkManager");
        // With a read-only /sys NetworkManager does not wait for udev. sysfs shows the namespace in which it is mounted.
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", "mount -t sysfs -o ro sysfs /sys && exec \"$@\"", "sh"]);
        command.arg(start.get_program()).arg("--no-daemon");
        for (option, name) in [
            ("--config", "NetworkManager.conf"),
            ("--config-dir", "conf.d"),
            ("--system-config-dir", "none"),
            ("--intern-config", "intern.conf"),
            ("--state-file", "state"),
            ("--pid-file", "pid"),
        ] {
            command.arg(option).arg(self.folder.join(name));
        }
        for (key, value) in start.get_envs() {
            command.env(key, value.unwrap_or_default());
        }
        let log = File::create(self.folder.join("log")).expect("create NetworkManager's log");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.process = Some(self.node.spawn(&mut command));
        // It says itself that its start is complete only when it has given up asking the trunk for an address.
        until(START, "NetworkManager has a connection for the trunk", || {
            let (_running, said) = self.try_cli("--fields DEVICE,STATE device");
            said.contains("enp6s0:connect") && said.contains("octbr:")
        });
    }

    /// Ends it, and returns when it has.
    fn stop(&mut self, signal: Signal) {
        let mut process = self.process.take().expect("it runs");
        kill(Pid::from_raw(process.id().try_into().expect("a process id")), signal).expect("send a signal");
        process.wait().expect("wait for NetworkManager");
    }

    /// Runs nmcli with these words and returns whether it succeeded, and what it said.
    fn try_cli(&self, words: &str) -> (bool, String) {
        let mut command = self.command("usr/bin/nmcli");
        let output = self.node.output(command.args(["--terse", "--wait", "20"]).args(words.split(' ')));
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        (output.status.success(), said.concat())
    }

    /// Runs nmcli, which has to succeed.
    #[track_caller]
    fn cli(&self, words: &str) -> String {
        let (done, said) = self.try_cli(words);
        assert!(done, "nmcli {words}: {said}");
        said
    }

    /// The device's state in nmcli's words.
    #[track_caller]
    fn state(&self, link: &str) -> String {
        let devices = self.cli("--fields DEVICE,STATE device");
        let line = devices.lines().find_map(|line| line.strip_prefix(&format!("{link}:")).map(str::to_owned));
        line.unwrap_or_else(|| panic!("{link} is not among {devices}"))
    }
}

impl Drop for NetworkManager {
    fn drop(&mut self) {
        for process in self.process.iter_mut().chain([&mut self.bus]) {
            // It may have ended already.
            process.kill().unwrap_or_default();
            let _status = process.wait();
        }
    }
}

fn program(libraries: &Path, path: &Path) -> Command {
    let mut command = Command::new(path);
    command.env("LD_LIBRARY_PATH", libraries).env("LC_ALL", "C");
    command
}

/// Everything about the links that the agent and the plugin made; index, master and addresses with it.
fn ours(node: &Node) -> Vec<String> {
    let links = node.links();
    let ours = links.iter().filter(|link| !["lo", "enp6s0"].contains(&link.name()));
    ours.map(|link| {
        format!(
            "{} {} {} up={} mtu={} mac={} master={:?} {:?}",
            link.index(),
            link.name(),
            link.kind(),
            link.is_up(),
            link.mtu(),
            link.mac(),
            link.master(),
            link.addresses()
        )
    })
    .collect()
}

#[test]
fn network_manager_may_start_reload_reapply_and_stop_and_leaves_links_and_packets_alone() {
    let lab = Lab::new();
    let [node, other] = two_kept_nodes(&lab);
    let (worker, here) = attach(&node, "worker", &conf::octavia());
    let (manager, there) = attach(&other, "healthmanager", &conf::octavia());
    let _echoes = [Echo::start(&manager, there.ip()), Echo::start(&worker, here.ip())];
    expect_answer(&worker, there.ip(), PATIENCE);
    expect_answer(&manager, here.ip(), PATIENCE);
    let before = ours(&node);
    let mut nm = NetworkManager::on(&node);

    let streams = [Stream::start(&worker, &manager, there.ip()), Stream::start(&manager, &worker, here.ip())];
    nm.start();
    nm.cli("connection reload");
    nm.cli("general reload");
    for link in ["enp6s0.24", "octbr"] {
        // Refused for a device without a profile of NetworkManager's; what counts is that nothing happens to it.
        let (_done, _said) = nm.try_cli(&format!("device reapply {link}"));
    }
    nm.cli(
        "connection add type ethernet ifname enp6s0 con-name trunk ipv4.method manual ipv4.addresses 10.0.0.1/24 \
         ipv6.method disabled",
    );
    nm.cli("connection up trunk");
    assert_eq!(node.expect_link("enp6s0").addresses(), ["10.0.0.1/24"], "the profile is not in force");
    nm.cli("device modify enp6s0 ipv4.addresses 10.0.0.2/24");
    nm.cli("device reapply enp6s0");
    assert_eq!(ours(&node), before);
    nm.stop(Signal::SIGTERM);
    nm.start();
    nm.stop(Signal::SIGKILL);
    for count in streams.map(Stream::end) {
        assert!(count.sent > 100 && count.lost.is_empty(), "{count:?}");
        report(&format!("vm: {} packets beside NetworkManager, none lost", count.sent));
    }
    assert_eq!(ours(&node), before);

    // Without the file that forbids it, NetworkManager switches IPv6 on for the VLAN. When networking is switched on again, it would
    // also manage octbr, and release every port.
    node.ok("apply", POLICY);
    node.ok(&format!("install --network-manager --network-manager-dir {}", nm.parts().display()), "");
    nm.start();
    for link in ["enp6s0.24", "octbr"] {
        assert_eq!(nm.state(link), "unmanaged", "{link}");
    }
    assert_eq!(ours(&node), before);
    // After a SIGKILL it may attribute the profile's settings to another program, and report "connected (externally)".
    until(START, "the trunk is connected", || nm.state("enp6s0").starts_with("connected"));
    nm.cli("networking off");
    until(START, "NetworkManager lets go of the trunk", || !nm.state("enp6s0").starts_with("connect"));
    nm.cli("networking on");
    until(START, "NetworkManager takes the trunk up", || nm.state("enp6s0").starts_with("connected"));
    expect_answer(&worker, there.ip(), PATIENCE);
    assert_eq!(ours(&node), before);
    assert_eq!(node.ok("plan --check", POLICY), "nothing to do\n");
}
