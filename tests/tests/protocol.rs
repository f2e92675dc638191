//! The plugin's input, environment and stdin, and its answers to wrong input.

use octavia_bridge_tests::{Lab, conf};
use serde_json::json;

const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

#[test]
fn a_person_who_starts_it_is_told_what_it_is() {
    let node = Lab::new().node("node1");
    for call in [node.call("").without_env("CNI_COMMAND"), node.call("")] {
        let outcome = call.run();
        outcome.silent_success();
        for version in VERSIONS {
            assert!(outcome.stderr.contains(version), "{version} is not in: {}", outcome.stderr);
        }
    }
}

#[test]
fn version_needs_no_configuration() {
    let node = Lab::new().node("node1");
    for stdin in ["", "{}", r#"{"cniVersion":"0.4.0"}"#] {
        let answer = node.call("VERSION").stdin(stdin).run().success();
        assert_eq!(answer["supportedVersions"], json!(VERSIONS), "stdin {stdin:?}");
        let own = answer["cniVersion"].as_str().unwrap_or_default();
        assert!(VERSIONS.contains(&own), "{answer}");
    }
}

#[test]
fn an_unknown_command_is_named() {
    let pod = Lab::new().node("node1").pod("worker");
    for command in ["FOO", "add", "ADD "] {
        pod.add(&conf::layer2()).env("CNI_COMMAND", command).run().error(4).says(&[command, "ADD"]);
    }
}

#[test]
fn everything_that_is_missing_is_named_at_once() {
    let pod = Lab::new().node("node1").pod("worker");
    let all = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"];
    for missing in all {
        for command in ["ADD", "CHECK"] {
            let call = pod.add(&conf::layer2()).env("CNI_COMMAND", command);
            call.clone().without_env(missing).run().error(4).says(&[missing]);
            call.env(missing, "").run().error(4).says(&[missing]);
        }
    }
    pod.node().call("ADD").conf(&conf::layer2()).run().error(4).says(&all);
    // DEL may come without a namespace, but not without the rest.
    let error = pod.node().call("DEL").conf(&conf::layer2()).run().error(4);
    error.says(&["CNI_CONTAINERID", "CNI_IFNAME"]);
    assert!(!error.msg.contains("CNI_NETNS"), "{}", error.msg);
}

#[test]
fn a_malformed_identity_creates_nothing() {
    let pod = Lab::new().node("node1").pod("worker");
    let before = pod.node().snapshot(&[&pod]);
    let add = pod.add(&conf::layer2());
    for id in ["a/b", "-abc", ".", "..", "a b", "../../etc/passwd"] {
        add.clone().env("CNI_CONTAINERID", id).run().error(4).says(&["CNI_CONTAINERID", id]);
    }
    for name in ["sixteen-bytes-xx", "a/b", "a:b", "a b", ".", ".."] {
        add.clone().ifname(name).run().error(4).says(&["CNI_IFNAME", name]);
    }
    pod.node().snapshot(&[&pod]).assert_same_as(&before);
}

#[test]
fn the_longest_name_the_kernel_knows_is_used() {
    let pod = Lab::new().node("node1").pod("worker");
    pod.add(&conf::layer2()).ifname("fifteen-bytes-x").run().attached();
    assert_eq!(pod.link_names(), ["fifteen-bytes-x"]);
}

#[test]
fn what_is_no_json_object_is_code_6() {
    let pod = Lab::new().node("node1").pod("worker");
    let before = pod.node().snapshot(&[&pod]);
    for stdin in ["", " \n", "{", "[]", "\"octavia\"", "{\"name\":\"octavia\"} {}", "\u{feff}{}"] {
        pod.add(&conf::layer2()).stdin(stdin).run().error(6);
        pod.del(&conf::layer2()).stdin(stdin).run().error(6);
    }
    pod.add(&conf::layer2()).stdin([0xff, 0xfe, b'{', b'}']).run().error(6);
    pod.node().snapshot(&[&pod]).assert_same_as(&before);
}

#[test]
fn a_network_needs_a_name_that_may_stand_in_a_path() {
    let pod = Lab::new().node("node1").pod("worker");
    let before = pod.node().snapshot(&[&pod]);
    let error = pod.add(&conf::layer2_with(json!({"name": "a/b"}))).run().error(7);
    assert_eq!(error.details, "a/b");
    pod.add(&conf::without(conf::layer2(), "/name")).run().error(7).says(&["missing network name"]);
    pod.add(&conf::layer2_with(json!({"name": ""}))).run().error(7).says(&["missing network name"]);
    // Go decodes null into an empty configuration, whose first fault is the name.
    pod.add(&conf::layer2()).stdin("null").run().error(7).says(&["missing network name"]);
    pod.node().snapshot(&[&pod]).assert_same_as(&before);
}

#[test]
fn an_unknown_version_is_refused_and_the_known_ones_are_listed() {
    let pod = Lab::new().node("node1").pod("worker");
    let before = pod.node().snapshot(&[&pod]);
    for version in ["1.2.0", "0.9.9", "1.1", "v1.0.0"] {
        let changed = conf::layer2_with(json!({"cniVersion": version}));
        pod.add(&changed).run().error(1).says(&[version, "0.3.1", "1.1.0"]);
    }
    pod.node().snapshot(&[&pod]).assert_same_as(&before);
}

