//! `check` over files and standard input.

use serde_json::{Value, json};

use crate::scene::on_a_node;

/// The shipped example.
const DEFINITION: &str = include_str!("../../../daemonset/examples/octavia/network.yaml");
const POLICY: &str = include_str!("../../../daemonset/examples/octavia/policy.yaml");

fn both() -> String {
    format!("{DEFINITION}---\n{POLICY}")
}

#[test]
fn the_example_is_drawn_and_has_no_mistake() {
    on_a_node(|node| {
        let said = node.ok("check -f - --nodes 8", &both());
        for part in [
            "openstack/octavia\n",
            "172.23.0.30-172.23.0.70               41  pods",
            "172.23.0.71-172.23.0.96               26  Neutron's",
            "octavia-operator takes the definition",
            "ok       no mistake found",
        ] {
            assert!(said.contains(part), "{part}\n{said}");
        }
        let json: Value = serde_json::from_str(&node.ok("check -f - --json", DEFINITION)).unwrap();
        assert_eq!(json["version"], 1);
        let definition = &json["definitions"][0];
        assert_eq!(definition["predictable"], json!({"first": "172.23.0.97", "last": "172.23.0.122"}));
        assert_eq!(definition["capacity"]["nodes-by-predictable-addresses"], "13");
        assert_eq!(definition["findings"], json!([]));
    });
}

#[test]
fn a_mistake_ends_with_status_3_and_is_named_by_path_value_and_remedy() {
    on_a_node(|node| {
        for (words, yaml, part) in [
            (
                "",
                both().replace("70", "205"),
                "error    ipam.range_end: \"172.23.0.205\" leaves less than the 52",
            ),
            (
                "--nodes 9",
                both(),
                "error    ipam.range_start: leaves 41 addresses for pods, enough for 8 nodes",
            ),
            (
                "--former-range-end 172.23.0.62",
                DEFINITION.into(),
                "add      \"exclude\": [\"172.23.0.63/32\",\"172.23.0.64/30\",\"172.23.0.68/31\",\"172.23.0.70/32\"]",
            ),
            ("", DEFINITION.replace("\"cniVersion\"", "cniVersion"), "error    spec.config: is not JSON"),
            ("", "{type: macvlan, ipam: {}}".into(), "network configuration\n"),
        ] {
            let answer = node.run(&format!("check -f - {words}"), &yaml);
            assert_eq!(answer.status, 3, "{}{}", answer.stdout, answer.stderr);
            assert!(answer.stdout.contains(part), "{part}\n{}", answer.stdout);
        }
        // As `kubectl get -o json` prints several objects.
        let map = json!({
            "kind": "ConfigMap", "metadata": {"name": "octavia-hmport-map", "namespace": "openstack"},
            "data": {"hm_worker-1": "172.23.0.70", "rsyslog_worker-1": "172.23.0.71", "other": "172.23.0.60"},
        });
        let definition = serde_saphyr::from_str::<Value>(DEFINITION).unwrap();
        let list = json!({"kind": "List", "items": [definition, map]}).to_string();
        let answer = node.run("check -f - --json", &list);
        let said: Value = serde_json::from_str(&answer.stdout).unwrap();
        assert_eq!(said["definitions"][0]["exclude"], json!(["172.23.0.44/31", "172.23.0.70/32"]));
        assert_eq!(said["definitions"][0]["findings"][0]["field"], "ipam.exclude");
        assert_eq!(answer.status, 3);
    });
}

#[test]
fn a_bridge_of_no_policy_is_a_warning() {
    on_a_node(|node| {
        let said = node.ok("check -f -", &both().replace("\"octbr\"", "\"octavia\""));
        assert!(said.contains("warning  bridge: \"octavia\" is not a bridge of any policy"), "{said}");
    });
}

#[test]
fn a_file_need_not_say_the_namespace() {
    let definition = serde_saphyr::from_str::<Value>(DEFINITION).unwrap();
    let map = |namespace: &str| {
        json!({
            "kind": "ConfigMap", "metadata": {"name": "octavia-hmport-map", "namespace": namespace},
            "data": {"hm_worker-1": "172.23.0.70", "rsyslog_worker-1": "172.23.0.71"},
        })
    };
    let mut nowhere = definition.clone();
    nowhere["metadata"].as_object_mut().unwrap().remove("namespace");
    on_a_node(move |node| {
        for (items, status) in [
            (json!([nowhere, map("openstack")]), 3),
            (json!([definition, map("")]), 3),
            (json!([definition, map("other")]), 0),
            (json!([nowhere, map("openstack"), map("other")]), 0),
        ] {
            let answer = node.run("check -f -", &json!({"kind": "List", "items": items}).to_string());
            assert_eq!(answer.status, status, "{items}\n{}{}", answer.stdout, answer.stderr);
            let is_ambiguous = items.as_array().unwrap().len() == 3;
            assert_eq!(answer.stderr.contains("several have a ConfigMap"), is_ambiguous, "{}", answer.stderr);
        }
    });
}

#[test]
fn input_without_a_definition_ends_with_status_2() {
    on_a_node(|node| {
        for (words, yaml, part) in [
            ("check -f -", POLICY, "no NetworkAttachmentDefinition in the input"),
            (
                "check -f -",
                &format!("{DEFINITION}---\n{DEFINITION}").replace(": octavia\n", ": storage\n"),
                "none for Octavia among the NetworkAttachmentDefinitions in the input (2)",
            ),
            ("check -f -", "]", "-: not YAML"),
            ("check -f /nowhere", "", "read /nowhere: No such file"),
            ("check -f - --kubeconfig f", "", "--kubeconfig"),
        ] {
            let answer = node.run(words, yaml);
            assert_eq!(answer.status, 2, "{words}: {}{}", answer.stdout, answer.stderr);
            assert!(answer.stderr.contains(part), "{words}: {}", answer.stderr);
        }
        let answer = node.run("check", "");
        assert_eq!(answer.status, 1);
        assert!(answer.stderr.contains("pass --kubeconfig FILE"), "{}", answer.stderr);
    });
}
