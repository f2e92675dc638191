//! Files and the cluster's policies into one state, and which policies cannot be part of it.
//!
//! Age decides, as it does among routes of the Gateway API: where two policies want different things, the older one is
//! followed and the younger one is refused, on every node the same. Files come before all policies, since they are this
//! node's own. What a refused policy last had in force stays so, as far as the others allow.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::objects::Policy;
use crate::node::desired::{self, Choice, Desired, ORIGIN_IN_CLUSTER, Problems, Text};
use crate::node::state::Kept;

/// The annotation of a policy by which a user asks for another try of one that cut the node off; any new value does.
pub(crate) const RETRY_ANNOTATION: &str = "octavia-bridge.io/retry";

/// A policy that selects this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) name: String,
    pub(crate) version: Version,
    /// Without its selector: it was followed already.
    pub(crate) text: Text,
    created: String,
    /// The value of its annotation by which a user asks for another try.
    retry: Option<String>,
    /// Why it is refused, whatever else there is: it could not be read.
    unreadable: Option<String>,
}

/// Which state of which policy: one that was deleted may have had the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) uid: String,
    pub(crate) generation: i64,
}

/// One state of everything that is wanted.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    pub(crate) kept: Kept,
    pub(crate) desired: Desired,
    /// Why policies are not part of it, by their names.
    pub(crate) refused: BTreeMap<String, String>,
}

/// What one policy asks for, to find out what concerns it.
#[derive(Debug, Default)]
pub(crate) struct Part {
    names: BTreeSet<String>,
    routes: BTreeSet<String>,
    /// What of it is not acted on.
    pub(crate) left_alone: Vec<String>,
}

impl Candidate {
    pub(super) fn new(policy: &Policy) -> Self {
        let metadata = &policy.metadata;
        let mut spec = policy.spec.clone();
        if let Value::Object(fields) = &mut spec {
            fields.shift_remove("nodeSelector");
            // One that wants nothing is a policy, too.
            let state = fields.entry("desiredState").or_insert(Value::Null);
            if state.is_null() {
                *state = json!({});
            }
        }
        let document = json!({
            "apiVersion": "nmstate.io/v1",
            "kind": "NodeNetworkConfigurationPolicy",
            "metadata": { "name": metadata.name },
            "spec": spec,
        });
        Self {
            name: metadata.name.clone(),
            version: Version { uid: metadata.uid.clone(), generation: metadata.generation },
            text: Text {
                origin: format!("{ORIGIN_IN_CLUSTER}{}", metadata.name),
                yaml: document.to_string(),
            },
            created: metadata.creation_timestamp.clone(),
            retry: metadata.annotations.get(RETRY_ANNOTATION).cloned(),
            unreadable: policy.unreadable.as_ref().map(|why| format!("the policy cannot be read: {why}")),
        }
    }

    /// One that was kept, as long as the API has not listed it.
    pub(crate) fn kept(text: Text) -> Self {
        let name = text.origin.strip_prefix(ORIGIN_IN_CLUSTER).unwrap_or(&text.origin).to_owned();
        let version = Version { uid: String::new(), generation: 0 };
        Self { name, version, text, created: String::new(), retry: None, unreadable: None }
    }

    /// Its exact version: another spec, another policy of this name, or another wish to try it is another one.
    pub(crate) fn identity(&self) -> String {
        let Self { name, version, retry, .. } = self;
        format!(
            "policy {name} {} {} {}",
            version.uid,
            version.generation,
            retry.as_deref().unwrap_or_default()
        )
    }

    /// The wish to try it again.
    pub(crate) fn wish(&self) -> Option<String> {
        self.retry.as_ref().map(|retry| format!("{}={retry}", self.name))
    }

    /// Older ones first. Two of the same second have the order of their names.
    pub(super) fn by_age(&self, other: &Self) -> Ordering {
        (&self.created, &self.name).cmp(&(&other.created, &other.name))
    }

    /// The bridges that it names, with their ports, whatever is wrong with it.
    pub(crate) fn bridges(&self) -> BTreeMap<String, Vec<String>> {
        desired::bridges(&self.text, &Choice::default())
    }

    /// What it asks for by itself.
    pub(crate) fn part(&self, choice: &Choice) -> Part {
        let Ok(desired) = desired::read_any([&self.text], choice) else { return Part::default() };
        Part {
            names: desired.interfaces.into_iter().map(|interface| interface.name).collect(),
            routes: desired
                .routes
                .iter()
                .filter_map(|route| route.destination)
                .map(|to| to.to_string())
                .collect(),
            left_alone: desired.left_alone,
        }
    }
}

