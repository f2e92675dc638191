//! IPAM plugins in both directions: our pools under Debian's bridge and macvlan, and Debian's IPAM under our bridge.

use octavia_bridge_tests::call::DIRECTORIES;
use octavia_bridge_tests::{Call, Lab, Node, Pod, conf};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;

const POOL: &str = "172.23.0.0-24";

/// A configuration of a reference plugin with addresses from our pools.
fn peer(plugin: &str, ipam: &str) -> Value {
    let octavia = conf::octavia_with(json!({"cniVersion": "1.0.0", "type": plugin, "ipam": {"type": ipam}}));
    let conf = conf::with(octavia, json!({"master": "uplink", "mode": "bridge"}));
    // Debian's macvlan would take no bridge, its bridge no master; both pass over keys they do not know.
    conf
}

#[test]
fn debians_bridge_and_macvlan_get_addresses_from_our_pools() {
    for plugin in ["bridge", "macvlan"] {
        for ipam in ["octavia-ipam", "whereabouts"] {
            let node = Lab::new().node("node1");
            node.ip("link add uplink type veth peer name elsewhere");
            node.ip("link set uplink up");
            let conf = peer(plugin, ipam);
            let pods = ["one", "two"].map(|name| node.pod(name));
            let attached =
                pods.each_ref().map(|pod| pod.add(&conf).plugin(plugin).args(&args(pod)).run().attached());
            assert_eq!(attached[1].address(), "172.23.0.31/24", "{plugin} with {ipam}");
            assert_eq!(pods[1].expect_link("net1").addresses(), ["172.23.0.31/24"]);
            assert_eq!(pods[1].expect_route("172.24.0.0/16").gateway(), "172.23.0.150");
            let holder = &node.allocations(POOL)["31"];
            let (id, podref) = (pods[1].container_id(), format!("openstack/{}", pods[1].container_id()));
            assert_eq!(*holder, json!({"id": id, "podref": podref, "ifname": "net1"}));

            pods[1].check(&conf, &attached[1].result).plugin(plugin).run().silent_success();
            for pod in &pods {
                pod.del(&conf).plugin(plugin).run().silent_success();
            }
            assert!(node.allocations(POOL).is_empty(), "{plugin} with {ipam}");
        }
    }
}

fn args(pod: &Pod) -> String {
    format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=openstack;K8S_POD_NAME={}", pod.container_id())
}

#[test]
fn check_of_a_peer_reaches_our_pools() {
    let pod = Lab::new().node("node1").pod("worker");
    let conf = peer("bridge", "octavia-ipam");
    let attached = pod.add(&conf).plugin("bridge").run().attached();
    fs::remove_file(pod.node().pool_file(POOL)).unwrap();
    let error = pod.check(&conf, &attached.result).plugin("bridge").run().any_error();
    error.says(&["no pool holds"]);
}

#[test]
fn alone_it_prints_addresses_and_no_interfaces() {
    let pod = Lab::new().node("node1").pod("worker");
    let conf = peer("bridge", "octavia-ipam");
    let before = pod.node().snapshot(&[&pod]);
    let result = pod.add(&conf).plugin("octavia-ipam").run().success();
    assert_eq!(
        result,
        json!({
            "cniVersion": "1.0.0",
            "ips": [{"address": "172.23.0.30/24"}],
            "routes": [{"dst": "172.24.0.0/16", "gw": "172.23.0.150"}],
        })
    );
    assert_eq!(pod.link_names(), [""; 0]);
    // An IPAM plugin may be asked again and gives the same.
    let again = pod.add(&conf).plugin("whereabouts").run().success();
    assert_eq!(again, result);
    let stripped = json!({"cniVersion": "1.0.0", "name": "octavia", "type": "bridge"});
    for _ in 0..2 {
        pod.del(&stripped).plugin("octavia-ipam").without_env("CNI_NETNS").run().silent_success();
    }
    pod.node().snapshot(&[&pod]).assert_same_as(&before);
}

#[test]
fn our_errors_reach_the_user_of_a_peer() {
    let node = Lab::new().node("node1");
    let conf = conf::with(peer("bridge", "octavia-ipam"), json!({"ipam": {"range_end": "172.23.0.30"}}));
    let holder = node.pod("holder");
    holder.add(&conf).plugin("bridge").run().attached();
    let error = node.pod("worker").add(&conf).plugin("bridge").run().any_error();
    error.says(&["172.23.0.30", holder.container_id()]);
    let wrong = conf::with(conf, json!({"ipam": {"range": "bogus"}}));
    let error = node.pod("worker").add(&wrong).plugin("octavia-ipam").run().error(7);
    error.says(&["ipam.range", "bogus"]);
}

#[test]
fn its_data_directory_may_be_named_in_the_ipam_block() {
    let pod = Lab::new().node("node1").pod("worker");
    let elsewhere = json!({"ipam": {"dataDir": "/var/lib/elsewhere"}});
    let conf = conf::with(peer("bridge", "octavia-ipam"), elsewhere);
    let allowed = |call: Call| call.plugin("bridge").env(DIRECTORIES, "/srv:/var/lib/elsewhere");
    allowed(pod.add(&conf)).run().attached();
    let pools = pod.node().run_dir().join("elsewhere/var/lib/elsewhere/pools");
    assert!(pools.join(format!("{POOL}.json")).is_file());
    assert!(!pod.node().pool_file(POOL).exists());
    allowed(pod.del(&conf)).run().silent_success();
}

