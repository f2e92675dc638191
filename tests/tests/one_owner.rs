//! One address has one owner, also when disks are full, two sandboxes of a pod overlap, or an ADD fails.

use octavia_bridge_tests::{Call, Lab, Node, Pod, conf};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};

const POOL: &str = "172.23.0.0-24";

/// The pools are reached with links, and without; neither way may give an address twice.
const FACES: [&str; 2] = ["octavia-bridge", "octavia-ipam"];

/// What multus says of a pod, the same for each of its sandboxes.
const SAME_POD: &str = "IgnoreUnknown=1;K8S_POD_NAMESPACE=openstack;K8S_POD_NAME=octavia-worker-0";

/// Runs an ADD that must succeed and returns the address it gave.
fn address_of(add: &Call) -> String {
    let result = add.run().success();
    result["ips"][0]["address"].as_str().unwrap_or_else(|| panic!("no address in {result}")).to_owned()
}

/// Who holds what: offset in the pool and container id, in the order of the offsets.
fn holders(node: &Node) -> Vec<(String, String)> {
    let id = |holder: &Value| holder["id"].as_str().unwrap_or_default().to_owned();
    let mut held: Vec<_> = node.allocations(POOL).iter().map(|(at, who)| (at.clone(), id(who))).collect();
    held.sort_unstable();
    held
}

fn held_by(pairs: &[(&str, &Pod)]) -> Vec<(String, String)> {
    pairs.iter().map(|(at, pod)| ((*at).to_owned(), pod.container_id().to_owned())).collect()
}

/// Takes what is left of a small run directory, page by page.
fn fill(node: &Node) -> PathBuf {
    let filler = node.run_dir().join("filler");
    let mut size = 4096;
    while fs::write(&filler, vec![0; size]).is_ok() {
        size += 4096;
    }
    filler
}

#[test]
fn an_address_taken_again_is_not_released_by_an_older_debt() {
    for face in FACES {
        let node = Lab::new().node_with_small_memory("node1", 64 * 1024);
        let pod = node.pod("worker");
        address_of(&pod.add(&conf::octavia()).plugin(face));
        let filler = fill(&node);
        // The pool's document cannot be written, so the release has to wait.
        pod.del(&conf::octavia()).plugin(face).run().silent_success();
        assert_eq!(holders(&node), held_by(&[("30", &pod)]), "{face}: the directory was not full");
        // The same container again: its entry stands, nothing has to be written to have it.
        let again = address_of(&pod.add(&conf::octavia()).plugin(face));
        assert_eq!(again, "172.23.0.30/24", "{face}");

        // There is room now, and the next call does the delayed release.
        fs::remove_file(filler).unwrap();
        let others = ["next", "after"].map(|name| node.pod(name));
        for other in &others {
            let address = address_of(&other.add(&conf::octavia()).plugin(face));
            assert_ne!(address, again, "{face}: a live pod's address was given away");
        }
        let all = [("30", &pod), ("31", &others[0]), ("32", &others[1])];
        assert_eq!(holders(&node), held_by(&all), "{face}");
        for pod in [&pod, &others[0], &others[1]] {
            pod.del(&conf::octavia()).plugin(face).run().silent_success();
        }
        assert_eq!(holders(&node), [], "{face}");
    }
}

#[test]
fn two_live_sandboxes_of_one_pod_have_two_addresses() {
    for face in FACES {
        let node = Lab::new().node("node1");
        let [old, new] = ["old", "new"].map(|name| node.pod(name));
        let first = address_of(&old.add(&conf::octavia()).plugin(face).args(SAME_POD));
        let second = address_of(&new.add(&conf::octavia()).plugin(face).args(SAME_POD));
        assert_ne!(first, second, "{face}: two live sandboxes share an address");
        assert_eq!(holders(&node), held_by(&[("30", &old), ("31", &new)]), "{face}");
        // The end of one takes nothing from the other.
        new.del(&conf::octavia()).plugin(face).args(SAME_POD).run().silent_success();
        assert_eq!(holders(&node), held_by(&[("30", &old)]), "{face}");
        let stranger = node.pod("stranger");
        assert_eq!(address_of(&stranger.add(&conf::octavia()).plugin(face)), second, "{face}");
    }
}