impl Part {
    /// Whether it asks for this interface, or for the route that the plan calls so.
    pub(crate) fn asks_for(&self, what: &str) -> bool {
        self.names.contains(what)
            || what.strip_prefix("route to ").is_some_and(|destination| self.routes.contains(destination))
    }
}

/// Merges `files` with policies, the oldest first, but for those that are `held` back for a reason. `good` is what is
/// in force.
///
/// # Errors
/// Files that are wrong by themselves.
pub(crate) fn merge(
    files: &Kept,
    policies: &[&Candidate],
    held: &BTreeMap<String, String>,
    good: &[Text],
) -> Result<Merged, Problems> {
    let texts = || policies.iter().map(|policy| &policy.text);
    if held.is_empty()
        && policies.iter().all(|policy| policy.unreadable.is_none())
        && let Ok(desired) = desired::read_any(files.texts.iter().chain(texts()), &files.choice)
    {
        let kept = Kept { policies: texts().cloned().collect(), ..files.clone() };
        return Ok(Merged { kept, desired, refused: BTreeMap::new() });
    }
    if let Some(merged) = without_the_wrong(files, policies, held, good) {
        return Ok(merged);
    }
    // Two disagree: which?
    let mut desired = desired::read_any(&files.texts, &files.choice)?;
    let mut kept = Kept { policies: Vec::new(), ..files.clone() };
    let mut refused = BTreeMap::new();
    for policy in policies {
        let why = policy.unreadable.as_ref().or_else(|| held.get(&policy.name)).cloned();
        let tried =
            why.map_or_else(|| with(&kept, &policy.text).map_err(|problems| problems.to_string()), Err);
        let accepted = match tried {
            Ok(all) => Some((&policy.text, all)),
            Err(why) => {
                refused.insert(policy.name.clone(), why);
                let before = good.iter().find(|text| text.origin == policy.text.origin);
                before.and_then(|text| Some((text, with(&kept, text).ok()?)))
            }
        };
        if let Some((text, all)) = accepted {
            desired = all;
            kept.policies.push(text.clone());
        }
    }
    Ok(Merged { kept, desired, refused })
}

/// What is kept and one more text, as one state.
fn with(kept: &Kept, text: &Text) -> Result<Desired, Problems> {
    desired::read_any(kept.all().chain([text]), &kept.choice)
}

/// All but the policies that are wrong by themselves, whatever the others ask for, if that is one state. Each text is read twice: the
/// search for two that disagree reads all texts again for each.
fn without_the_wrong(
    files: &Kept,
    policies: &[&Candidate],
    held: &BTreeMap<String, String>,
    good: &[Text],
) -> Option<Merged> {
    let mut kept = Kept { policies: Vec::new(), ..files.clone() };
    let mut refused = BTreeMap::new();
    for policy in policies {
        let known = policy.unreadable.as_ref().or_else(|| held.get(&policy.name)).cloned();
        let alone =
            || desired::read_any([&policy.text], &files.choice).err().map(|problems| problems.to_string());
        match known.or_else(alone) {
            None => kept.policies.push(policy.text.clone()),
            Some(why) => {
                refused.insert(policy.name.clone(), why);
                let before = good.iter().find(|text| text.origin == policy.text.origin);
                kept.policies.extend(before.cloned());
            }
        }
    }
    let desired = desired::read_any(kept.all(), &files.choice).ok()?;
    Some(Merged { kept, desired, refused })
}

#[cfg(test)]
mod tests {
    use rustix::time::{ClockId, clock_gettime};

    use super::*;
    use crate::cluster::policies::objects::ObjectMeta;

    fn policy(name: &str, created: u32, interfaces: &Value) -> Candidate {
        Candidate::new(&Policy {
            metadata: ObjectMeta {
                name: name.into(),
                uid: format!("uid-of-{name}"),
                generation: 1,
                creation_timestamp: format!("2026-01-01T00:00:{created:02}Z"),
                ..ObjectMeta::default()
            },
            spec: json!({
                "nodeSelector": {"node-role.kubernetes.io/worker": ""},
                "desiredState": {"interfaces": interfaces},
            }),
            ..Policy::default()
        })
    }

