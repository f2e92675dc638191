//! The pods: what they may, what they are given, and whether that fits.

use std::collections::BTreeMap;
use std::process::Command;

use octavia_bridge_cluster_tests::agent_program;
use serde_json::{Value, json};

use crate::{list, text, with_pods};

/// A pod template's containers, those that run first among them.
fn containers(set: &Value) -> impl Iterator<Item = &Value> {
    let of = |kind: &str| list(set, &format!("/spec/template/spec/{kind}")).iter();
    of("initContainers").chain(of("containers"))
}

#[test]
fn they_have_one_capability_and_no_other_privilege() {
    for (overlay, set) in with_pods() {
        let pod = &set["spec"]["template"]["spec"];
        for host in ["hostPID", "hostIPC"] {
            assert!(pod.get(host).is_none(), "{overlay}: {host}");
        }
        for container in containers(&set) {
            let context = &container["securityContext"];
            let added = list(context, "/capabilities/add");
            let idle = overlay.ends_with("uninstall") && container["name"] == "agent";
            let expected = if idle { json!([]) } else { json!(["NET_ADMIN"]) };
            assert_eq!(json!(added), expected, "{overlay}");
            assert_eq!(context["capabilities"]["drop"], json!(["ALL"]), "{overlay}");
            for (key, value) in
                [("privileged", false), ("allowPrivilegeEscalation", false), ("readOnlyRootFilesystem", true)]
            {
                assert_eq!(context[key], json!(value), "{overlay}: {key}");
            }
            assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault", "{overlay}");
        }
    }
}

#[test]
fn each_volume_is_mounted_and_where_its_name_says() {
    for (overlay, set) in with_pods() {
        let volumes = list(&set, "/spec/template/spec/volumes");
        let mounts: Vec<&Value> = containers(&set).flat_map(|one| list(one, "/volumeMounts")).collect();
        for volume in volumes {
            let name = text(volume, "/name");
            let mounted: Vec<&str> = mounts
                .iter()
                .filter(|mount| mount["name"] == name)
                .map(|mount| text(mount, "/mountPath"))
                .collect();
            assert!(!mounted.is_empty(), "{overlay}: {name} is not mounted");
            let Some(path) = volume.pointer("/hostPath/path").and_then(Value::as_str) else { continue };
            assert!(path.matches('/').count() > 1, "{overlay}: {path} is too much of the host");
            // The host's /proc/sys/net cannot be where it is on the host; /run is often called /var/run.
            let places = [path.to_owned(), format!("/host{path}"), format!("/var{path}")];
            for place in mounted {
                assert!(places.iter().any(|one| one == place), "{overlay}: {path} is mounted at {place}");
            }
        }
        let known = |mount: &&&Value| volumes.iter().any(|volume| volume["name"] == mount["name"]);
        assert_eq!(mounts.iter().filter(known).count(), mounts.len(), "{overlay}: {mounts:?}");
    }
}

/// Also that no flag or variable of the manifests is unknown to the agent.
#[test]
fn the_agent_understands_how_it_is_started() {
    for (overlay, set) in with_pods() {
        for container in containers(&set) {
            assert_eq!(container["command"], json!(["/octavia-bridge-agent"]), "{overlay}");
            let given: BTreeMap<&str, &str> = list(container, "/env")
                .iter()
                .map(|one| (text(one, "/name"), one["value"].as_str().unwrap_or("192.0.2.1")))
                .collect();
            let mut used = Vec::new();
            let mut arguments = Vec::new();
            for argument in list(container, "/args") {
                let mut argument = argument.as_str().expect("a word").to_owned();
                for (name, value) in &given {
                    if argument.contains(&format!("$({name})")) {
                        used.push(*name);
                        argument = argument.replace(&format!("$({name})"), value);
                    }
                }
                assert!(!argument.contains("$("), "{overlay}: {argument} is not given");
                arguments.push(argument);
            }
            // With --help last, everything before it has been understood when the help is printed.
            let mut command = Command::new(agent_program());
            let output = command.args(&arguments).arg("--help").envs(&given).output().expect("run the agent");
            let help = String::from_utf8_lossy(&output.stdout).into_owned();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{overlay}: {arguments:?}: {said}");
            if container["args"][0] == "run" {
                for name in given.keys().filter(|name| !used.contains(name)) {
                    assert!(
                        help.contains(&format!("[env: {name}=")),
                        "{overlay}: {name} is not read\n{help}"
                    );
                }
            }
        }
    }
}

/// A `DaemonSet`'s probes are of no use where nothing listens.
#[test]
fn probes_ask_where_the_agent_answers() {
    for (overlay, set) in with_pods() {
        for container in list(&set, "/spec/template/spec/containers") {
            let bound = list(container, "/args").iter().filter_map(Value::as_str);
            let bound = bound.filter_map(|argument| argument.strip_prefix("--health-bind=")).next();
            // Without a host, kubelet takes the pod's address, which is the host's.
            let host = match bound {
                None => json!("127.0.0.1"),
                Some(bound) => {
                    assert_eq!(bound, "$(HOST_IP):29808", "{overlay}");
                    Value::Null
                }
            };
            for (probe, path) in
                [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")]
            {
                let asked = &container[probe]["httpGet"];
                assert_eq!((&asked["host"], &asked["port"]), (&host, &json!(29808)), "{overlay}: {probe}");
                assert_eq!(asked["path"], path, "{overlay}: {probe}");
            }
        }
    }
}
