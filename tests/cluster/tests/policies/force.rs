//! One policy on one node.

use std::fs;
use std::path::Path;
use std::process::Command;

use octavia_bridge_cluster_tests::{Fault, Rule};
use serde_json::{Value, json};

use crate::scene::{Scene, bridge, conditions, message, octbr, text, until};

const DONE: &str = "SuccessfullyConfigured";

fn row(name: &str, status: &str, reason: &str, message: &str) -> [String; 4] {
    [name, status, reason, message].map(ToOwned::to_owned)
}

#[test]
fn a_policy_comes_into_force_and_whoever_waits_is_told() {
    let scene = Scene::new("force");
    let node = scene.node(0);
    let posted = scene.post("octavia", &octbr(1500));
    let policy = scene.wait("octavia", DONE);
    assert_eq!(
        conditions(&policy),
        [
            row("Available", "True", DONE, "1/1 nodes successfully configured"),
            row("Degraded", "False", DONE, ""),
            row("Progressing", "False", DONE, ""),
            row("Ignored", "False", DONE, ""),
        ]
    );
    let link = node.link("octbr").expect("it is there before success is told");
    assert_eq!(link["mtu"], 1500);
    assert_eq!(node.link("enp6s0").expect("the NIC")["master"], "octbr");

    let enactment = scene.enactment(&node, "octavia").expect("an enactment");
    assert_eq!(
        conditions(&enactment),
        [
            row("Available", "True", DONE, "successfully reconciled"),
            row("Failing", "False", DONE, ""),
            row("Progressing", "False", DONE, ""),
            row("Pending", "False", DONE, ""),
            row("Aborted", "False", DONE, ""),
        ]
    );
    let status = &enactment["status"];
    assert_eq!(
        (&status["policyGeneration"], &status["desiredState"]),
        (&json!(1), &posted["spec"]["desiredState"])
    );
    let metadata = &enactment["metadata"];
    assert_eq!(
        metadata["labels"],
        json!({
            "nmstate.io/node": node.name, "nmstate.io/policy": scene.called("octavia"),
        })
    );
    let owner = scene.admin.get(&format!("/api/v1/nodes/{}", node.name));
    assert_eq!(
        metadata["ownerReferences"],
        json!([{
            "apiVersion": "v1", "kind": "Node", "name": node.name, "uid": owner["metadata"]["uid"],
        }])
    );
    let events = until("an event", || scene.events("octavia"), |events| !events.is_empty());
    let note = format!("node {}: successfully reconciled", node.name);
    assert_eq!(events, [("Normal".to_owned(), DONE.to_owned(), note)]);

    // Repairs, a restart, and looks at the status write nothing.
    let written = |object: &Value| text(&object["metadata"]["resourceVersion"]);
    node.ip("link del octbr");
    node.wait_link("octbr", |link| link["mtu"] == 1500);
    node.kill();
    node.ip("link del octbr");
    node.start();
    node.wait_link("octbr", |link| link["mtu"] == 1500);
    // The agent writes what it has to, one policy after the other: by then it has.
    scene.post("younger", &json!([bridge("br-younger")]));
    scene.wait("younger", DONE);
    assert_eq!(written(&scene.policy("octavia")), written(&policy));
    assert_eq!(written(&scene.enactment(&node, "octavia").expect("it stays")), written(&enactment));
    assert_eq!(scene.events("octavia").len(), 1);
}

#[test]
fn a_policy_whose_nic_is_taken_away_fails_alone() {
    let scene = Scene::new("apart");
    let node = scene.node(0);
    node.ip("link add nic-b type veth peer name wire-b");
    scene.post("alpha", &octbr(1500));
    scene.post(
        "beta",
        &json!([{"name": "br-b", "type": "linux-bridge", "bridge": {"port": [{"name": "nic-b"}]}}]),
    );
    for name in ["alpha", "beta"] {
        scene.wait(name, DONE);
    }
    let alpha = scene.policy("alpha");
    node.ip("link add foreign type bridge");
    node.ip("link set nic-b master foreign");
    let beta = scene.wait("beta", "FailedToConfigure");
    assert!(
        message(&beta).is_some_and(|message| message.contains("nic-b is to be a port of br-b")),
        "{beta}"
    );
    for fault in ["link set octbr down", "link set enp6s0 nomaster"] {
        node.ip(fault);
        node.wait_link("octbr", |link| {
            link["flags"].as_array().is_some_and(|flags| flags.contains(&"UP".into()))
        });
        node.wait_link("enp6s0", |link| link["master"] == "octbr");
    }
    let written = |object: &Value| text(&object["metadata"]["resourceVersion"]);
    assert_eq!(written(&scene.policy("alpha")), written(&alpha), "alpha is in force all the time");
    node.ip("link set nic-b nomaster");
    scene.wait("beta", DONE);
    node.wait_link("nic-b", |link| link["master"] == "br-b");
}

