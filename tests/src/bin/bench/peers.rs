//! The programs that create the same VLAN interfaces and bridges: the agent, nmstate's library, and `ip -batch`.
//!
//! Each has a separate, equal node, so that none finds the work of another.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use octavia_bridge_tests::statistics::Sample;
use octavia_bridge_tests::{Agent, Lab, Namespace, Node};
use serde_json::{Value, json};

use crate::contestant::timed;

/// Where the nodes are made.
pub(crate) struct Ground<'a> {
    lab: &'a Lab,
    disk: &'a Path,
    /// Whether this kernel makes VLAN interfaces.
    pub(crate) vlans: bool,
}

impl<'a> Ground<'a> {
    /// The agent's files are to be below `disk`.
    pub(crate) fn new(lab: &'a Lab, disk: &'a Path) -> Self {
        let node = lab.node("kernel");
        node.ip("link add nic type veth peer name wire");
        let words = ["link", "add", "link", "nic", "name", "v1", "type", "vlan", "id", "1"];
        let vlans = node.output(Command::new("ip").args(words)).status.success();
        Self { lab, disk, vlans }
    }
}

/// A node with so many uplinks `u1`, `u2` … Each is to carry a VLAN interface `v1` … that is a port of a bridge `b1` …
///
/// On a kernel without 8021q, veth ends of these names stand in for the VLAN interfaces; then they exist beforehand.
pub(crate) struct Scene {
    pub(crate) node: Agent,
    vlans: bool,
    uplinks: usize,
}

impl Scene {
    pub(crate) fn new(ground: &Ground<'_>, name: &str, uplinks: usize) -> Self {
        let (node, vlans) = (ground.lab.node(name), ground.vlans);
        let mut batch =
            String::from("link add nic type veth peer name wire\nlink set nic up\nlink set wire up\n");
        for number in (1..=uplinks).filter(|_| !vlans) {
            writeln!(batch, "link add v{number} type veth peer name w{number}\nlink set w{number} up")
                .expect("write to a string");
        }
        batch_in(&node, &batch);
        Self { node: Agent::with_files(&node, ground.disk.join(format!("agent-{name}"))), vlans, uplinks }
    }

    /// Our policy for the first `count`.
    pub(crate) fn policy(&self, count: usize) -> String {
        let mut interfaces = Vec::new();
        for number in self.numbers(count) {
            if self.vlans {
                interfaces.push(json!({
                    "name": format!("v{number}"), "type": "vlan", "state": "up",
                    "vlan": {"base-iface": "nic", "id": number},
                }));
            }
            interfaces.push(json!({
                "name": format!("b{number}"), "type": "linux-bridge", "state": "up", "mtu": 1500,
                "bridge": {"options": {"stp": {"enabled": false}}, "port": [{"name": format!("v{number}")}]},
            }));
        }
        json!({"interfaces": interfaces}).to_string()
    }

    /// The same for nmstate, less what its kernel mode cannot do: `mtu` and `stp`.
    pub(crate) fn for_nmstate(&self, count: usize) -> String {
        let mut state: Value = serde_json::from_str(&self.policy(count)).expect("our own text");
        for interface in state["interfaces"].as_array_mut().into_iter().flatten() {
            if let Some(interface) = interface.as_object_mut() {
                interface.shift_remove("mtu");
            }
            if let Some(bridge) = interface.get_mut("bridge").and_then(Value::as_object_mut) {
                bridge.shift_remove("options");
            }
        }
        state.to_string()
    }

    /// The same for `ip -batch`.
    pub(crate) fn for_ip(&self, count: usize) -> String {
        let mut batch = String::new();
        for number in self.numbers(count) {
            if self.vlans {
                writeln!(batch, "link add link nic name v{number} type vlan id {number}")
                    .expect("write to a string");
            }
            write!(
                batch,
                "link add b{number} address 02:00:00:00:00:01 mtu 1500 type bridge stp_state 0\n\
                 link set b{number} addrgenmode none alias octavia-bridge\nlink set b{number} up\n\
                 link set v{number} master b{number} up\n"
            )
            .expect("write to a string");
        }
        batch
    }

    fn numbers(&self, count: usize) -> std::ops::RangeInclusive<usize> {
        assert!(count <= self.uplinks, "{count} of {} uplinks", self.uplinks);
        1..=count
    }

    /// Deletes the links that any of the programs created; the stand-ins for NICs stay.
    pub(crate) fn clear(&self, count: usize) {
        // As one group: for each link that is deleted on its own, the kernel waits some milliseconds.
        let mut batch = String::new();
        for number in self.numbers(count) {
            writeln!(batch, "link set dev b{number} group 7").expect("write to a string");
            let undo = if self.vlans { "group 7" } else { "down" };
            writeln!(batch, "link set dev v{number} {undo}").expect("write to a string");
        }
        batch.push_str("link del group 7\n");
        batch_in(&self.node, &batch);
        // Writing the kept policy is a part of an apply, so it has to be new again.
        let kept = self.node.path("agent/desired.json");
        if kept.exists() {
            fs::remove_file(&kept).expect("forget the kept state");
        }
    }
}

/// The program that calls nmstate.
pub(crate) fn bench_peer() -> PathBuf {
    env::var_os("OCTAVIA_BRIDGE_BENCH_PEER")
        .expect("OCTAVIA_BRIDGE_BENCH_PEER names scripts/bench-peer")
        .into()
}

pub(crate) fn batch_in(node: &Node, batch: &str) {
    let file = node.disk().join("batch");
    fs::write(&file, batch).expect("write a batch for ip");
    let output = node.output(Command::new("ip").arg("-batch").arg(&file));
    assert!(output.status.success(), "ip -batch: {}", String::from_utf8_lossy(&output.stderr));
}

/// Who applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Ours,
    Nmstate,
    Ip,
}

impl Peer {
    /// The program that brings the first `count` about, with its input written to a file already.
    pub(crate) fn command(self, scene: &Scene, count: usize) -> Command {
        let node = &scene.node;
        match self {
            Self::Ours => {
                let file = node.file(&scene.policy(count));
                let mut command = node.command(&[], "apply");
                command.arg("-f").arg(file);
                command
            }
            Self::Nmstate => {
                let file = node.file(&scene.for_nmstate(count));
                let mut command = Command::new(bench_peer());
                command.arg(file);
                command
            }
            Self::Ip => {
                let mut command = Command::new("ip");
                command.arg("-batch").arg(node.file(&scene.for_ip(count)));
                command
            }
        }
    }

    /// Runs it to its end, and times it.
    pub(crate) fn apply(self, scene: &Scene, count: usize) -> Sample {
        let mut command = self.command(scene, count);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let namespace: &Namespace = &scene.node;
        // Inside, so that neither the thread nor entering the namespace is timed.
        namespace.run(|| {
            timed(|| {
                let status = command.status().unwrap_or_else(|e| panic!("start {command:?}: {e}"));
                assert!(status.success(), "{command:?} failed");
            })
        })
    }
}
