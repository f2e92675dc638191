//! Texts that are kept and that this release refuses, as after a rollback: the kept file may be their only copy, and pods
//! wait for their bridges. If that file cannot be read at all, pods still wait for the bridges, and the texts are lost.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use octavia_bridge_ipam::causes::chain;
use octavia_bridge_ipam::state_file;
use serde::{Deserialize, Serialize};

use super::bridges::{origins, shown};
use super::{Error, Kept, NotInForce, State, failed, write_synced};
use crate::node::desired::{Choice, ORIGIN_IN_CLUSTER, Text};
use crate::sha256;

/// Of the reason that the plugin tells, in characters: it becomes an event of a pod.
const LONGEST_WHY: usize = 500;

/// Takes the place of the origins if the texts are lost.
const LOST: &str = "kept in desired.json";

/// Written back as they are, and read by each process that starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refused {
    /// None if they are lost.
    texts: Vec<Text>,
    choice: Choice,
    why: String,
    /// Their bridges with the ports, as the release that understood them told the plugin.
    bridges: BTreeMap<String, Vec<String>>,
    /// Bridges of lost policies of the cluster.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    of_cluster: BTreeSet<String>,
}

impl Refused {
    /// As if only its policies of the cluster were lost. None if there are none.
    fn policies(&self) -> Option<Box<Self>> {
        let mut bridges = self.bridges.clone();
        bridges.retain(|name, _| self.of_cluster.contains(name));
        if bridges.is_empty() {
            return None;
        }
        Some(Box::new(Self { texts: Vec::new(), bridges, ..self.clone() }))
    }
}

/// What the plugin was told last, as far as it concerns bridges of files.
#[derive(Debug, Default, Deserialize)]
struct Told {
    #[serde(default)]
    policy: String,
    bridges: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    origins: BTreeMap<String, String>,
    #[serde(default)]
    not_in_force: Vec<NotInForce>,
}

impl Told {
    /// Whether only policies of the cluster had this bridge.
    fn is_of_cluster(&self, bridge: &str) -> bool {
        if let Some(refused) = self.not_in_force.iter().find(|refused| refused.bridges.contains_key(bridge)) {
            return refused.of_cluster;
        }
        let origins = self.origins.get(bridge).unwrap_or(&self.policy);
        origins.split(", ").all(|origin| origin.starts_with(ORIGIN_IN_CLUSTER))
    }
}

/// A reason in one line, and not longer than an event may be.
pub(crate) fn in_one_line(why: &str) -> String {
    let lines: Vec<&str> = why.lines().collect();
    lines.join("; ").chars().take(LONGEST_WHY).collect()
}

impl Kept {
    /// With the refused texts among the others, to be read once more.
    pub(crate) fn restored(mut self) -> Self {
        if let Some(refused) = self.refused.take_if(|refused| !refused.texts.is_empty()) {
            self.refused = refused.policies();
            (self.texts, self.choice) = (refused.texts, refused.choice);
        }
        self
    }

    /// Why the files' texts are lost, with the bridges for which pods wait because of that.
    pub(crate) fn lost(&self) -> Option<(&str, &BTreeMap<String, Vec<String>>)> {
        let refused = self.refused.as_ref().filter(|refused| refused.texts.is_empty())?;
        Some((&refused.why, &refused.bridges))
    }

    /// For the plugin: the refused texts, with those of their bridges that are not among the `others`, which are kept.
    pub(crate) fn not_in_force(&self, others: &BTreeSet<&str>) -> Option<NotInForce> {
        let Refused { texts, why, bridges, .. } = self.refused.as_deref()?;
        let policy = if texts.is_empty() { LOST.to_owned() } else { origins(texts) };
        let mut bridges = bridges.clone();
        bridges.retain(|name, _| !others.contains(name.as_str()));
        Some(NotInForce { policy, of_cluster: false, why: in_one_line(why), bridges })
    }

    /// Of what is lost, only the bridges that policies of the cluster had: files have taken the place of the texts.
    pub(crate) fn lost_policies(&self) -> Option<Box<Refused>> {
        self.refused.as_ref()?.policies()
    }

