//! The rights that are shipped: enough, and none too many.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use octavia_bridge_cluster_tests::{
    Access, Agent, Cluster, Fault, Mark, Page, Proxy, Range, Refusal, Rule, shipped_rights,
};
use serde_json::{Value, json};

const ACCOUNT: &str = "octavia-bridge-agent";

/// One right of the shipped roles.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Right {
    resource: String,
    verb: String,
    /// The namespace where a role has it, as it is shipped; none for a cluster's role.
    namespace: Option<String>,
}

fn rights(objects: &[Value]) -> Vec<Right> {
    let mut rights = Vec::new();
    for object in objects.iter().filter(|object| object["rules"].is_array()) {
        for rule in object["rules"].as_array().into_iter().flatten() {
            for resource in rule["resources"].as_array().into_iter().flatten() {
                for verb in rule["verbs"].as_array().into_iter().flatten() {
                    let [resource, verb] =
                        [resource, verb].map(|word| word.as_str().expect("a word").to_owned());
                    let namespace = object["metadata"]["namespace"].as_str().map(ToOwned::to_owned);
                    rights.push(Right { resource, verb, namespace });
                }
            }
        }
    }
    rights
}

/// Takes one right away.
fn without(objects: &mut [Value], right: &Right) {
    let has = |object: &Value| object["metadata"]["namespace"].as_str() == right.namespace.as_deref();
    for object in objects.iter_mut().filter(|object| has(object)) {
        let Some(rules) = object.get_mut("rules").and_then(Value::as_array_mut) else { continue };
        for rule in rules.iter_mut() {
            let of = rule["resources"].as_array().is_some_and(|all| all.contains(&json!(right.resource)));
            if let (true, Some(verbs)) = (of, rule["verbs"].as_array_mut()) {
                verbs.retain(|verb| *verb != *right.verb);
            }
        }
        rules.retain(|rule| rule["verbs"].as_array().is_some_and(|verbs| !verbs.is_empty()));
    }
}

