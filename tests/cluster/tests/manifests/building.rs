//! Kustomize puts everything where it belongs, and nothing anywhere else.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use octavia_bridge_cluster_tests::daemonset;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{PLACEHOLDER, build, document, kustomizations, list, name, text, with_pods};

#[test]
fn nothing_is_left_open() {
    for folder in kustomizations() {
        for object in build(&folder) {
            assert!(!object.to_string().contains(PLACEHOLDER), "{}: {object}", name(&folder));
        }
    }
}

/// Kustomize's selectors may match less than they seem to, or more, and neither is an error.
#[test]
fn each_setting_goes_to_its_places_and_to_no_others() {
    let copy = TempDir::new().expect("make a folder");
    let copied = Command::new("cp").arg("--recursive").arg(daemonset()).arg(copy.path()).status();
    assert!(copied.is_ok_and(|status| status.success()), "copy daemonset/");
    let overlay = copy.path().join("daemonset/overlays/kubernetes/without-crds");
    let mut settings = document(&overlay.join("settings.yaml"));
    let data = settings["data"].as_object_mut().expect("settings");
    for (key, value) in data.iter_mut() {
        *value = json!(format!("/the-{key}-of-this-test"));
    }
    let keys: Vec<String> = data.keys().cloned().collect();
    std::fs::write(overlay.join("settings.yaml"), settings.to_string()).expect("write the settings");
    let built: String = build(&overlay).iter().map(Value::to_string).collect();

    let component = document(&daemonset().join("components/settings/kustomization.yaml"));
    let replacements = list(&component, "/replacements");
    assert_eq!(replacements.len(), keys.len(), "each setting is used");
    for key in keys {
        let of_key = |r: &&Value| r["source"]["fieldPath"] == json!(format!("data.{key}"));
        let replacement = replacements.iter().find(of_key).unwrap_or_else(|| panic!("{key} is used nowhere"));
        let places: usize =
            list(replacement, "/targets").iter().map(|target| list(target, "/fieldPaths").len()).sum();
        let found = built.matches(&format!("/the-{key}-of-this-test")).count();
        assert_eq!(found, places, "{key}: {built}");
    }
}

/// The server of the tests is too old for its kinds; `tests/admission.rs` evaluates it.
#[test]
fn the_admission_component_reads_the_lease_where_the_overlay_puts_it() {
    let copy = TempDir::new().expect("make a folder");
    let copied = Command::new("cp").arg("--recursive").arg(daemonset()).arg(copy.path()).status();
    assert!(copied.is_ok_and(|status| status.success()), "copy daemonset/");
    for (flavour, pools) in [("kubernetes", "kube-system"), ("openshift", "openshift-multus")] {
        let folder = copy.path().join("daemonset/overlays").join(format!("bound-{flavour}"));
        std::fs::create_dir(&folder).expect("make an overlay");
        let kustomization = json!({
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "resources": [format!("../{flavour}/without-crds")],
            "components": ["../../components/admission"],
        });
        std::fs::write(folder.join("kustomization.yaml"), kustomization.to_string()).expect("write it");
        let objects = build(&folder);
        let lease = objects.iter().find(|object| object["kind"] == "Lease").expect("the lease");
        assert_eq!(lease["metadata"]["namespace"], pools, "{flavour}");
        let bindings = objects.iter().filter(|object| object["kind"] == "ValidatingAdmissionPolicyBinding");
        let read: Vec<&Value> = bindings.filter_map(|binding| binding["spec"].get("paramRef")).collect();
        assert_eq!(read.len(), 1, "{flavour}");
        assert_eq!(
            (&read[0]["name"], &read[0]["namespace"]),
            (&lease["metadata"]["name"], &lease["metadata"]["namespace"]),
            "{flavour}"
        );
    }
}

/// What the agent writes for another program has to get to the host.
#[test]
fn directories_of_other_programs_are_mounted_where_the_agent_writes() {
    let copy = TempDir::new().expect("make a folder");
    let copied = Command::new("cp").arg("--recursive").arg(daemonset()).arg(copy.path()).status();
    assert!(copied.is_ok_and(|status| status.success()), "copy daemonset/");
    let folder = copy.path().join("daemonset/overlays/others");
    std::fs::create_dir(&folder).expect("make an overlay");
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["../kubernetes/without-crds"],
        "components": ["../../components/network-manager", "../../components/networkd"],
    });
    std::fs::write(folder.join("kustomization.yaml"), kustomization.to_string()).expect("write it");
    let objects = build(&folder);
    let agent = objects.iter().find(|object| object["kind"] == "DaemonSet").expect("the agents");
    let (pod, container) = ("/spec/template/spec", "/spec/template/spec/containers/0");
    let named = |at: &str, key: &str, value: &str| -> Value {
        let found = list(agent, at).iter().find(|entry| entry[key] == value);
        found.unwrap_or_else(|| panic!("{value} is not among {at}")).clone()
    };
    for (variable, host) in
        [("NETWORK_MANAGER_DIR", "/etc/NetworkManager/conf.d"), ("NETWORKD_DIR", "/etc/systemd/network")]
    {
        let place = named(&format!("{container}/env"), "name", variable)["value"].clone();
        let mount = named(&format!("{container}/volumeMounts"), "mountPath", place.as_str().expect("a path"));
        let volume = named(&format!("{pod}/volumes"), "name", mount["name"].as_str().expect("a name"));
        assert_eq!(volume["hostPath"]["path"], host);
        assert_ne!(mount["readOnly"], true);
    }
}