    /// Leaves out the bridges that lost policies of the cluster had: the API has told which policies there are.
    pub(crate) fn forget_lost_policies(&mut self) {
        let Some(refused) = &mut self.refused else { return };
        for bridge in mem::take(&mut refused.of_cluster) {
            refused.bridges.remove(&bridge);
        }
        self.refused.take_if(|refused| refused.texts.is_empty() && refused.bridges.is_empty());
    }
}

impl State {
    /// Takes the texts of `kept` as refused. None if there are none.
    pub(crate) fn refuse(&self, kept: &Kept, why: &str) -> Option<Box<Refused>> {
        let why = why.to_owned();
        let Kept { texts, choice, refused, .. } = kept;
        if texts.is_empty() {
            return refused.as_ref().map(|refused| Box::new(Refused { why, ..Refused::clone(refused) }));
        }
        let mut bridges = self.told_of(texts);
        let mut of_cluster = BTreeSet::new();
        if let Some(lost) = kept.lost_policies() {
            bridges.extend(lost.bridges);
            of_cluster = lost.of_cluster;
        }
        let (texts, choice) = (texts.clone(), choice.clone());
        Some(Box::new(Refused { texts, choice, why, bridges, of_cluster }))
    }

    /// What the plugin was told of a kept state that cannot be read. None if it waits for no bridge.
    pub(super) fn lost(&self, error: &Error) -> Option<Kept> {
        let told = self.told();
        let of_cluster = told.bridges.keys().filter(|name| told.is_of_cluster(name)).cloned().collect();
        let bridges = told.bridges;
        let why =
            format!("{}; apply it again from its file, or write it as a policy of the cluster", chain(error));
        let refused = Refused { texts: Vec::new(), choice: Choice::default(), why, bridges, of_cluster };
        let refused = Some(Box::new(refused)).filter(|refused| !refused.bridges.is_empty())?;
        Some(Kept { refused: Some(refused), ..Kept::default() })
    }

    /// # Errors
    /// Those of writing; then the next process finds the file that cannot be read.
    pub(super) fn write_lost(&self, lost: &Kept) -> Result<(), Error> {
        let path = self.kept_path();
        let attempt = format!("write {}", path.display());
        let text = serde_json::to_vec_pretty(lost).map_err(|cause| failed(&attempt)(cause.into()))?;
        self.changing(&path, Some(sha256::hex(&text)), || write_synced(&path, &text).map_err(failed(attempt)))
    }

    /// Bridges of these texts that the plugin was told of last.
    fn told_of(&self, texts: &[Text]) -> BTreeMap<String, Vec<String>> {
        let Told { mut bridges, origins, not_in_force, .. } = self.told();
        bridges.retain(|name, _| {
            // Of one origin only, it is not named.
            let is_ours =
                origins.get(name).is_none_or(|origin| texts.iter().any(|text| shown(text) == origin));
            // Of these texts themselves, a part may not have been brought about.
            let is_others = |refused: &NotInForce| {
                refused.bridges.contains_key(name)
                    && !texts.iter().any(|text| refused.policy.split(", ").any(|one| one == shown(text)))
            };
            is_ours && !not_in_force.iter().any(is_others)
        });
        bridges
    }

    /// Nothing where the file cannot be read.
    fn told(&self) -> Told {
        let text = state_file::read(&self.promise_path(), state_file::LONGEST).ok();
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn bridges_of_refused_texts_are_those_that_no_policy_of_the_cluster_has() {
        let folder = TempDir::new().unwrap();
        let state = State::lock(folder.path()).unwrap();
        let texts = vec![Text { origin: "-".into(), yaml: "interfaces: 1".into() }];
        let kept = Kept { texts, ..Kept::default() };
        assert!(state.refuse(&kept, "wrong").unwrap().bridges.is_empty());
        assert_eq!(state.refuse(&Kept::default(), "wrong"), None);
        let told = r#"{"version": 1, "policy": "standard input, policy b",
            "bridges": {"octbr": ["enp6s0"], "br-b": [], "br-c": []},
            "origins": {"octbr": "standard input", "br-b": "policy b"},
            "not_in_force": [{"policy": "c", "why": "", "bridges": {"br-c": []}},
                             {"policy": "standard input", "why": "", "bridges": {"octbr": ["enp6s0"]}}]}"#;
        fs::write(state.promise_path(), told).unwrap();
        let refused = state.refuse(&kept, "one\ntwo");
        let kept = Kept { refused, ..Kept::default() };
        let told = kept.not_in_force(&BTreeSet::new()).unwrap();
        assert_eq!((told.policy.as_str(), told.why.as_str()), ("standard input", "one; two"));
        assert_eq!(told.bridges, BTreeMap::from([("octbr".to_owned(), vec!["enp6s0".to_owned()])]));
        assert!(kept.not_in_force(&BTreeSet::from(["octbr"])).unwrap().bridges.is_empty());
        // The next process knows the bridges from the kept file, and reads the texts again.
        fs::remove_file(state.promise_path()).unwrap();
        let again = state.refuse(&kept, "three").unwrap();
        assert_eq!(again.bridges.len(), 1);
        assert_eq!(kept.restored().texts, again.texts);
    }