#[test]
fn our_bridge_uses_debians_host_local() {
    let node = Lab::new().node("node1");
    let routes = json!([{"dst": "172.24.0.0/16"}]);
    let ipam = json!({"type": "host-local", "subnet": "10.9.0.0/24", "routes": routes});
    let conf = conf::layer2_with(json!({"ipam": ipam}));
    let pod = node.pod("worker");
    let attached = pod.add(&conf).run().attached();
    assert_eq!(attached.address(), "10.9.0.2/24");
    assert_eq!(pod.expect_link("net1").addresses(), ["10.9.0.2/24"]);
    // host-local's gateway, which its route leaves open.
    assert_eq!(pod.expect_route("172.24.0.0/16").gateway(), "10.9.0.1");
    assert_eq!(attached.pod_mac(), "0a:58:0a:09:00:02");
    let reserved = node.disk().join("cni/networks/octavia/10.9.0.2");
    assert!(reserved.is_file());
    pod.check(&conf, &attached.result).run().silent_success();
    // DEL with the configuration stripped: the record has the one of ADD.
    let stripped = json!({"cniVersion": "1.0.0", "name": "octavia", "type": "octavia-bridge"});
    pod.del(&stripped).run().silent_success();
    assert!(!reserved.exists());
}

#[test]
fn our_bridge_uses_debians_static() {
    let pod = Lab::new().node("node1").pod("worker");
    let ipam =
        json!({"type": "static", "addresses": [{"address": "10.9.0.7/24"}, {"address": "fd00:9::7/64"}]});
    let conf = conf::layer2_with(json!({"cniVersion": "0.3.1", "ipam": ipam}));
    let attached = pod.add(&conf).run().attached();
    assert_eq!(pod.expect_link("net1").addresses(), ["10.9.0.7/24", "fd00:9::7/64"]);
    assert_eq!(attached.result["ips"][1]["version"], "6");
    pod.del(&conf).run().silent_success();
    assert_eq!(pod.link_names(), [""; 0]);
}

/// An IPAM plugin that is a shell script and records each verb and stdin in the lab's directory.
fn script(lab: &Lab, add: &str) -> Value {
    let (file, log) = (lab.bin().join("scripted"), lab.bin().join("scripted.log"));
    let text = format!(
        "#!/bin/sh\nread -r conf\necho \"$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME\" >> {0}\n\
         echo \"$conf\" > {0}.stdin\n[ \"$CNI_COMMAND\" != ADD ] || {{ {add}; }}\n",
        log.display()
    );
    fs::write(&file, text).expect("write the script");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("make the script executable");
    conf::layer2_with(json!({"ipam": {"type": "scripted", "futureKey": [1]}}))
}

fn verbs(lab: &Lab) -> Vec<String> {
    let log = fs::read_to_string(lab.bin().join("scripted.log")).expect("read the script's log");
    log.lines().map(str::to_owned).collect()
}

/// Runs an ADD whose delegated plugin fails. Nothing stays, and the plugin called the delegated plugin's DEL.
fn failing(lab: &Lab, node: &Node, conf: &Value, run: impl Fn(Call)) {
    let pod = node.pod("worker");
    let before = node.snapshot(&[&pod]);
    run(pod.add(conf));
    node.snapshot(&[&pod]).assert_same_as(&before);
    let id = pod.container_id();
    assert_eq!(verbs(lab), [format!("ADD {id} net1"), format!("DEL {id} net1")]);
}

#[test]
fn a_delegate_sees_the_configuration_as_it_was_written() {
    let lab = Lab::new();
    let conf = script(&lab, r#"echo '{"ips":[{"address":"10.9.0.7/24"}]}'"#);
    let pod = lab.node("node1").pod("worker");
    // A result without a version has that of the configuration.
    assert_eq!(pod.add(&conf).run().attached().address(), "10.9.0.7/24");
    let stdin = fs::read_to_string(lab.bin().join("scripted.log.stdin")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&stdin).unwrap(), conf);
    pod.del(&conf).run().silent_success();
    assert_eq!(verbs(&lab).len(), 2);
}

#[test]
fn a_delegates_own_error_passes_through() {
    let lab = Lab::new();
    let conf = script(&lab, r#"echo '{"code":142,"msg":"no luck","details":"today"}'; exit 1"#);
    failing(&lab, &lab.node("node1"), &conf, |add| {
        assert_eq!(add.run().error(142).says(&["no luck"]).details.as_str(), "today");
    });
}

#[test]
fn a_delegate_that_breaks_the_protocol_is_named() {
    for add in ["echo nonsense", "exit 3", "echo '{\"ips\":[{\"address\":\"nonsense\"}]}'", ":"] {
        let lab = Lab::new();
        let conf = script(&lab, add);
        failing(&lab, &lab.node("node1"), &conf, |add| {
            add.run().error(105).says(&["scripted"]);
        });
    }
}

#[test]
fn a_failure_after_the_delegate_tells_it_to_take_the_address_back() {
    let lab = Lab::new();
    let refused =
        r#"echo '{"ips":[{"address":"10.9.0.7/24"}],"routes":[{"dst":"172.24.0.0/16","gw":"192.0.2.1"}]}'"#;
    let conf = script(&lab, refused);
    failing(&lab, &lab.node("node1"), &conf, |add| {
        add.run().any_error().says(&["172.24.0.0/16", "192.0.2.1"]);
    });
}

#[test]
fn status_and_gc_reach_the_delegate() {
    let lab = Lab::new();
    let conf = conf::with(script(&lab, ":"), json!({"cniVersion": "1.1.0", "cni.dev/valid-attachments": []}));
    let node = lab.node("node1");
    node.status(&conf).run().silent_success();
    node.gc(&conf).run().silent_success();
    let seen: Vec<String> = verbs(&lab).iter().map(|line| line.trim().to_owned()).collect();
    assert_eq!(seen, ["STATUS", "GC"]);
}