/// A patch with a selector that matches nothing is no error to kustomize.
#[test]
fn patches_by_selector_are_of_something_that_exists() {
    let base = build(&daemonset().join("base"));
    let components = std::fs::read_dir(daemonset().join("components")).expect("read the components");
    let mut seen = 0;
    let files = components.map(|entry| entry.expect("an entry").path().join("kustomization.yaml"));
    for file in files.chain(kustomizations().iter().map(|folder| folder.join("kustomization.yaml"))) {
        for patch in list(&document(&file), "/patches") {
            let Some(target) = patch.get("target") else { continue };
            if target.get("name").is_none() {
                // For all objects of a kind that an overlay may have or not: the CRDs that uninstalling leaves out.
                assert_eq!(*target, json!({"kind": "CustomResourceDefinition"}), "{}", file.display());
                continue;
            }
            let matches = |object: &&Value| {
                object["kind"] == target["kind"] && object["metadata"]["name"] == target["name"]
            };
            assert!(base.iter().any(|object| matches(&object)), "{}: {target}", file.display());
            seen += 1;
        }
    }
    assert!(seen >= 3, "{seen} patches");
}

#[test]
fn the_image_is_this_version_s_and_named_once() {
    let ours = format!("ghcr.io/octavia-bridge/octavia-bridge:{}", env!("CARGO_PKG_VERSION"));
    for (overlay, set) in with_pods() {
        let expected = match overlay.as_str() {
            "examples/own-overlay" | "examples/own-uninstall" => {
                format!("registry.example.com/octavia-bridge:{}", env!("CARGO_PKG_VERSION"))
            }
            _ => ours.clone(),
        };
        for containers in ["/spec/template/spec/containers", "/spec/template/spec/initContainers"] {
            for container in list(&set, containers) {
                assert_eq!(text(container, "/image"), expected, "{overlay}");
            }
        }
    }
}

/// `kubectl delete -k` deletes what it names: everything that was installed, but no CRD, with which all pools would go.
#[test]
fn what_an_own_overlay_installs_its_uninstallation_deletes() {
    let of = |folder: &str| -> BTreeSet<String> {
        let objects = build(&daemonset().join(folder));
        let words = |object: &Value| format!("{} {}", object["kind"], object["metadata"]["name"]);
        objects.iter().map(words).collect()
    };
    let (mut installed, deleted) = (of("examples/own-overlay"), of("examples/own-uninstall"));
    let definitions = installed.len();
    installed.retain(|object| !object.contains("CustomResourceDefinition"));
    assert_eq!(definitions - installed.len(), 3, "its CRDs");
    for kind in ["Lease", "PodMonitor", "PrometheusRule", "ConfigMap"] {
        assert!(installed.iter().any(|object| object.contains(kind)), "{kind}: {installed:?}");
    }
    installed.insert("\"ConfigMap\" \"octavia-bridge-nothing\"".to_owned());
    assert_eq!(deleted, installed);
}

#[test]
fn the_kinds_are_those_of_one_folder_each() {
    let kinds = |folder: &str| -> Vec<String> {
        let objects = build(&daemonset().join(folder));
        let definitions = objects.iter().filter(|object| object["kind"] == "CustomResourceDefinition");
        definitions.map(|object| text(object, "/metadata/name").to_owned()).collect()
    };
    let (both, whereabouts, nmstate) = (kinds("crds"), kinds("crds/whereabouts"), kinds("crds/nmstate"));
    assert_eq!((whereabouts.len(), nmstate.len(), both.len()), (3, 3, 6));
    for flavour in ["kubernetes", "k3s"] {
        let mut all = kinds(&format!("overlays/{flavour}"));
        all.sort();
        assert_eq!(
            all,
            {
                let mut both = both.clone();
                both.sort();
                both
            },
            "{flavour}"
        );
    }
    assert_eq!(kinds("overlays/openshift"), nmstate, "OpenShift brings whereabouts' kinds");
    for flavour in ["kubernetes", "k3s", "openshift"] {
        for part in ["without-crds", "uninstall"] {
            assert_eq!(kinds(&format!("overlays/{flavour}/{part}")), [""; 0], "{flavour}/{part}");
        }
    }
    let file = |folder: &str| Path::new(folder).join("kustomization.yaml");
    assert!(daemonset().join(file("crds")).is_file());
}