    #[test]
    fn lost_bridges_are_found_again_where_they_could_not_be_written() {
        let folder = TempDir::new().unwrap();
        let state = State::lock(folder.path()).unwrap();
        fs::write(state.promise_path(), r#"{"policy": "a.yaml", "bridges": {"octbr": []}}"#).unwrap();
        fs::write(state.kept_path(), "{").unwrap();
        let in_the_way = state.kept_path().with_extension("json.new");
        fs::create_dir(&in_the_way).unwrap();
        assert!(state.kept().unwrap().lost().is_some());
        drop(state);
        let state = State::lock(folder.path()).unwrap();
        assert!(state.kept().unwrap().lost().is_some());
        fs::remove_dir(in_the_way).unwrap();
        assert!(state.kept().unwrap().lost().is_some());
        assert!(State::peek(folder.path()).unwrap().unwrap().lost().is_some());
        assert_eq!(fs::read(state.kept_path().with_extension("json.bad")).unwrap(), b"{");
    }

    #[test]
    fn lost_bridges_of_policies_of_the_cluster_are_told_from_those_of_files() {
        let folder = TempDir::new().unwrap();
        let state = State::lock(folder.path()).unwrap();
        let left = |told: &str| {
            fs::write(state.promise_path(), told).unwrap();
            fs::write(state.kept_path(), "{").unwrap();
            assert!(state.kept().unwrap().lost().is_some());
            // As the next process reads it.
            let mut kept = state.kept().unwrap();
            kept.forget_lost_policies();
            kept.lost().map(|(_, bridges)| bridges.keys().cloned().collect::<Vec<_>>()).unwrap_or_default()
        };
        let none: [&str; 0] = [];
        assert_eq!(left(r#"{"policy": "policy a", "bridges": {"octbr": []}}"#), none);
        assert_eq!(left(r#"{"policy": "policy a, policy b", "bridges": {"octbr": []}}"#), none);
        assert_eq!(left(r#"{"policy": "a.yaml", "bridges": {"octbr": []}}"#), ["octbr"]);
        let told = r#"{"policy": "standard input, policy b", "bridges": {"a": [], "b": [], "c": [], "d": [], "e": []},
            "origins": {"a": "standard input", "b": "policy b"},
            "not_in_force": [{"policy": "c", "of_cluster": true, "why": "", "bridges": {"c": []}},
                             {"policy": "d.yaml", "why": "", "bridges": {"d": []}}]}"#;
        assert_eq!(left(told), ["a", "d", "e"]);
        // Beside texts of files, also refused ones.
        let mut kept = state.kept().unwrap();
        kept.texts = vec![Text { origin: "f.yaml".into(), yaml: "interfaces: 1".into() }];
        kept.refused = state.refuse(&Kept { refused: kept.lost_policies(), ..kept.clone() }, "wrong");
        kept.texts.clear();
        let bridges =
            |kept: &Kept| kept.refused.as_ref().unwrap().bridges.keys().cloned().collect::<String>();
        assert!(kept.lost().is_none());
        assert_eq!(bridges(&kept), "bce");
        let read_again = kept.clone().restored();
        assert_eq!((read_again.texts.len(), bridges(&read_again)), (1, "bc".to_owned()));
        kept.forget_lost_policies();
        assert_eq!(bridges(&kept), "e");
    }
}
