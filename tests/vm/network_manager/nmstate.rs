//! Links that NetworkManager made from nmstate's profiles become the agent's to keep, and the profiles go.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;
use octavia_bridge_tests::changes::until;
use octavia_bridge_tests::traffic::{Echo, expect_answer};
use octavia_bridge_tests::{Agent, Lab, Node, Stream, conf};

use super::{NetworkManager, START, ours};
use crate::nodes::{PATIENCE, POLICY, attach, report, two_nodes};

/// The profiles that nmstate 2.2 lets NetworkManager write for Octavia's policy, without irrelevant keys.
const PROFILES: [(&str, &str); 4] = [
    (
        "enp6s0",
        "[connection]\nid=enp6s0\nuuid=2e28a1a5-a678-43cf-847e-75fc95b77e01\ntype=ethernet\ninterface-name=enp6s0\n\
         [ipv4]\nmethod=disabled\n[ipv6]\nmethod=disabled\n",
    ),
    (
        "octbr",
        "[connection]\nid=octbr\nuuid=2e28a1a5-a678-43cf-847e-75fc95b77e02\ntype=bridge\nautoconnect-slaves=1\n\
         interface-name=octbr\n[ethernet]\nmtu=1500\n[bridge]\nstp=false\n\
         [ipv4]\nmethod=disabled\n[ipv6]\nmethod=disabled\n",
    ),
    (
        "enp6s0.24",
        "[connection]\nid=enp6s0.24\nuuid=2e28a1a5-a678-43cf-847e-75fc95b77e03\ntype=vlan\n\
         interface-name=enp6s0.24\nmaster=octbr\nslave-type=bridge\n[vlan]\nflags=1\nid=24\nparent=enp6s0\n",
    ),
    // Not Octavia's: to see what becomes of a link whose profile is deleted too early.
    (
        "spare",
        "[connection]\nid=spare\nuuid=2e28a1a5-a678-43cf-847e-75fc95b77e04\ntype=bridge\ninterface-name=spare\n\
         [bridge]\nstp=false\n[ipv4]\nmethod=disabled\n[ipv6]\nmethod=disabled\n",
    ),
];

impl NetworkManager {
    /// Writes the profiles to where it looks for them.
    fn write_profiles(&self) {
        for (name, text) in PROFILES {
            let file = self.folder.join(format!("connections/{name}.nmconnection"));
            fs::write(&file, text).expect("write a profile");
            // It does not read what others may.
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("close the profile");
        }
    }
}

/// Whether the bridge is there with its uplink, both up.
fn is_complete(node: &Node) -> bool {
    let links = node.links();
    let up = |name: &str| links.iter().find(|link| link.name() == name && link.is_up());
    up("octbr").is_some() && up("enp6s0.24").is_some_and(|vlan| vlan.master() == Some("octbr"))
}

#[test]
fn links_of_nmstate_s_profiles_are_taken_over_and_outlive_the_profiles() {
    let lab = Lab::new();
    let [node, other] = two_nodes(&lab);
    let (node, other) = (Agent::on(&node, "node1"), Agent::on(&other, "node2"));
    other.ok("apply", POLICY);
    let mut nm = NetworkManager::on(&node);
    nm.write_profiles();
    nm.start();
    let there_is = |name: &str| node.link_names().iter().any(|link| link == name);
    until(START, "NetworkManager has made the links", || is_complete(&node) && there_is("spare"));

    // A link of a profile goes with it, and what is attached to it would be cut off.
    nm.cli("connection delete spare");
    until(START, "the link is gone", || !there_is("spare"));

    let (worker, here) = attach(&node, "worker", &conf::octavia());
    let (manager, there) = attach(&other, "healthmanager", &conf::octavia());
    let _echo = Echo::start(&manager, there.ip());
    expect_answer(&worker, there.ip(), PATIENCE);
    let streams = [Stream::start(&worker, &manager, there.ip()), Stream::start(&manager, &worker, here.ip())];
    let before = ours(&node);

    // As long as kubernetes-nmstate's handler runs.
    let lock = fs::File::create(node.path("no-rival")).expect("create the handler's lock");
    lock.try_lock().expect("lock it");
    node.fails(1, "apply", POLICY, &["kubernetes-nmstate is running on this node"]);
    drop(lock);
    assert_eq!(node.ok("apply", POLICY), "nothing to do\n");
    assert_eq!(ours(&node), before, "the agent has changed something");

    node.ok(&format!("install --network-manager --network-manager-dir {}", nm.parts().display()), "");
    nm.stop(Signal::SIGTERM);
    nm.start();
    for link in ["enp6s0.24", "octbr"] {
        assert_eq!(nm.state(link), "unmanaged", "{link}");
    }
    nm.cli("connection delete enp6s0.24 octbr");
    // NetworkManager works on links in the order of its commands; after this one, the earlier ones are done.
    assert_eq!(nm.state("octbr"), "unmanaged");
    // It says of both that they do not get their description, since it did not make them.
    assert!(node.ok("plan --check", POLICY).starts_with("nothing to do\n"));
    for count in streams.map(Stream::end) {
        assert!(count.sent > 100 && count.lost.is_empty(), "{count:?}");
        report(&format!("vm: {} packets while links pass from nmstate to the agent, none lost", count.sent));
    }
    assert_eq!(ours(&node), before);
}