/// Installs the objects as an overlay does that puts them into another namespace, and returns the account.
fn install(cluster: &Cluster, admin: &Access, objects: &[Value]) -> Access {
    let namespace = admin.namespace();
    for object in objects {
        // Every namespace of the tests has the lease.
        if object["kind"] == "Lease" {
            continue;
        }
        let mut object = object.clone();
        if object["metadata"]["namespace"] == "kube-system" {
            object["metadata"]["namespace"] = json!(namespace);
        } else {
            // What belongs to no namespace, or to `default`, needs a name of its own: tests run side by side.
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

/// An agent with an account, and all that happens around it in the life of a cluster.
struct Scene {
    admin: Access,
    agent: Agent,
    node: String,
    range: Range,
    _proxy: Proxy,
}

impl Scene {
    /// The `n`-th scene of this test binary, of an agent with the rights in `objects`.
    fn begin(n: usize, objects: &[Value]) -> Self {
        let cluster = Cluster::shared();
        let admin = cluster.namespace("rights");
        let account = install(cluster, &admin, objects);
        let node = format!("rights-{n}");
        cluster.node(&node);
        let proxy = Proxy::start(&account);
        // An answer that was lost: what was made is found when it is made again.
        let lost = Fault::RefuseAfter(Refusal::new(409));
        proxy.rule(Rule::on("POST", "/nodenetworkconfigurationenactments", lost).first(1));
        let agent = Agent::start_with(&proxy.access(), &node, &["--reclaim-grace", "1"]);
        let range = Range::of(&format!("10.30.{n}"), 10, 20);
        let scene = Self { admin, agent, node, range, _proxy: proxy };
        scene.leave_to_be_reclaimed(n);
        scene
    }

    /// What a node that is gone has left.
    fn leave_to_be_reclaimed(&self, n: usize) {
        let (api, admin) = ("whereabouts.cni.cncf.io/v1alpha1", &self.admin);
        let entry = json!({"id": "lost", "podref": "test/lost", "ifname": "net1"});
        let pool = json!({
            "apiVersion": api, "kind": "IPPool", "metadata": {"name": format!("10.31.{n}.0-24")},
            "spec": {"range": format!("10.31.{n}.0/24"), "allocations": {"7": entry}},
        });
        admin.create(&admin.whereabouts("ippools"), &pool);
        let annotations = json!({"octavia-bridge/node": "no-such-node", "octavia-bridge/pod-uid": "lost"});
        let reservation = json!({
            "apiVersion": api, "kind": "OverlappingRangeIPReservation",
            "metadata": {"name": format!("10.31.{n}.7"), "annotations": annotations},
            "spec": {"podref": "test/lost", "ifname": "net1", "containerid": "lost"},
        });
        admin.create(&admin.whereabouts("overlappingrangeipreservations"), &reservation);
    }

    /// Pods come and go, and so does a policy. What fails is tried again the next time.
    fn stir(&self) {
        let Self { agent, range, .. } = self;
        agent.claim(range, "container-1", "pod", &[]);
        // Asked again, as after a runtime's restart, it looks whether all is still there.
        agent.claim(range, "container-1", "pod", &[]);
        // The pod's sandbox died and is made anew.
        agent.claim(range, "container-2", "pod", &["container-1"]);
        // No DEL ever comes for this one.
        agent.claim(range, "container-3", "pod-that-vanished", &[]);
        agent.release("container-2");
        self.change_policy();
    }

    /// Makes a policy for this node, or deletes it when the agent has said how it stands.
    fn change_policy(&self) {
        let (admin, node) = (&self.admin, &self.node);
        let policies = "/apis/nmstate.io/v1/nodenetworkconfigurationpolicies";
        let bridge = json!({"name": format!("br-{node}"), "type": "linux-bridge", "state": "up"});
        let policy = json!({
            "apiVersion": "nmstate.io/v1", "kind": "NodeNetworkConfigurationPolicy", "metadata": {"name": node},
            "spec": {
                "nodeSelector": {"kubernetes.io/hostname": node}, "desiredState": {"interfaces": [bridge]},
            },
        });
        let seen = admin.call("GET", &format!("{policies}/{node}"), None);
        if seen.status == 404 {
            admin.create(policies, &policy);
        } else if seen.body["status"]["conditions"][0]["reason"] == "SuccessfullyConfigured" {
            admin.delete(&format!("{policies}/{node}"));
        }
    }

    /// The rights used since a moment, each once.
    fn used(&self, mark: Mark) -> Vec<(String, String)> {
        let user = format!("system:serviceaccount:{}:{ACCOUNT}", self.admin.namespace());
        let asked = Cluster::shared().audit().since(mark).into_iter().filter(|request| request.user == user);
        // Each account may ask what it may do.
        let asked = asked.filter(|request| request.resource != "selfsubjectaccessreviews");
        let used: BTreeSet<_> = asked.map(|request| (request.resource, request.verb)).collect();
        used.into_iter().collect()
    }
}

#[test]
fn with_the_shipped_rights_the_agent_does_everything() {
    let mark = Cluster::shared().audit().mark();
    let scene = Scene::begin(0, &shipped_rights());
    let mut shipped: Vec<(String, String)> =
        rights(&shipped_rights()).into_iter().map(|right| (right.resource, right.verb)).collect();
    shipped.sort();
    let mut used = Vec::new();
    let started = Instant::now();
    while used != shipped && started.elapsed() < Duration::from_secs(60) {
        scene.stir();
        used = scene.used(mark);
    }
    assert_eq!(used, shipped, "rights used and rights shipped differ\n{}", scene.agent.log());
    scene.agent.ready();
}

#[test]
fn each_right_is_needed_and_the_agent_names_the_one_that_is_missing() {
    let all = rights(&shipped_rights());
    assert!(all.len() >= 11, "{all:?}");
    for right in all.iter().filter(|right| right.verb == "create") {
        assert_ne!(right.resource, "leases", "a role cannot say which");
        let in_default = right.namespace.as_deref() == Some("default");
        assert_eq!(right.resource == "events", in_default, "{right:?}");
    }
    for (n, right) in all.iter().enumerate() {
        let mut objects = shipped_rights();
        without(&mut objects, right);
        let scene = Scene::begin(n + 1, &objects);
        let Right { resource, verb, namespace } = right;
        let place = match namespace.as_deref() {
            None => String::new(),
            Some("kube-system") => format!(" in {}", scene.admin.namespace()),
            Some(other) => format!(" in {other}"),
        };
        // No pod needs the report on the node, so its lack does not stop a roll-out.
        let (word, code) =
            if resource.starts_with("nodenetworkstates") { ("warn", 200) } else { ("wait", 503) };
        let named = format!("{word}  api      cannot {verb} {resource}{place}");
        // New roles are not in force at once, and then more is missing for a moment.
        scene.agent.wait(&format!("says nothing but: {named}"), |agent| {
            scene.stir();
            let Page { status, text } = agent.page("/readyz");
            let is_missing = |line: &&str| line.starts_with("wait  api") || line.starts_with("warn  api");
            let missing: Vec<&str> = text.lines().filter(is_missing).collect();
            (status == code && matches!(missing[..], [line] if line.starts_with(&named))).then_some(())
        });
        let words = [" WARN ", "403 Forbidden", verb, resource.split('/').next().unwrap_or_default()];
        scene.agent.wait(&format!("logs that it may not {verb} {resource}"), |agent| {
            agent.log().lines().any(|line| words.iter().all(|word| line.contains(word))).then_some(())
        });
    }
}

#[test]
fn an_account_whose_token_is_not_this_cluster_s_is_told_so() {
    let cluster = Cluster::shared();
    let admin = cluster.namespace("stranger");
    let agent = Agent::start(&admin.with_token("nobody's"), "node1");
    let named =
        "rejects this agent: 401 Unauthorized: the agent's token has expired or is not this cluster's";
    agent.wait("names the token", |agent| agent.page("/readyz").text.contains(named).then_some(()));
    let answer = agent.claim(&Range::of("10.21.0", 10, 20), "container", "pod", &[]);
    let message = answer["failed"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("401 Unauthorized"), "{answer}");
}