#[test]
fn the_links_of_two_live_sandboxes_keep_their_own_address() {
    let node = Lab::new().node("node1");
    let [old, new] = ["old", "new"].map(|name| node.pod(name));
    let first = old.add(&conf::octavia()).args(SAME_POD).run().attached();
    let second = new.add(&conf::octavia()).args(SAME_POD).run().attached();
    // Two ends with one MAC would make the bridge move it from port to port.
    assert_ne!(first.pod_mac(), second.pod_mac());
    assert_eq!(old.expect_link("net1").addresses(), ["172.23.0.30/24"]);
    assert_eq!(new.expect_link("net1").addresses(), ["172.23.0.31/24"]);
    old.del(&conf::octavia()).args(SAME_POD).run().silent_success();
    assert_eq!(new.expect_link("net1").addresses(), ["172.23.0.31/24"]);
    assert_eq!(holders(&node), held_by(&[("31", &new)]));
}

#[test]
fn a_sandbox_after_one_that_ended_without_del_has_its_address() {
    for face in FACES {
        let node = Lab::new().node("node1");
        let [old, new] = ["old", "new"].map(|name| node.pod(name));
        let first = address_of(&old.add(&conf::octavia()).plugin(face).args(SAME_POD));
        old.end_without_del();
        let second = address_of(&new.add(&conf::octavia()).plugin(face).args(SAME_POD));
        assert_eq!(second, first, "{face}");
        assert_eq!(holders(&node), held_by(&[("30", &new)]), "{face}");
        // The old one's DEL comes after all.
        old.del(&conf::octavia()).plugin(face).args(SAME_POD).run().silent_success();
        assert_eq!(holders(&node), held_by(&[("30", &new)]), "{face}");
    }
}

#[test]
fn a_new_sandbox_that_fails_takes_nothing_from_the_old_one() {
    // The last step of this ADD fails: a gateway whose scope is not wider than the route's.
    let refused = json!({"dst": "172.25.0.0/16", "gw": "172.23.0.150", "scope": 254});
    let failing = conf::octavia_with(json!({"ipam": {"routes": [refused]}}));
    let node = Lab::new().node("node1");
    let [old, new, stranger] = ["old", "new", "stranger"].map(|name| node.pod(name));
    old.add(&conf::octavia()).args(SAME_POD).run().attached();
    let before = node.snapshot(&[&old, &new]);
    new.add(&failing).args(SAME_POD).run().error(100).says(&["172.25.0.0/16"]);
    node.snapshot(&[&old, &new]).assert_same_as(&before);
    assert_eq!(stranger.add(&conf::octavia()).run().attached().address(), "172.23.0.31/24");
    assert_eq!(holders(&node), held_by(&[("30", &old), ("31", &stranger)]));
}

#[test]
fn a_new_sandbox_that_asks_for_another_address_frees_nothing_of_the_old_one() {
    let node = Lab::new().node("node1");
    let [old, new, stranger] = ["old", "new", "stranger"].map(|name| node.pod(name));
    old.add(&conf::octavia()).args(SAME_POD).run().attached();
    let asking = new.add(&conf::octavia()).args(&format!("{SAME_POD};IP=172.23.0.60"));
    assert_eq!(asking.run().attached().address(), "172.23.0.60/24");
    assert_eq!(holders(&node), held_by(&[("30", &old), ("60", &new)]));
    assert_eq!(stranger.add(&conf::octavia()).run().attached().address(), "172.23.0.31/24");
    assert_eq!(old.expect_link("net1").addresses(), ["172.23.0.30/24"]);
}