#[test]
fn a_new_version_comes_as_a_whole_or_not_at_all() {
    let scene = Scene::new("whole");
    let node = scene.node(0);
    node.ip("link add nic-b type veth peer name wire-b");
    scene.post("octavia", &octbr(1500));
    scene.wait("octavia", DONE);
    node.ip("link add foreign type bridge");
    node.ip("link set nic-b master foreign");
    let mut more = octbr(1400);
    let br_b = json!({"name": "br-b", "type": "linux-bridge", "bridge": {"port": [{"name": "nic-b"}]}});
    more.as_array_mut().expect("a list of interfaces").push(br_b);
    scene.patch("octavia", &more);
    scene.wait("octavia", "FailedToConfigure");
    let log = node.log();
    assert!(!log.contains("set the MTU of octbr to 1400"), "{log}");
    node.ip("link set nic-b nomaster");
    // A change is tried at once; without one, a minute later.
    more[0]["mtu"] = 1300.into();
    scene.patch("octavia", &more);
    scene.wait("octavia", DONE);
    node.wait_link("octbr", |link| link["mtu"] == 1300);
}

/// What the seed's patch does: the list of interfaces is replaced.
#[test]
fn an_interface_that_is_dropped_stays_and_is_kept_no_more_and_only_absent_deletes() {
    let scene = Scene::new("dropped");
    let node = scene.node(0);
    scene.post("octavia", &json!([bridge("ctlplane"), bridge("internalapi")]));
    scene.wait("octavia", DONE);
    let patched = scene.patch("octavia", &octbr(1500));
    assert_eq!(patched["metadata"]["generation"], 2);
    until(
        "the new generation",
        || scene.enactment(&node, "octavia"),
        |enactment| enactment.as_ref().is_some_and(|enactment| enactment["status"]["policyGeneration"] == 2),
    );
    scene.wait("octavia", DONE);
    let state = &scene.enactment(&node, "octavia").expect("an enactment")["status"]["desiredState"];
    assert_eq!(*state, patched["spec"]["desiredState"], "nothing of the one before is left in it");
    for name in ["ctlplane", "internalapi", "octbr"] {
        assert!(node.link(name).is_some(), "{name} stays");
    }
    node.ip("link del ctlplane");
    node.ip("link del octbr");
    node.wait_link("octbr", |_| true);
    assert!(node.link("ctlplane").is_none(), "nobody asks for it any more");

    scene.delete("octavia");
    until("the enactment is gone", || scene.enactment(&node, "octavia"), Option::is_none);
    for _restarted in [false, true] {
        assert!(node.link("octbr").is_some() && node.link("internalapi").is_some());
        node.kill();
        node.start();
        until(
            "nothing is kept",
            || node.log(),
            |log| log.ends_with("so no links are kept\n") || log.contains("nothing is wanted any more"),
        );
    }
    node.ip("link del internalapi");
    // The agent, which attached the uplink, knows it without a policy; a stranger's port it does not.
    node.ip("link add stranger type veth peer name stranger-peer");
    node.ip("link set stranger master octbr");
    scene.post("absent", &json!([{"name": "octbr", "state": "absent"}]));
    let failed = scene.wait_for_message("absent", "octbr cannot be deleted: stranger would be cut off");
    assert!(!message(&failed).is_some_and(|text| text.contains("enp6s0")), "{failed:#}");
    node.ip("link del stranger");
    scene.wait("absent", DONE);
    assert!(node.link("octbr").is_none() && node.link("internalapi").is_none());
    assert!(node.link("enp6s0").is_some());
}

