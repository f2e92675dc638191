//! An Open vSwitch with its ovn-controller: in an Open vSwitch pod, or on a compute node.

use octavia_bridge_tests::changes::until;
use octavia_bridge_tests::{Namespace, Node};

use crate::programs::{Daemon, PATIENCE, Programs};
use crate::topology::{TUNNELS, plug};

/// The socket of the chassis' database.
const SOCKET: &str = "db.sock";
/// The chassis' end of its cable to the network of the tunnels.
const TUNNEL: &str = "tenant";

/// A chassis. The database outlives the Open vSwitch pod, as the hostPath of the operator's does.
#[derive(Debug)]
pub(crate) struct Chassis {
    pub(crate) name: String,
    programs: Programs,
    tunnel_address: String,
    _database: Daemon,
    switch: Option<Daemon>,
    controller: Option<Daemon>,
}

impl Chassis {
    /// A database that says where the southbound one is. The number tells the chassis' addresses apart.
    pub(crate) fn new(programs: Programs, name: &str, number: usize, remote: &str) -> Self {
        let database = programs.serve(SOCKET, &[("conf.db", "openvswitch/vswitch")]);
        let tunnel_address = format!("10.9.0.{number}");
        let chassis = Self {
            name: name.to_owned(),
            programs,
            tunnel_address,
            _database: database,
            switch: None,
            controller: None,
        };
        chassis.vsctl(&["--no-wait", "init"]);
        let mut words =
            vec!["--no-wait".to_owned(), "set".to_owned(), "Open_vSwitch".to_owned(), ".".to_owned()];
        for (key, value) in [
            ("system-id", name),
            ("hostname", name),
            ("ovn-remote", &format!("\"{remote}\"")),
            ("ovn-encap-type", "geneve"),
            ("ovn-encap-ip", &chassis.tunnel_address),
            // The kernel need not have a datapath.
            ("ovn-bridge-datapath-type", "netdev"),
        ] {
            words.push(format!("external_ids:{key}={value}"));
        }
        chassis.vsctl(&words.iter().map(String::as_str).collect::<Vec<_>>());
        chassis
    }

    /// Runs `ovs-vsctl`.
    fn vsctl(&self, words: &[&str]) -> String {
        self.programs.ask("ovs-vsctl", SOCKET, words)
    }

    /// Starts Open vSwitch in a namespace that has a cable to the network of the tunnels, and ovn-controller beside it: that one
    /// needs no network, and lives on when the namespace ends.
    pub(crate) fn start(&mut self, place: &Namespace, switch: &Node) {
        plug(switch, TUNNELS, &self.name, (place, TUNNEL));
        place.ip("link set lo up");
        let database = format!("unix:{}", self.programs.file(SOCKET));
        self.switch =
            Some(self.programs.start(Some(place), "ovs-vswitchd", &[&database, "--disable-system"]));
        // In userspace the tunnels' address has to be on a bridge.
        self.add_bridge("br-phy", TUNNEL);
        let integration = ["--", "set", "bridge", "br-int", "datapath_type=netdev", "fail_mode=secure"];
        self.vsctl(&[&["--may-exist", "add-br", "br-int"], &integration[..]].concat());
        // A database that has the bridge already gives ovs-vsctl nothing to wait for.
        until(PATIENCE, "Open vSwitch makes br-phy", || place.link("br-phy").is_some());
        place.ip(&format!("addr add {}/24 dev br-phy", self.tunnel_address));
        place.ip("link set br-phy up");
        if self.controller.is_none() {
            self.controller = Some(self.programs.start(None, "ovn-controller", &[&database]));
        }
    }

    /// Ends Open vSwitch. To be called before its namespace ends, whose cable goes then.
    pub(crate) fn stop(&mut self) {
        self.switch = None;
    }

    /// Waits until the cable of an ended namespace is gone.
    pub(crate) fn wait_until_unplugged(&self, switch: &Node) {
        until(PATIENCE, "the kernel takes the cable away", || switch.link(&self.name).is_none());
    }

    /// The operator's job: br-octavia with the pod's interface, as the physical network `octavia`.
    pub(crate) fn map_provider(&self) {
        self.add_bridge("br-octavia", "octavia");
        self.vsctl(&["set", "Open_vSwitch", ".", "external_ids:ovn-bridge-mappings=octavia:br-octavia"]);
    }

    /// Adds a bridge in userspace with a port, unless the database has them.
    fn add_bridge(&self, bridge: &str, port: &str) {
        let datapath = ["--", "set", "bridge", bridge, "datapath_type=netdev"];
        self.vsctl(&[&["--may-exist", "add-br", bridge], &datapath[..]].concat());
        self.vsctl(&["--may-exist", "add-port", bridge, port]);
    }

    /// Plugs a port of a logical switch.
    pub(crate) fn plug(&self, link: &str, port: &str) {
        let port = format!("external_ids:iface-id={port}");
        self.vsctl(&["add-port", "br-int", link, "--", "set", "interface", link, &port]);
    }
}
