//! `octavia-bridge-agent check` reads definitions, policies, nodes and predictable addresses from the server; `pools` and `status`
//! count the definitions' ranges.

use std::process::Command;

use octavia_bridge_cluster_tests::{Access, Cluster, agent_program, daemonset};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::applying::{apply, prepared};

const DEFINITION: &str =
    "/apis/k8s.cni.cncf.io/v1/namespaces/openstack/network-attachment-definitions/octavia";

/// The exit status, and both outputs.
fn check(access: &Access, words: &[&str]) -> (Option<i32>, String) {
    run(access, "check", words)
}

fn run(access: &Access, command: &str, words: &[&str]) -> (Option<i32>, String) {
    let folder = TempDir::new().expect("create a folder");
    let kubeconfig = folder.path().join("kubeconfig");
    access.write_kubeconfig(&kubeconfig);
    let mut program = Command::new(agent_program());
    program.arg(command).args(words).arg("--kubeconfig").arg(kubeconfig);
    let output = program.output().expect("run the agent's program");
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    (output.status.code(), said.concat())
}

fn change(admin: &Access, config: &mut Value, pointer: &str, value: &str) {
    *config.pointer_mut(pointer).expect("the example has it") = json!(value);
    let patch = json!({"spec": {"config": config.to_string()}});
    admin.call("PATCH", DEFINITION, Some(&patch)).expect(200);
}

#[test]
fn check_finds_mistakes_in_the_cluster_s_definition() {
    let (_alone, admin) = prepared();
    let example = daemonset().join("examples/octavia");
    apply(admin, &example, &[]);
    // Another network on a bridge, as Neutron has; it is not Octavia's.
    let other = json!({
        "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": "datacentre", "namespace": "openstack"},
        "spec": {"config": "{\"type\": \"bridge\", \"bridge\": \"octbr\", \"ipam\": {}}"},
    });
    admin.apply(&other.to_string());

    let (status, said) = check(admin, &[]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.starts_with("openstack/octavia\n172.23.0.0/24") && !said.contains("datacentre"), "{said}");

    let stored = admin.get(DEFINITION);
    let mut config: Value =
        serde_json::from_str(stored["spec"]["config"].as_str().expect("a text")).expect("JSON");
    change(admin, &mut config, "/bridge", "octbr0");
    let (status, said) = check(admin, &[]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("warning  bridge: \"octbr0\" is not a bridge of any policy"), "{said}");

    // The range grew over addresses that the operator had given to health managers.
    change(admin, &mut config, "/bridge", "octbr");
    change(admin, &mut config, "/ipam/range_end", "172.23.0.97");
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "octavia-hmport-map", "namespace": "openstack"},
        "data": {"hm_worker-1": "172.23.0.97", "rsyslog_worker-1": "172.23.0.98"},
    });
    admin.apply(&map.to_string());
    let (status, said) = check(admin, &["--json"]);
    assert_eq!(status, Some(3), "{said}");
    let report: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(report["version"], 1);
    let exclude = json!(["172.23.0.71/32", "172.23.0.72/32", "172.23.0.97/32"]);
    assert_eq!(report["definitions"][0]["exclude"], exclude);

    let stranger = Cluster::shared().service_account("openstack", "stranger");
    let (status, said) = check(&stranger, &[]);
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("cannot list network-attachment-definitions") && said.contains("403"), "{said}");

    admin.delete("/api/v1/namespaces/openstack/configmaps/octavia-hmport-map");
    apply(admin, &example, &[]);
    assert_eq!(check(admin, &[]).0, Some(0));
}

#[test]
fn ranges_are_counted_before_their_pool_exists() {
    let (_alone, admin) = prepared();
    apply(admin, &daemonset().join("examples/octavia"), &[]);
    let line = "0 of 41 addresses 172.23.0.30-172.23.0.70 of network openstack/octavia in use\n";
    let (status, said) = run(admin, "pools", &[]);
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains(&format!("networks whose pool does not exist yet:\n  {line}")), "{said}");
    let (_, said) = run(admin, "pools", &["--json"]);
    let report: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(report["ranges-without-pool"][0]["capacity"], "41");
    let (_, said) = run(admin, "status", &[]);
    assert!(said.contains(&format!("range: {line}")), "{said}");
}