/// The seed's own policy. A kernel without VLANs cannot have it, and that is told, too.
#[test]
fn the_seeds_policy_is_taken_as_it_is() {
    let scene = Scene::new("seed");
    let node = scene.bare_node(0, &[]);
    node.ip("link del enp6s0");
    node.start();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../node-agent/tests/fixtures/octavia.yaml");
    let mut policy: Value =
        serde_saphyr::from_str(&fs::read_to_string(&file).expect("read the policy")).expect("YAML");
    policy["metadata"]["name"] = scene.called("octavia").into();
    policy["spec"]["nodeSelector"] = json!({scene.label(): ""});
    scene.admin.apply(&policy.to_string());

    // Whoever waits for success goes on waiting, and sees what for.
    let waiting = scene.wait_for_message("octavia", "enp6s0.24: enp6s0 does not exist");
    assert_eq!(waiting["status"]["conditions"][0]["reason"], "ConfigurationProgressing");
    let text = format!("Policy is progressing 0/1 nodes finished: {}: waiting: ", node.name);
    assert!(message(&waiting).expect("a message").starts_with(&text), "{waiting:#}");
    assert!(node.link("octbr").is_none(), "no bridge without its uplink");
    // An event of this policy, and with the missing NIC.
    until(
        "an event says so",
        || scene.events("octavia"),
        |events| {
            events.iter().any(|(kind, reason, text)| {
                (kind.as_str(), reason.as_str()) == ("Warning", "WaitingForInterface")
                    && text.contains("enp6s0.24: enp6s0 does not exist")
            })
        },
    );

    node.ip("link add enp6s0 type veth peer name wire");
    if kernel_has_vlans() {
        scene.wait("octavia", DONE);
        assert_eq!(node.link("enp6s0.24").expect("the VLAN")["master"], "octbr");
    } else {
        let failed = scene.wait("octavia", "FailedToConfigure");
        let told = message(&failed).expect("a message");
        assert!(
            told.starts_with("1/1 nodes failed to configure: ")
                && told.contains("create enp6s0.24 (VLAN 24 on enp6s0)"),
            "{told}"
        );
        assert!(node.link("octbr").is_none(), "what was begun was taken back");
    }
}

fn kernel_has_vlans() -> bool {
    let try_out = "ip netns add vlans && ip -n vlans link add d type veth peer name e && ip -n vlans link add link d name d.1 type vlan id 1";
    Command::new("sh")
        .args(["-c", try_out])
        .stderr(std::process::Stdio::null())
        .status()
        .expect("run sh")
        .success()
}

#[test]
fn a_new_generation_takes_back_the_old_success_before_it_has_one_of_its_own() {
    let scene = Scene::new("generation");
    let node = scene.node(0);
    scene.post("octavia", &octbr(1500));
    let first = scene.wait("octavia", DONE);
    // Also while all else that there is to tell does not get through.
    let hang = node.proxy().rule(Rule::on("PATCH", "/nodenetworkconfigurationenactments", Fault::Hang));
    scene.patch("octavia", &octbr(1300));
    let now = scene.wait("octavia", "ConfigurationProgressing");
    assert_eq!(message(&now).as_deref(), Some("Policy is progressing"));
    node.wait_link("octbr", |link| link["mtu"] == 1300);
    until("the enactment is tried", || hang.hits(), |hits| *hits > 0);
    node.proxy().clear_rules();
    scene.wait("octavia", DONE);
    // One that cannot come into force yet.
    scene.patch(
        "octavia",
        &json!([{"name": "enp9s0.24", "type": "vlan", "vlan": {"base-iface": "enp9s0", "id": 24}}]),
    );
    let now = scene.wait("octavia", "ConfigurationProgressing");
    assert_eq!(now["status"]["conditions"][0]["status"], "Unknown");
    scene.wait_for_message("octavia", "enp9s0 does not exist");
    scene.post("younger", &json!([bridge("br-younger")]));
    scene.wait("younger", DONE);
    assert_eq!(scene.policy("octavia")["status"]["conditions"][0]["reason"], "ConfigurationProgressing");
    scene.patch("octavia", &octbr(1400));
    let last = scene.wait("octavia", DONE);
    node.wait_link("octbr", |link| link["mtu"] == 1400);
    let since = |policy: &Value| text(&policy["status"]["conditions"][0]["lastTransitionTime"]);
    assert!(since(&last) > since(&first), "{last:#}");
}

#[test]
fn where_kubernetes_nmstate_is_at_work_nothing_is_done_or_told() {
    let scene = Scene::new("rival");
    let node = scene.bare_node(0, &[]);
    let lock = fs::File::create(node.file("handler_lock")).expect("create the lock");
    lock.lock().expect("hold the lock");
    node.start();
    scene.post("octavia", &octbr(1500));
    until("it says so", || node.log(), |log| log.contains("kubernetes-nmstate is running on this node"));
    until(
        "it knows the policy",
        || node.readiness(),
        |text| text.contains("kubernetes-nmstate reports their status"),
    );
    assert!(node.link("octbr").is_none());
    let told: Vec<_> = node.proxy().exchanges();
    let told: Vec<_> =
        told.iter().filter(|one| one.method != "GET" && !one.path.contains("/leases")).collect();
    assert!(told.is_empty(), "{told:?}");
    lock.unlock().expect("let go of the lock");
    scene.wait("octavia", DONE);
}