    #[test]
    fn one_that_cannot_be_read_is_refused_by_its_name_and_the_others_are_merged() {
        let good = policy("good", 1, &bridge("br-good", 1500));
        let mut deep = policy("deep", 2, &Value::Null);
        deep.unreadable = Some("the policy cannot be read: recursion limit exceeded".into());
        let later = policy("later", 3, &bridge("br-later", 1500));
        let merged = together(&Kept::default(), &[&good, &deep, &later], &[]);
        assert_eq!(names(&merged), ["br-good", "br-later"]);
        assert_eq!(merged.refused.keys().collect::<Vec<_>>(), ["deep"]);
        assert!(merged.refused["deep"].contains("recursion limit"));
        // What it had in force before stays.
        let before = policy("deep", 2, &bridge("br-deep", 1500)).text;
        let merged = together(&Kept::default(), &[&good, &deep], &[before]);
        assert_eq!(names(&merged), ["br-good", "br-deep"]);
    }

    fn bridge(name: &str, mtu: u32) -> Value {
        json!([{"name": name, "type": "linux-bridge", "mtu": mtu, "bridge": {"port": []}}])
    }

    fn together(files: &Kept, policies: &[&Candidate], good: &[Text]) -> Merged {
        merge(files, policies, &BTreeMap::new(), good).unwrap()
    }

    fn names(merged: &Merged) -> Vec<&str> {
        merged.desired.interfaces.iter().map(|interface| interface.name.as_str()).collect()
    }

    fn file(interfaces: &Value) -> Kept {
        let yaml = json!({"interfaces": interfaces}).to_string();
        Kept { texts: vec![Text { origin: "octavia.yaml".into(), yaml }], ..Kept::default() }
    }

    #[test]
    fn files_and_policies_are_one_state_and_survive_being_kept() {
        let [b, c] = [policy("b", 1, &bridge("br-b", 1400)), policy("c", 2, &bridge("br-c", 1400))];
        let merged = together(&file(&bridge("br-a", 1400)), &[&b, &c], &[]);
        assert_eq!(names(&merged), ["br-a", "br-b", "br-c"]);
        assert!(merged.refused.is_empty(), "{:?}", merged.refused);
        // As the next start reads it, who knows no label of the node.
        let kept: Kept = serde_json::from_str(&serde_json::to_string(&merged.kept).unwrap()).unwrap();
        assert_eq!(desired::read(kept.all(), &kept.choice).unwrap(), merged.desired);
    }

    #[test]
    fn the_younger_of_two_that_disagree_is_refused_and_told_of_the_other() {
        let old = policy("z-old", 1, &bridge("octbr", 1400));
        let young = policy("a-young", 2, &bridge("octbr", 1500));
        let other = policy("other", 3, &bridge("br-c", 1400));
        assert_eq!(young.by_age(&old), Ordering::Greater);
        let merged = together(&Kept::default(), &[&old, &young, &other], &[]);
        assert_eq!(names(&merged), ["octbr", "br-c"]);
        assert_eq!(merged.desired.interfaces[0].mtu, Some(1400));
        let told: Vec<_> = merged.refused.into_iter().collect();
        let text = "a-young: interfaces[0]: octbr is declared differently by z-old: interfaces[0]";
        assert_eq!(told, [("a-young".to_owned(), text.to_owned())]);
    }

    #[test]
    fn a_file_is_older_than_every_policy() {
        let policy = policy("octavia", 1, &bridge("octbr", 1500));
        let merged = together(&file(&bridge("octbr", 1400)), &[&policy], &[]);
        assert_eq!(merged.desired.interfaces[0].mtu, Some(1400));
        let text = &merged.refused["octavia"];
        assert!(text.ends_with("octbr is declared differently by octavia.yaml: interfaces[0]"), "{text}");
    }

    #[test]
    fn two_that_agree_are_no_conflict() {
        let [a, b] = ["a", "b"].map(|name| policy(name, 1, &bridge("octbr", 1500)));
        let merged = together(&Kept::default(), &[&a, &b], &[]);
        assert!(merged.refused.is_empty() && names(&merged) == ["octbr"], "{:?}", merged.refused);
    }

