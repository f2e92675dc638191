//! A real server takes all of it, as it is written.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use octavia_bridge_cluster_tests::{Access, Cluster, daemonset};
use serde_json::{Value, json};

use crate::{build, kustomizations, name};

/// The cluster, with the kinds and the namespaces that an administrator's has before. Overlays have objects of the same names,
/// so one test at a time applies them.
pub(crate) fn prepared() -> (MutexGuard<'static, ()>, &'static Access) {
    static PREPARED: OnceLock<&Access> = OnceLock::new();
    static ALONE: Mutex<()> = Mutex::new(());
    // A test that failed has nothing to say about the others.
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let admin = PREPARED.get_or_init(|| {
        let admin = Cluster::shared().admin();
        let kinds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/foreign-kinds.yaml");
        admin.kubectl(&["apply", "--filename", &kinds.display().to_string()]).ok();
        admin.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]).ok();
        for name in ["openshift-multus", "openstack"] {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            admin.apply(&namespace.to_string());
        }
        admin
    });
    (alone, admin)
}

/// Where `sent` says something that `stored` does not, which the server has dropped or changed.
fn lost(sent: &Value, stored: &Value, at: &str, found: &mut Vec<String>) {
    match (sent, stored) {
        (Value::Object(sent), Value::Object(stored)) => {
            for (key, value) in sent {
                lost(value, stored.get(key).unwrap_or(&Value::Null), &format!("{at}/{key}"), found);
            }
        }
        (Value::Array(sent), Value::Array(stored)) if sent.len() == stored.len() => {
            for (n, (sent, stored)) in sent.iter().zip(stored).enumerate() {
                lost(sent, stored, &format!("{at}/{n}"), found);
            }
        }
        // An empty list is not stored, nor is a `false` that is the default.
        (Value::Array(list), Value::Null) if list.is_empty() => {}
        (Value::Bool(false), Value::Null) => {}
        _ if sent == stored => {}
        _ => found.push(format!("{at}: {sent} became {stored}")),
    }
}

pub(crate) fn apply(admin: &Access, folder: &Path, further: &[&str]) -> String {
    let folder = folder.display().to_string();
    let said = admin.kubectl(&[&["apply", "--kustomize", &folder], further].concat());
    assert!(said.success, "{folder} {further:?}: {}{}", said.stdout, said.stderr);
    // What kubectl finds wrong but can do without.
    assert!(!said.stderr.contains("nknown field"), "{folder}: {}", said.stderr);
    said.stdout
}

#[test]
fn everything_is_taken_as_it_is_written_and_applied_again_changes_nothing() {
    let (_alone, admin) = prepared();
    for folder in kustomizations() {
        let overlay = name(&folder);
        // The kinds are another test's, which makes some of them another's.
        if overlay.starts_with("crds") || ["overlays/kubernetes", "overlays/k3s"].contains(&overlay.as_str())
        {
            continue;
        }
        apply(admin, &folder, &[]);
        for sent in build(&folder) {
            let stored = admin.get(&admin.path_of(&sent));
            let mut found = Vec::new();
            lost(&sent, &stored, "", &mut found);
            assert!(found.is_empty(), "{overlay}: {}: {found:#?}", admin.path_of(&sent));
        }
        let again = apply(admin, &folder, &[]);
        let changed: Vec<&str> = again.lines().filter(|line| !line.ends_with(" unchanged")).collect();
        assert!(changed.is_empty(), "{overlay}: {changed:?}");
        // By the server's own merge, which knows each field by its type and refuses those it does not know.
        apply(admin, &folder, &["--server-side", "--force-conflicts", "--dry-run=server"]);
    }
}