/// A configuration that asks for the address of `holder`, which it cannot have.
fn asking_for_the_address_of(holder: &Pod) -> Value {
    let held = address_of(&holder.add(&conf::octavia()));
    conf::octavia_with(json!({"runtimeConfig": {"ips": [held]}}))
}

#[test]
fn a_failing_add_without_links_keeps_what_the_container_has() {
    let node = Lab::new().node("node1");
    let pod = node.pod("worker");
    let ours = address_of(&pod.add(&conf::octavia()).plugin("octavia-ipam"));
    let holder = node.pod("holder");
    let impossible = asking_for_the_address_of(&holder);
    let before = node.snapshot(&[&pod]);
    pod.add(&impossible).plugin("octavia-ipam").run().error(102).says(&["172.23.0.31"]);
    node.snapshot(&[&pod]).assert_same_as(&before);
    // A caller that retries gets the address that it already has.
    assert_eq!(address_of(&pod.add(&conf::octavia()).plugin("octavia-ipam")), ours);
}

#[test]
fn a_failing_add_without_links_leaves_a_bridges_attachment_alone() {
    // A chain may ask for addresses under the name of an attachment that has links.
    let conf = conf::octavia_with(json!({"cniVersion": "1.1.0"}));
    let node = Lab::new().node("node1");
    let pod = node.pod("worker");
    let attached = pod.add(&conf).run().attached();
    let holder = node.pod("holder");
    let impossible = asking_for_the_address_of(&holder);
    let before = node.snapshot(&[&pod]);
    pod.add(&impossible).plugin("octavia-ipam").run().any_error();
    node.snapshot(&[&pod]).assert_same_as(&before);
    pod.check(&conf, &attached.result).run().silent_success();
    pod.del(&conf).run().silent_success();
    assert_eq!((pod.link_names().len(), node.allocations(POOL).contains_key("30")), (0, false));
}

#[test]
fn nobody_uses_an_address_before_the_pool_says_whose_it_is() {
    let node = Lab::new().node("node1");
    let pod = node.pod("worker");
    // The new document takes effect late.
    let slow = "inject=rename,renameat,renameat2:delay_enter=700000";
    let trace = "trace=rename,renameat,renameat2";
    let add = pod.add(&conf::octavia());
    let add = add.under(&["/usr/bin/strace", "-f", "-qq", "-o", "/dev/null", "-e", trace, "-e", slow]);
    let looks_before = std::thread::scope(|scope| {
        let add = scope.spawn(|| add.run().attached());
        let mut looks_before = 0;
        while !add.is_finished() {
            let is_up = pod.link("net1").is_some_and(|link| link.is_up());
            let is_held = node.allocations(POOL).contains_key("30");
            assert!(is_held || !is_up, "the link is up and the address may still be another's");
            looks_before += usize::from(!is_held);
        }
        looks_before
    });
    assert!(looks_before > 1, "the delay was too short to see anything");
}

/// A process that keeps a pod's namespace, whatever becomes of its path.
struct Keeper(Child);

impl Keeper {
    fn of(pod: &Pod) -> Self {
        Self(pod.spawn(Command::new("sleep").arg("60")))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.0.kill().unwrap_or_default();
        let _: std::io::Result<_> = self.0.wait();
    }
}

/// Puts a plain file in the place of a namespace, as `ip netns` leaves it that covers /run/netns.
fn cover(pod: &Pod) {
    pod.remove();
    fs::write(pod.path(), "").expect("write a plain file");
}

/// A way to lose the path of a namespace that lives on.
type Loss = fn(&Pod);
const LOSSES: [(&str, Loss); 3] =
    [("removed", |pod| pod.remove()), ("covered", cover), ("made anew", |pod| pod.replace())];

/// Takes a plain file away that stands in the place of a namespace.
fn uncover(pod: &Pod) {
    if fs::read(pod.path()).is_ok_and(|text| text.is_empty()) {
        fs::remove_file(pod.path()).expect("remove a plain file");
    }
}