    #[test]
    fn a_wrong_policy_is_refused_with_all_its_problems_and_what_it_had_in_force_stays() {
        let good = policy("octavia", 1, &bridge("octbr", 1400));
        let wrong = policy(
            "octavia",
            1,
            &json!([{"name": "octbr", "type": "ovs-bridge"}, {"name": "br-b", "mtu": 1}]),
        );
        let other = policy("other", 2, &bridge("br-c", 1400));
        let merged = together(&Kept::default(), &[&wrong, &other], std::slice::from_ref(&good.text));
        assert_eq!(names(&merged), ["octbr", "br-c"]);
        assert_eq!(merged.kept.policies, [good.text, other.text.clone()]);
        let text = &merged.refused["octavia"];
        assert!(text.contains("octavia: interfaces[0].type: ovs-bridge: not supported"), "{text}");
        assert!(text.contains("octavia: interfaces[1].mtu: 1 is out of bounds"), "{text}");
        // With nothing in force before, nothing is touched.
        assert_eq!(names(&together(&Kept::default(), &[&wrong, &other], &[])), ["br-c"]);
    }

    /// Processor time of merging so many policies, of which one is wrong: on a busy machine the clock says something else.
    fn cost_beside_a_wrong_one(count: u32) -> std::time::Duration {
        let now = || std::time::Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
        let mut all: Vec<_> =
            (0..count).map(|n| policy(&format!("p{n}"), n % 60, &bridge(&format!("br{n}"), 1500))).collect();
        all.push(policy("wrong", 59, &json!("x")));
        let all: Vec<_> = all.iter().collect();
        let began = now();
        let merged = together(&Kept::default(), &all, &[]);
        let cost = now() - began;
        assert_eq!(merged.refused.keys().collect::<Vec<_>>(), ["wrong"]);
        assert_eq!(merged.desired.interfaces.len(), usize::try_from(count).unwrap());
        cost
    }

    #[test]
    fn one_wrong_policy_does_not_have_all_others_read_again_for_each() {
        let (few, many) = (cost_beside_a_wrong_one(25), cost_beside_a_wrong_one(100));
        assert!(many < few * 9, "{few:?} and {many:?}");
    }

    #[test]
    fn one_that_is_held_back_gives_way_to_what_it_had_in_force() {
        let before = policy("octavia", 1, &bridge("octbr", 1400));
        let now = policy("octavia", 1, &bridge("octbr", 1500));
        let held = BTreeMap::from([("octavia".to_owned(), "the kernel says no".to_owned())]);
        let merged = merge(&Kept::default(), &[&now], &held, std::slice::from_ref(&before.text)).unwrap();
        assert_eq!((merged.kept.policies, merged.refused), (vec![before.text], held));
    }

    #[test]
    fn what_was_in_force_gives_way_to_an_older_policy() {
        let before = policy("young", 2, &bridge("octbr", 1400));
        let wrong = policy("young", 2, &json!([{}]));
        let old = policy("old", 1, &bridge("octbr", 1500));
        let merged = together(&Kept::default(), &[&old, &wrong], &[before.text]);
        assert_eq!(merged.desired.interfaces[0].mtu, Some(1500));
        assert_eq!(merged.kept.policies, [old.text]);
    }

    #[test]
    fn a_policy_that_wants_nothing_is_none_the_worse() {
        let mut empty = Policy::default();
        empty.metadata.name = "empty".into();
        for spec in [json!({}), json!({"desiredState": null}), json!({"desiredState": {"interfaces": []}})] {
            empty.spec = spec;
            let merged = together(&Kept::default(), &[&Candidate::new(&empty)], &[]);
            assert!(merged.refused.is_empty() && merged.desired == Desired::default(), "{merged:?}");
        }
    }

    #[test]
    fn what_is_missing_concerns_who_asked_for_it() {
        let mut both = Policy::default();
        both.metadata.name = "routed".into();
        both.spec = json!({"desiredState": {
            "interfaces": bridge("octbr", 1500),
            "routes": {"config": [
                {"destination": "172.24.0.0/16", "next-hop-interface": "octbr", "next-hop-address": "172.23.0.150"}
            ]},
            "dns-resolver": {"config": {}},
        }});
        let part = Candidate::new(&both).part(&Choice::default());
        assert!(part.asks_for("octbr") && part.asks_for("route to 172.24.0.0/16"), "{part:?}");
        assert!(!part.asks_for("enp6s0") && !part.asks_for("route to 10.0.0.0/8"));
        assert_eq!(part.left_alone.len(), 1, "{part:?}");
    }
}