#[test]
fn the_account_has_its_rights_where_the_pools_are() {
    let (_alone, admin) = prepared();
    for (overlay, namespace, pools) in [
        ("overlays/k3s/without-crds", "kube-system", "kube-system"),
        ("overlays/openshift/without-crds", "octavia-bridge", "openshift-multus"),
    ] {
        apply(admin, &daemonset().join(overlay), &[]);
        let may = |in_namespace: &str| -> bool {
            let review = json!({
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SubjectAccessReview",
                "spec": {
                    "user": format!("system:serviceaccount:{namespace}:octavia-bridge-agent"),
                    "resourceAttributes": {
                        "namespace": in_namespace, "group": "whereabouts.cni.cncf.io",
                        "resource": "ippools", "verb": "patch",
                    },
                },
            });
            admin.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", &review)["status"]["allowed"]
                == true
        };
        let started = Instant::now();
        // A new role takes a moment.
        while !may(pools) {
            assert!(started.elapsed().as_secs() < 60, "{overlay}: no right to the pools in {pools}");
            thread::sleep(Duration::from_millis(50));
        }
        assert!(!may("openstack"), "{overlay}: a right to pools anywhere");
    }
}

/// An overlay with kinds, on a cluster that has one of them in another version.
#[test]
fn kinds_that_are_there_stay_as_they_are() {
    let (_alone, admin) = prepared();
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/ippools.whereabouts.cni.cncf.io";
    let further = json!([{
        "op": "add",
        "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/further",
        "value": {"type": "string"},
    }]);
    admin.call("PATCH", path, Some(&further)).expect(200);
    let before = admin.get(path)["spec"].clone();

    let created = admin.kubectl(&["create", "--kustomize", &daemonset().join("crds").display().to_string()]);
    assert!(!created.success);
    assert_eq!(created.stderr.matches("AlreadyExists").count(), 6, "{}", created.stderr);

    let overlay = daemonset().join("overlays/kubernetes").display().to_string();
    let said = admin.kubectl(&["apply", "--server-side", "--kustomize", &overlay]);
    assert!(!said.success, "{}", said.stdout);
    assert!(said.stderr.contains("conflict"), "{}", said.stderr);
    assert!(said.stdout.contains("daemonset.apps/octavia-bridge-agent"), "the rest: {}", said.stdout);
    assert_eq!(admin.get(path)["spec"], before);
}

/// A merge that left something of the agent before, such as `CNI_BIN_DIR`, would have the plugin installed again.
#[test]
fn uninstalling_replaces_the_agent_by_one_that_has_nothing_of_the_node() {
    let (_alone, admin) = prepared();
    let path = "/apis/apps/v1/namespaces/kube-system/daemonsets/octavia-bridge-agent";
    let [agents, uninstall] =
        ["without-crds", "uninstall"].map(|part| daemonset().join("overlays/kubernetes").join(part));
    // As docs/install.md says it, after an installation in either way.
    let by_server: &[&str] = &["--server-side", "--force-conflicts"];
    for installed in [&[], by_server] {
        admin.call("DELETE", path, None);
        apply(admin, &agents, installed);
        apply(admin, &uninstall, by_server);
        let pod = &admin.get(path)["spec"]["template"]["spec"];
        let agent = &pod["containers"][0];
        assert_eq!(agent["args"][0], "run", "{installed:?}: {pod}");
        let env = json!([{"name": "HEALTH_SOCKET", "value": "/dev/shm/octavia-bridge/health.sock"}]);
        assert_eq!(agent["env"], env, "{installed:?}: {pod}");
        assert_eq!(agent["volumeMounts"].as_array().map(Vec::len), Some(2), "{installed:?}: {pod}");
        assert_eq!(
            agent["securityContext"]["capabilities"],
            json!({"drop": ["ALL"]}),
            "{installed:?}: {pod}"
        );
        assert_eq!(pod["initContainers"][0]["args"][0], "uninstall", "{installed:?}: {pod}");
        // Somebody thinks better of it.
        apply(admin, &agents, by_server);
        let pod = &admin.get(path)["spec"]["template"]["spec"];
        assert!(pod.get("initContainers").is_none(), "{installed:?}: {pod}");
        assert_eq!(pod["volumes"].as_array().map(Vec::len), Some(6), "{installed:?}: {pod}");
    }
}
