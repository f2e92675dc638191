//! Links that are ours under any name go; links and bridges that others made or came to rely on stay.

use octavia_bridge_tests::{Attached, Lab, Node, Pod, conf};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

/// A node with a bridge, and a pod attached to it.
fn attached_pod() -> (Node, Pod, Attached) {
    let node = Lab::new().node("node1");
    node.bridge_with_uplink();
    let pod = node.pod("worker");
    let attached = pod.add(&conf::octavia()).run().attached();
    (node, pod, attached)
}

/// Gives a link another name; the kernel renames only what is down.
fn rename(node: &Node, old: &str, new: &str) {
    node.ip(&format!("link set {old} down"));
    node.ip(&format!("link set {old} name {new}"));
    node.ip(&format!("link set {new} up"));
}

#[test]
fn a_host_end_that_was_renamed_goes_all_the_same() {
    for netns_known in [true, false] {
        let (node, pod, attached) = attached_pod();
        rename(&node, attached.host_link(), "renamed0");
        let del = pod.del(&conf::octavia());
        let del = if netns_known { del } else { del.without_env("CNI_NETNS") };
        del.run().silent_success();
        assert_eq!(pod.link_names(), [""; 0], "the pod still has its interface");
        assert_eq!(node.link_names(), ["octbr"]);
        assert!(node.allocations("172.23.0.0-24").is_empty());
    }
}

#[test]
fn a_link_that_took_the_name_of_a_renamed_host_end_stays() {
    let (node, pod, attached) = attached_pod();
    rename(&node, attached.host_link(), "renamed0");
    node.ip(&format!("link add {} type veth peer name other", attached.host_link()));
    pod.del(&conf::octavia()).run().silent_success();
    assert_eq!(pod.link_names(), [""; 0]);
    let mut expected = ["octbr", "other", attached.host_link()];
    expected.sort_unstable();
    assert_eq!(node.link_names(), expected);
}

/// Names are derived by a hash, so two attachments may have the same one. Creates such a link of another attachment: it
/// has the name of the pod's link, but another MAC and alias.
///
/// Returns its name and index.
fn somebody_elses_link(node: &Node, pod: &Pod) -> (String, u64) {
    let attached = pod.add(&conf::octavia()).run().attached();
    let name = attached.host_link();
    let alias = node.expect_link(name).alias().replace(pod.container_id(), "somebody-else");
    assert!(alias.contains("somebody-else"), "the alias does not name the container: {alias}");
    pod.del(&conf::octavia()).run().silent_success();
    node.ip(&format!("link add {name} address fe:00:00:00:00:07 type veth peer name other"));
    // Not by words: an alias has spaces.
    let labelled = node.output(Command::new("ip").args(["link", "set", name, "alias", &alias]));
    assert!(labelled.status.success(), "{labelled:?}");
    (name.to_owned(), node.expect_link(name).index())
}

#[test]
fn a_failed_creation_does_not_remove_the_link_that_was_in_its_way() {
    // Also where the bridge is made for it, and taken back.
    for with_bridge in [true, false] {
        let node = Lab::new().node("node1");
        node.bridge_with_uplink();
        let pod = node.pod("worker");
        let (name, index) = somebody_elses_link(&node, &pod);
        if !with_bridge {
            node.ip("link del octbr");
        }
        let before = node.snapshot(&[&pod]);
        pod.add(&conf::octavia()).run().any_error().says(&[&name]);
        node.snapshot(&[&pod]).assert_same_as(&before);
        assert_eq!(node.expect_link(&name).index(), index, "it was made anew");
    }
}

#[test]
fn a_del_without_an_add_does_not_remove_a_link_of_the_same_name() {
    let node = Lab::new().node("node1");
    let pod = node.pod("worker");
    let (name, index) = somebody_elses_link(&node, &pod);
    pod.del(&conf::octavia()).run().silent_success();
    assert_eq!(node.link(&name).map(|link| link.index()), Some(index));
}

/// How the bridge was before the ADD that is killed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Before {
    Absent,
    Down,
}

/// Runs an ADD that is killed at its nth message to the kernel, on a fresh node.
fn killed_at(nth: usize, before: Before) -> (Node, Pod) {
    let node = Lab::new().node("node1");
    if before == Before::Down {
        node.ip("link add octbr address 02:00:00:00:00:01 type bridge");
    }
    let pod = node.pod("killed");
    let inject = format!("inject=sendto,sendmsg:signal=KILL:when={nth}");
    let trace = ["-e", "trace=sendto,sendmsg", "-e", &inject];
    let strace = [&["/usr/bin/strace", "-f", "-qq", "-o", "/dev/null"], trace.as_slice()].concat();
    let outcome = pod.add(&conf::octavia()).under(&strace).run();
    assert_eq!(outcome.status.signal(), Some(9), "message {nth} was never sent: {outcome:#?}");
    (node, pod)
}

/// The message before which the bridge is up and the pair not yet there.
fn message_after_the_bridge(before: Before) -> usize {
    let reached = |nth: &usize| {
        let (node, _) = killed_at(*nth, before);
        node.link("octbr").is_some_and(|bridge| bridge.is_up())
    };
    (1..40).find(reached).expect("no message comes after the bridge is up")
}

#[test]
fn a_bridge_that_others_came_to_rely_on_stays_up() {
    type Rely = fn(&Node);
    let ways: [(&str, Rely); 4] = [
        ("an address of the node", |node| drop(node.ip("addr add 10.77.0.1/24 dev octbr"))),
        ("a link on top", |node| drop(node.ip("link add link octbr name mv0 type macvlan"))),
        // Replaces a virtual machine's tap, which only root may open on many machines: a port that is not a veth.
        ("a port of another kind", |node| {
            node.ip("link add below type veth peer name below-end");
            node.ip("link add link below name vm0 type macvlan mode passthru");
            node.ip("link set vm0 master octbr");
        }),
        ("somebody's veth", |node| {
            node.ip("link add theirs type veth peer name their-end");
            node.ip("link set theirs master octbr");
        }),
    ];
    for before in [Before::Absent, Before::Down] {
        let nth = message_after_the_bridge(before);
        for (way, rely) in &ways {
            let (node, pod) = killed_at(nth, before);
            rely(&node);
            let relied_upon = node.expect_link("octbr");
            pod.del(&conf::octavia()).run().silent_success();
            let now =
                node.link("octbr").unwrap_or_else(|| panic!("{way}: the bridge was removed ({before:?})"));
            assert!(now.is_up(), "{way}: the bridge was brought down ({before:?})");
            assert_eq!(
                (now.index(), now.addresses()),
                (relied_upon.index(), relied_upon.addresses()),
                "{way}"
            );
            assert!(node.allocations("172.23.0.0-24").is_empty(), "{way}");
        }
    }
}

#[test]
fn a_bridge_that_nobody_relies_on_is_as_before() {
    for before in [Before::Absent, Before::Down] {
        let (node, pod) = killed_at(message_after_the_bridge(before), before);
        pod.del(&conf::octavia()).run().silent_success();
        let left = node.link("octbr").map(|bridge| bridge.is_up());
        assert_eq!(left, (before == Before::Down).then_some(false), "{before:?}");
    }
}
