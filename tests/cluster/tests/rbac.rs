//! The rights that are shipped: enough, and none too many.

use std::fs;
use std::path::Path;

use octavia_bridge_cluster_tests::{Access, Agent, Cluster, Page, Range};
use serde_json::{Value, json};

const ACCOUNT: &str = "octavia-bridge-agent";

/// The objects of `daemonset/rbac`.
fn shipped() -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../daemonset/rbac");
    let read = |name: &str| {
        let file = folder.join(name);
        fs::read_to_string(&file).unwrap_or_else(|e| panic!("read {}: {e}", file.display()))
    };
    let list: Value = serde_saphyr::from_str(&read("kustomization.yaml")).expect("a kustomization");
    let files = list["resources"].as_array().expect("its resources").iter();
    let objects = files.flat_map(|file| {
        let objects: Vec<Value> = serde_saphyr::from_multiple(&read(file.as_str().expect("a file's name")))
            .expect("objects in YAML");
        objects
    });
    objects.collect()
}

/// One right of the shipped roles.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Right {
    resource: String,
    verb: String,
    /// A right within the namespace of the pools.
    namespaced: bool,
}

fn rights(objects: &[Value]) -> Vec<Right> {
    let mut rights = Vec::new();
    for object in objects.iter().filter(|object| object["rules"].is_array()) {
        for rule in object["rules"].as_array().into_iter().flatten() {
            for resource in rule["resources"].as_array().into_iter().flatten() {
                for verb in rule["verbs"].as_array().into_iter().flatten() {
                    let [resource, verb] =
                        [resource, verb].map(|word| word.as_str().expect("a word").to_owned());
                    rights.push(Right { resource, verb, namespaced: object["kind"] == "Role" });
                }
            }
        }
    }
    rights
}

/// Takes one right away.
fn without(objects: &mut [Value], right: &Right) {
    let kind = if right.namespaced { "Role" } else { "ClusterRole" };
    for object in objects.iter_mut().filter(|object| object["kind"] == kind) {
        for rule in object.get_mut("rules").and_then(Value::as_array_mut).into_iter().flatten() {
            let of = rule["resources"].as_array().is_some_and(|all| all.contains(&json!(right.resource)));
            if let (true, Some(verbs)) = (of, rule["verbs"].as_array_mut()) {
                verbs.retain(|verb| *verb != *right.verb);
            }
        }
    }
}

/// Installs the objects as an overlay does that puts them into another namespace, and returns the account.
fn install(cluster: &Cluster, admin: &Access, objects: &[Value]) -> Access {
    let namespace = admin.namespace();
    for object in objects {
        let mut object = object.clone();
        if object["metadata"]["namespace"] == "kube-system" {
            object["metadata"]["namespace"] = json!(namespace);
        } else {
            // What belongs to no namespace needs a name of its own: tests run side by side.
            object["metadata"]["name"] = json!(format!("{ACCOUNT}-{namespace}"));
            if let Some(role) = object.get_mut("roleRef") {
                role["name"] = json!(format!("{ACCOUNT}-{namespace}"));
            }
        }
        for subject in object.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
            subject["namespace"] = json!(namespace);
        }
        admin.apply(&object.to_string());
    }
    cluster.service_account(namespace, ACCOUNT)
}

/// All that an agent does for the pods of its node, in an order in which each step needs the one before.
const STEPS: [fn(&Agent, &Range) -> Value; 5] = [
    |agent, range| agent.claim(range, "container-1", "pod", &[]),
    // Asked again, as after a runtime's restart, it looks whether all is still there.
    |agent, range| agent.claim(range, "container-1", "pod", &[]),
    // The pod's sandbox died and is made anew.
    |agent, range| agent.claim(range, "container-2", "pod", &["container-1"]),
    |agent, range| agent.claim(range, "container-3", "other-pod", &[]),
    |agent, _| agent.release("container-2"),
];

fn works(agent: &Agent, range: &Range) {
    for (n, step) in STEPS.iter().enumerate() {
        agent.wait(&format!("does step {n}"), |agent| {
            let answer = step(agent, range);
            (answer["assigned"].is_array() || answer["released"] == 1).then_some(())
        });
    }
}

#[test]
fn with_the_shipped_rights_the_agent_does_everything() {
    let cluster = Cluster::shared();
    let admin = cluster.namespace("rights");
    let account = install(cluster, &admin, &shipped());
    let mark = cluster.audit().mark();
    let agent = Agent::start(&account, "node1");
    agent.ready();
    works(&agent, &Range::of("10.20.0", 10, 20));
    agent.ready();
    let asked = cluster.audit().since(mark);
    let user = format!("system:serviceaccount:{}:{ACCOUNT}", admin.namespace());
    let mut used: Vec<(String, String)> = asked
        .into_iter()
        .filter(|request| request.user == user)
        .map(|request| (request.resource, request.verb))
        .collect();
    used.sort();
    used.dedup();
    let mut shipped: Vec<(String, String)> =
        rights(&shipped()).into_iter().map(|right| (right.resource, right.verb)).collect();
    shipped.sort();
    assert_eq!(used, shipped, "rights used and rights shipped differ");
}

#[test]
fn each_right_is_needed_and_the_agent_names_the_one_that_is_missing() {
    let cluster = Cluster::shared();
    let all = rights(&shipped());
    assert!(all.len() >= 11, "{all:?}");
    for (n, right) in all.iter().enumerate() {
        let admin = cluster.namespace("right");
        let mut objects = shipped();
        without(&mut objects, right);
        let account = install(cluster, &admin, &objects);
        let agent = Agent::start(&account, "node1");
        let range = Range::of(&format!("10.30.{n}"), 10, 20);
        let Right { resource, verb, namespaced } = right;
        let place = if *namespaced { format!(" in {}", admin.namespace()) } else { String::new() };
        let named = format!("wait  api      cannot {verb} {resource}{place}: 403 Forbidden");
        // New roles are not in force at once, and then more is missing for a moment.
        agent.wait(&format!("says nothing but {named}"), |agent| {
            for step in STEPS {
                step(agent, &range);
            }
            let Page { status, text } = agent.page("/readyz");
            let missing: Vec<&str> = text.lines().filter(|line| line.starts_with("wait  api")).collect();
            (status == 503 && matches!(missing[..], [line] if line.starts_with(&named))).then_some(())
        });
        let log = agent.log();
        let logged = log.lines().any(|line| {
            line.contains("WARN")
                && line.contains("403 Forbidden")
                && line.contains(resource)
                && line.contains(verb)
        });
        assert!(logged, "the log does not say that the agent may not {verb} {resource}\n{log}");
    }
}

#[test]
fn an_account_whose_token_is_not_this_cluster_s_is_told_so() {
    let cluster = Cluster::shared();
    let admin = cluster.namespace("stranger");
    let agent = Agent::start(&admin.with_token("nobody's"), "node1");
    let named =
        "does not know this agent: 401 Unauthorized: the agent's token has expired or is not this cluster's";
    agent.wait("names the token", |agent| agent.page("/readyz").text.contains(named).then_some(()));
    let answer = agent.claim(&Range::of("10.21.0", 10, 20), "container", "pod", &[]);
    let message = answer["failed"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("401 Unauthorized"), "{answer}");
}