#[test]
fn verbs_younger_than_the_configuration_are_refused() {
    let pod = Lab::new().node("node1").pod("worker");
    let conf = conf::layer2_with(json!({"cniVersion": "0.3.1"}));
    pod.check(&conf, &json!({})).run().error(1).says(&["does not allow CHECK"]);
    pod.node().gc(&conf).run().error(1).says(&["does not allow GC"]);
    pod.node().status(&conf).run().error(1).says(&["does not allow STATUS"]);
    // 1.0.0 has CHECK and not the other two.
    pod.node().gc(&conf::layer2()).run().error(1).says(&["does not allow GC"]);
    pod.node().status(&conf::layer2()).run().error(1).says(&["does not allow STATUS"]);
}

#[test]
fn json_is_read_as_go_reads_it() {
    let node = Lab::new().node("node1");
    let (one, two) = (node.pod("one"), node.pod("two"));
    // Keys in any case, the last of equal keys wins, null is absent, unknown keys pass.
    let odd = r#"{"CNIVERSION":"1.0.0","name":"octavia","Bridge":"brx","BRIDGE":"bry","mtu":null,"ipam":null,"x":{}}"#;
    let attached = one.add(&conf::layer2()).stdin(odd).run().attached();
    assert_eq!(attached.bridge(), "bry");
    assert!(node.link("bry").is_some() && node.link("brx").is_none());
    two.add(&conf::layer2_with(json!({"ipam": {}, "futureKey": [1, 2]}))).run().attached();
}

#[test]
fn multus_sends_its_arguments_twice_and_one_of_them_empty() {
    let pod = Lab::new().node("node1").pod("worker");
    let pod_keys =
        "K8S_POD_NAMESPACE=openstack;K8S_POD_NAME=octavia-worker-0;K8S_POD_INFRA_CONTAINER_ID=;K8S_POD_UID=u";
    let args = format!("IgnoreUnknown=true;{pod_keys};IgnoreUnknown=1;{pod_keys}");
    let attached = pod.add(&conf::octavia()).args(&args).run().attached();
    // `ip link` on the host shows the owner of the link.
    let alias = pod.node().expect_link(attached.host_link()).alias().to_owned();
    for word in ["openstack/octavia-worker-0", pod.container_id(), "net1"] {
        assert!(alias.contains(word), "{word} is not in the alias {alias:?}");
    }
    let holder = &pod.node().allocations("172.23.0.0-24")["30"];
    assert_eq!(
        *holder,
        json!({"id": pod.container_id(), "podref": "openstack/octavia-worker-0", "ifname": "net1"})
    );
}

#[test]
fn unknown_arguments_need_permission_and_never_stop_a_del() {
    let pod = Lab::new().node("node1").pod("worker");
    let before = pod.node().snapshot(&[&pod]);
    let conf = conf::layer2();
    for args in ["K8S_POD_NAMESPACE=x", "FOO=1", "foo", "IgnoreUnknown=1;foo"] {
        pod.add(&conf).args(args).run().error(4).says(&["CNI_ARGS"]);
    }
    pod.node().snapshot(&[&pod]).assert_same_as(&before);

    pod.add(&conf).args("IgnoreUnknown=1;FOO=a=b;").run().attached();
    pod.del(&conf).args("foo").run().silent_success();
    assert_eq!(pod.link_names(), [""; 0]);
}

#[test]
fn a_namespace_that_is_none_is_refused_before_a_bridge_exists() {
    let pod = Lab::new().node("node1").pod("worker");
    let before = pod.node().snapshot(&[&pod]);
    let add = pod.add(&conf::octavia());
    add.clone().env("CNI_NETNS", "/run/netns/none").run().error(3).says(&["/run/netns/none"]);
    // A file, a folder, and a namespace of another kind.
    for path in ["/proc/self/status", "/proc", "/proc/self/ns/mnt"] {
        add.clone().env("CNI_NETNS", path).run().error(4).says(&["CNI_NETNS", path]);
    }
    pod.node().snapshot(&[&pod]).assert_same_as(&before);
}

#[test]
fn the_host_is_no_pod() {
    let pod = Lab::new().node("node1").pod("worker");
    let before = pod.node().snapshot(&[&pod]);
    let own = pod.node().path().to_string_lossy().into_owned();
    for path in [own.as_str(), "/proc/self/ns/net"] {
        pod.add(&conf::octavia()).env("CNI_NETNS", path).run().error(8).says(&[path]);
    }
    pod.node().snapshot(&[&pod]).assert_same_as(&before);
}

#[test]
fn what_newer_runtimes_add_to_the_environment_does_no_harm() {
    let pod = Lab::new().node("node1").pod("worker");
    let call = pod.add(&conf::octavia());
    let call = call.env("TRACEPARENT", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    // The built-in IPAM needs no other plugin, so CNI_PATH may be absent.
    call.env("BAGGAGE", "k=v").without_env("CNI_PATH").run().attached();
    pod.del(&conf::octavia()).without_env("CNI_PATH").run().silent_success();
}
