//! The policies of one node, as the API has them, and what of them may be in force.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::chance::Chance;
use super::policy;
use crate::scene::Scene;

/// What they are called; each has links of its own.
pub(super) const NAMES: [&str; 3] = ["octavia", "second", "nic"];

#[derive(Default)]
pub(super) struct Policies {
    /// What the API has, and whether it is right.
    pub(super) present: BTreeMap<&'static str, (Value, bool)>,
    /// What may be in force where what the API has is refused; null for nothing.
    possible: BTreeMap<&'static str, Vec<Value>>,
    /// What was in force at the last quiet point; null for nothing.
    settled: BTreeMap<&'static str, Value>,
}

/// A state for the links of the policy of this name.
fn random(name: &str, chance: &mut Chance) -> Value {
    let yaml = match name {
        "octavia" => octbr(chance),
        "second" => format!("interfaces:\n{}", policy::ospbr(chance)),
        _ => format!("interfaces:\n{}", policy::nic(chance)),
    };
    serde_saphyr::from_str(&yaml).expect("a policy is YAML")
}

/// The same made unreadable: by an unknown key or type, a number that is too large, or a depth.
fn spoilt(state: &Value, chance: &mut Chance) -> Value {
    let mut state = state.clone();
    let interface = &mut state["interfaces"][0];
    match chance.below(4) {
        0 => interface["warp"] = json!(9),
        1 => interface["type"] = json!("ovs-bridge"),
        2 => interface["mtu"] = json!(1),
        _ => interface["warp"] = (0..200).fold(json!(1), |inner, _| json!([inner])),
    }
    state
}

impl Policies {
    /// One more, or another one, or one less.
    pub(super) fn change(&mut self, scene: &Scene, chance: &mut Chance) -> String {
        let name = *chance.of(&NAMES);
        let is_present = self.present.contains_key(name);
        if is_present && chance.one_in(4) {
            scene.delete(name);
            self.present.remove(name);
            self.may_be(name, Value::Null);
            return format!("{name} is deleted");
        }
        let (mut state, is_right) = (random(name, chance), !chance.one_in(4));
        if !is_right {
            state = spoilt(&state, chance);
        }
        self.put(scene, name, state, is_right);
        let how = if is_right { "" } else { ", and cannot be read" };
        format!("{name} is {}{how}", if is_present { "changed" } else { "created" })
    }

    /// Creates the first one.
    pub(super) fn begin(&mut self, scene: &Scene, chance: &mut Chance) {
        let state = random("octavia", chance);
        self.put(scene, "octavia", state, true);
    }

    fn put(&mut self, scene: &Scene, name: &'static str, state: Value, is_right: bool) {
        if self.present.contains_key(name) {
            let patch = json!([{"op": "replace", "path": "/spec/desiredState", "value": state}]);
            scene.admin.call("PATCH", &scene.path(name), Some(&patch)).expect(200);
        } else {
            scene.post_state(name, &state);
        }
        if is_right {
            self.may_be(name, state.clone());
        }
        self.present.insert(name, (state, is_right));
    }

    fn may_be(&mut self, name: &'static str, state: Value) {
        self.possible.entry(name).or_insert_with(|| vec![Value::Null]).push(state);
    }

    /// What was in force may be forgotten.
    pub(super) fn may_be_forgotten(&mut self) {
        for name in NAMES {
            self.may_be(name, Value::Null);
        }
    }

    /// Why what is in force, by name, is not what the policies say.
    pub(super) fn amiss(&self, in_force: &BTreeMap<&'static str, Value>) -> Option<String> {
        for name in NAMES {
            let now = in_force.get(name).unwrap_or(&Value::Null);
            let is_so = match self.present.get(name) {
                Some((state, true)) => now == state,
                Some((_, false)) => self.possible.get(name).map_or(now.is_null(), |all| all.contains(now)),
                None => now.is_null(),
            };
            if !is_so {
                return Some(format!("{name} in force: {now}, wanted: {:?}", self.present.get(name)));
            }
        }
        None
    }

    /// Why what is in force is not what was at the last quiet point.
    pub(super) fn given_up(&self, in_force: &BTreeMap<&'static str, Value>) -> Option<String> {
        for (name, before) in &self.settled {
            let now = in_force.get(name).unwrap_or(&Value::Null);
            if now != before {
                return Some(format!("{name} in force: {now}, at the last quiet point: {before}"));
            }
        }
        None
    }

    /// This is in force, and nothing else.
    pub(super) fn settle(&mut self, in_force: &BTreeMap<&'static str, Value>) {
        for name in NAMES {
            let state = in_force.get(name).cloned().unwrap_or_default();
            self.possible.insert(name, vec![state.clone()]);
            self.settled.insert(name, state);
        }
    }
}

/// A policy of `octbr` over `enp6s0`, perhaps with an address and a route.
fn octbr(chance: &mut Chance) -> String {
    let address = *chance.of(&["", "172.24.0.1", "172.24.0.2"]);
    let mtu = *chance.of(&["1500", "1400"]);
    let text = format!("interfaces:\n{}", policy::bridge(chance, "octbr", "enp6s0", mtu, address));
    let is_routed = !address.is_empty() && chance.one_in(2);
    text + &policy::config(if is_routed { &[policy::ROUTE] } else { &[] })
}