#[test]
fn a_pair_holds_its_address_whatever_the_path_of_its_namespace_says() {
    for (loss, lose) in LOSSES {
        let node = Lab::new().node("node1");
        let [old, new, other] = ["old", "new", "other"].map(|name| node.pod(name));
        let first = old.add(&conf::octavia()).args(SAME_POD).run().attached();
        let keeper = Keeper::of(&old);
        lose(&old);
        let second = new.add(&conf::octavia()).args(SAME_POD).run().attached();
        assert_ne!((first.ip(), first.pod_mac()), (second.ip(), second.pod_mac()), "{loss}");
        other.add(&conf::octavia()).run().attached();
        assert_eq!(holders(&node), held_by(&[("30", &old), ("31", &new), ("32", &other)]), "{loss}");
        // Nor may the pod's end be lost by renaming the pair.
        node.ip(&format!("link set {} name renamed0", first.host_link()));
        let third = node.pod("third");
        third.add(&conf::octavia()).args(SAME_POD).run().attached();
        assert_eq!(holders(&node).len(), 4, "{loss}");
        drop(keeper);
        uncover(&old);
    }
}

#[test]
fn a_namespace_of_the_same_path_is_no_sign_of_life_of_a_pair_that_is_gone() {
    let node = Lab::new().node("node1");
    let [old, new] = ["old", "new"].map(|name| node.pod(name));
    let first = old.add(&conf::octavia()).args(SAME_POD).run().attached();
    // A record that names the inode of whatever is at the path now: inodes are used again, at once.
    old.ip("link del net1");
    let second = new.add(&conf::octavia()).args(SAME_POD).run().attached();
    assert_eq!(second.address(), first.address());
    assert_eq!(holders(&node), held_by(&[("30", &new)]));
}

#[test]
fn without_a_pair_of_ours_a_path_that_leads_nowhere_is_no_proof_of_death() {
    let node = Lab::new().node("node1");
    let [old, new] = ["old", "new"].map(|name| node.pod(name));
    let first = address_of(&old.add(&conf::octavia()).plugin("octavia-ipam").args(SAME_POD));
    let keeper = Keeper::of(&old);
    cover(&old);
    assert_ne!(address_of(&new.add(&conf::octavia()).plugin("octavia-ipam").args(SAME_POD)), first);
    drop(keeper);
    uncover(&old);
}

#[test]
fn a_live_attachment_is_not_made_again_in_another_namespace() {
    let node = Lab::new().node("node1");
    let [old, new] = ["old", "new"].map(|name| node.pod(name));
    old.add(&conf::octavia()).run().attached();
    let before = node.snapshot(&[&old, &new]);
    let again = new.add(&conf::octavia()).env("CNI_CONTAINERID", old.container_id());
    let path = old.path().to_str().unwrap();
    again.run().error(103).says(&["already attached as net1", path]);
    node.snapshot(&[&old, &new]).assert_same_as(&before);
}

#[test]
fn an_address_of_the_bridge_is_no_pods() {
    let node = Lab::new().node("node1");
    node.bridge_with_uplink();
    node.ip("addr add 172.23.0.30/24 dev octbr");
    node.ip("addr add 10.9.9.9/32 dev octbr");
    let pod = node.pod("worker");
    let asking = pod.add(&conf::octavia()).args("IgnoreUnknown=1;IP=172.23.0.30");
    asking.run().error(102).says(&["172.23.0.30", "octbr"]);
    assert_eq!(address_of(&pod.add(&conf::octavia())), "172.23.0.31/24");
    // It leaves the bridge, and is as good as any other.
    node.ip("addr del 172.23.0.30/24 dev octbr");
    assert_eq!(address_of(&node.pod("next").add(&conf::octavia())), "172.23.0.30/24");
}
