//! What the tests have in common: namespaces that live as long as a test, and short ways to say
//! "a bridge", "a pod's veth".

use std::future::Future;
use std::panic::resume_unwind;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use octavia_bridge_netlink::{Link, LinkChange, Namespace, Netlink, NewBridge, NewVeth, PortFlags, VethPeer};
use tokio::runtime::Builder;

/// Runs a test on a thread of its own inside a new, empty network namespace.
pub(crate) fn in_new_namespace<F: Future>(test: impl FnOnce() -> F + Send + 'static) {
    let inside = || {
        enter_new_namespace();
        Builder::new_current_thread().enable_all().build().unwrap().block_on(test());
    };
    thread::spawn(inside).join().unwrap_or_else(|panic| resume_unwind(panic));
}

/// Another empty namespace, as a runtime makes for a pod. It goes when the value does.
pub(crate) fn new_namespace() -> Namespace {
    let make = || {
        enter_new_namespace();
        Namespace::current().unwrap()
    };
    thread::spawn(make).join().unwrap()
}

/// The calling thread leaves the machine's namespace for good, so no test can touch that.
fn enter_new_namespace() {
    unshare(CloneFlags::CLONE_NEWNET)
        .expect("make a network namespace: run as root, or under unshare --user --map-root-user");
}

pub(crate) async fn bridge(netlink: &Netlink, name: &str) -> Link {
    let bridge = NewBridge { name: name.into(), up: true, link_local: true, ..NewBridge::default() };
    netlink.create_bridge(&bridge).await.unwrap();
    netlink.link(name).await.unwrap().unwrap()
}

/// The near end of a veth pair, up, with its peer `net1` in `pod`.
pub(crate) fn veth<'a>(name: &str, pod: &'a Namespace) -> NewVeth<'a> {
    NewVeth {
        name: name.into(),
        mac: None,
        mtu: None,
        master: None,
        alias: None,
        up: true,
        link_local: true,
        port: PortFlags::default(),
        peer: VethPeer { name: "net1".into(), mac: None, mtu: None, namespace: pod },
    }
}

/// A pair of links with carrier: `a` here and `net1` in the pod, both up. Returns both and a socket
/// in the pod.
pub(crate) async fn cable(netlink: &Netlink, pod: &Namespace) -> (Link, Netlink, Link) {
    netlink.create_veth(&veth("a", pod)).await.unwrap();
    let inside = Netlink::open_in(pod).await.unwrap();
    let far = inside.link("net1").await.unwrap().unwrap();
    inside.change_link(far.index, &up()).await.unwrap();
    let near = netlink.link("a").await.unwrap().unwrap();
    (near, inside, far)
}

pub(crate) fn up() -> LinkChange {
    LinkChange { up: Some(true), ..LinkChange::default() }
}
