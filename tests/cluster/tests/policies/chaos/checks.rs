//! What has to be so when all is quiet, and why it is not.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use super::others;
use super::policies::NAMES;
use super::world::{STATES, World};
use crate::scene::{conditions, program};

impl World<'_> {
    /// What the policies say and is not in force.
    pub(super) fn undone(&self) -> Option<String> {
        let in_force = self.in_force();
        self.policies.amiss(&in_force).or_else(|| self.amiss(&in_force))
    }

    /// What was in force at the last quiet point and is not any more.
    pub(super) fn given_up(&self) -> Option<String> {
        let in_force = self.in_force();
        self.policies.given_up(&in_force).or_else(|| self.amiss(&in_force))
    }

    /// A policy whose status is not the sum over all nodes, which is this one.
    pub(super) fn unsummed(&self) -> Option<String> {
        for (name, (_, is_right)) in &self.policies.present {
            let wanted = if *is_right { "SuccessfullyConfigured" } else { "FailedToConfigure" };
            // As text: one that is nested too deep is not read here.
            let policy = self.scene.policy(name).to_string();
            if !policy.contains(wanted) {
                return Some(format!("the status of {name} is not {wanted}: {policy}"));
            }
        }
        None
    }

    /// The node's present uid.
    fn uid(&self) -> Value {
        self.scene.admin.get(&format!("/api/v1/nodes/{}", self.node.name))["metadata"]["uid"].clone()
    }

    /// A file of the agent's.
    fn read(&self, name: &str) -> Value {
        let text = fs::read_to_string(self.node.file("state/agent").join(name)).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// The states that the agent keeps, by the policies' names.
    pub(super) fn in_force(&self) -> BTreeMap<&'static str, Value> {
        let kept = self.read("desired.json");
        let policies: Vec<Value> = kept["policies"].as_array().cloned().unwrap_or_default();
        let documents = policies.iter().filter_map(|text| text["yaml"].as_str());
        let documents: Vec<Value> =
            documents.filter_map(|document| serde_json::from_str(document).ok()).collect();
        let mut states = BTreeMap::new();
        for name in NAMES {
            let is_it = |document: &&Value| document["metadata"]["name"] == self.scene.called(name);
            if let Some(document) = documents.iter().find(is_it) {
                states.insert(name, document["spec"]["desiredState"].clone());
            }
        }
        states
    }

    /// Why the links are not as the states in force say, or the plugin does not know of them.
    fn amiss(&self, in_force: &BTreeMap<&'static str, Value>) -> Option<String> {
        let now = others::belongings(&others::OWN, |words| self.node.ip(words));
        assert_eq!(now, self.foreign, "what belongs to others has changed");
        if in_force.is_empty() {
            return None;
        }
        if in_force.contains_key("octavia") {
            for pod in &self.pods {
                let link = self.node.link(pod).expect("nobody deletes pods");
                let up = link["flags"].as_array().is_some_and(|flags| flags.contains(&"UP".into()));
                if link["master"] != "octbr" || !up {
                    return Some(format!("{pod} is not up in octbr: {link}"));
                }
            }
            if self.read("bridges.json")["bridges"]["octbr"] != json!(["enp6s0"]) {
                return Some("bridges.json does not tell the plugin of octbr".into());
            }
        }
        let mut documents = Vec::new();
        for (name, state) in in_force {
            let document = json!({
                "apiVersion": "nmstate.io/v1", "kind": "NodeNetworkConfigurationPolicy",
                "metadata": {"name": name}, "spec": {"desiredState": state},
            });
            documents.push(document.to_string());
        }
        let file = self.node.file("in-force.yaml");
        fs::write(&file, documents.join("\n---\n")).expect("write the policies");
        let mut plan = self.node.inside(&program());
        plan.args(["plan", "--check", "--all-policies", "-f"]).arg(file);
        plan.arg("--state-dir").arg(self.node.file("state"));
        let output = plan.output().expect("run plan");
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        (!output.status.success()).then(|| format!("plan: {}", said.concat()))
    }

    /// What the API is not told, or not told any more.
    pub(super) fn untold(&self) -> Option<String> {
        let uid = self.uid();
        for name in NAMES {
            let enactment = self.scene.enactment(&self.node, name);
            let Some((_, is_right)) = self.policies.present.get(name) else {
                if let Some(surplus) = enactment {
                    return Some(format!("{name} has an enactment and does not exist: {surplus}"));
                }
                continue;
            };
            let Some(enactment) = enactment else { return Some(format!("{name} has no enactment")) };
            let wanted = if *is_right { "Available" } else { "Failing" };
            let told = conditions(&enactment);
            let is_said = told.iter().any(|[name, status, ..]| name == wanted && status == "True");
            let is_owned = enactment["metadata"]["ownerReferences"][0]["uid"] == uid;
            let generation = &self.scene.policy(name)["metadata"]["generation"];
            // A policy that is nested too deep for these tests is text.
            let is_of_now = generation.is_null() || enactment["status"]["policyGeneration"] == *generation;
            if !(is_said && is_owned && is_of_now) {
                return Some(format!(
                    "{name} (generation {generation}) of node {uid} is not {wanted}: {enactment}"
                ));
            }
        }
        let state = self.scene.admin.call("GET", &format!("{STATES}/{}", self.node.name), None);
        let is_gone = self.state_is_deleted && state.status == 404;
        if !is_gone && state.body["metadata"]["ownerReferences"][0]["uid"] != uid {
            return Some(format!("node {uid} has no state: {}", state.body["metadata"]));
        }
        let (is_ready, said) = self.node.is_ready();
        (!is_ready).then(|| format!("readiness: {said}"))
    }
}
