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

/// A node that has the agents' label lost its agent, and has the plugin still.
#[test]
fn uninstalling_leaves_no_node_out() {
    for (overlay, set) in with_pods() {
        let pod = &set["spec"]["template"]["spec"];
        assert_eq!(pod.get("affinity").is_none(), overlay.ends_with("uninstall"), "{overlay}");
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

/// By a program and not by a port, and with patience for a node where many pods start at once.
#[test]
fn probes_run_what_the_agent_understands() {
    for (overlay, set) in with_pods() {
        for container in list(&set, "/spec/template/spec/containers") {
            for (probe, question) in
                [("startupProbe", "started"), ("livenessProbe", "live"), ("readinessProbe", "ready")]
            {
                let probe = &container[probe];
                let command = ["/octavia-bridge-agent", "health", question];
                assert_eq!(probe["exec"]["command"], json!(command), "{overlay}");
                assert!(probe["timeoutSeconds"].as_u64() >= Some(10), "{overlay}: {probe}");
                let understood =
                    Command::new(agent_program()).args([command[1], question, "--help"]).output();
                assert!(understood.is_ok_and(|output| output.status.success()), "{overlay}: {command:?}");
            }
            // It asks where the container's environment says, in a folder that the container has.
            let environment: BTreeMap<&str, &str> = list(container, "/env")
                .iter()
                .filter_map(|one| Some((text(one, "/name"), one["value"].as_str()?)))
                .collect();
            let run_dir = environment.get("RUN_DIR").copied().unwrap_or("/run/octavia-bridge");
            let socket = environment.get("HEALTH_SOCKET").map(|path| path.replace("$(RUN_DIR)", run_dir));
            let socket = socket.unwrap_or_else(|| "/run/octavia-bridge/health.sock".into());
            let mounts = list(container, "/volumeMounts").iter().map(|mount| text(mount, "/mountPath"));
            // Every pod has this one.
            let mut mounts = mounts.chain(["/dev/shm"]);
            assert!(mounts.any(|path| socket.starts_with(&format!("{path}/"))), "{overlay}: {socket}");
        }
    }
}
