//! What the objects of the API say of each node. Pure.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use octavia_bridge_ipam::allocate::usage;
use octavia_bridge_ipam::pool::Pool;
use serde_json::{Map, Value};

use super::{Overview, Row};
use crate::commands::networks::{NetworkRange, RangeUse};

/// A state that was not written for so long, in seconds, was not written by an agent at work: that writes every 300 s.
const STALE: i64 = 600;
/// How the agent's name for itself begins in a state.
const WRITER: &str = "octavia-bridge-agent ";

/// Objects as the server has them.
#[derive(Debug, Default)]
pub(super) struct Objects {
    pub(super) nodes: Vec<Value>,
    /// The nodes' `NodeNetworkState` objects.
    pub(super) states: Vec<Value>,
    pub(super) enactments: Vec<Value>,
    /// Where the agents are; `None` if it is not known.
    pub(super) namespace: Option<String>,
    /// The agents', of their namespace only.
    pub(super) daemon_sets: Vec<Value>,
    /// Pods of the same namespace.
    pub(super) pods: Vec<Value>,
    pub(super) pools: Vec<Value>,
    pub(super) ranges: Vec<NetworkRange>,
}

impl Objects {
    pub(super) fn judge(&self, now: Timestamp) -> Overview {
        let mut rows = BTreeMap::new();
        for node in &self.nodes {
            let name = text(node, "/metadata/name");
            rows.insert(name, Row { node: name.to_owned(), ..Row::default() });
        }
        let pods: Vec<&Value> = self.pods.iter().filter(|pod| self.is_agent(pod)).collect();
        for pod in &pods {
            if let Some(row) = rows.get_mut(text(pod, "/spec/nodeName")) {
                row.wrong.extend(pod_fault(pod));
            }
        }
        for state in &self.states {
            if let Some(row) = rows.get_mut(text(state, "/metadata/name")) {
                take_state(row, state, now);
            }
        }
        for enactment in &self.enactments {
            // A node's name may have dots, a policy's as well: only a label or the policy's name tells.
            let name = text(enactment, "/metadata/name");
            let policy = text(enactment, "/metadata/labels/nmstate.io~1policy");
            let node = name.strip_suffix(policy).and_then(|name| name.strip_suffix('.'));
            if let Some(row) = node.and_then(|node| rows.get_mut(node)) {
                take_enactment(row, policy, enactment);
            }
        }
        for (name, row) in &mut rows {
            let has_pod = pods.iter().any(|pod| text(pod, "/spec/nodeName") == *name);
            let has_state = self.states.iter().any(|state| text(state, "/metadata/name") == *name);
            match (has_pod, has_state) {
                (true, false) => row.wrong.push(
                    "the agent has not written a NodeNetworkState: see its log, and whether the CRD is installed"
                        .into(),
                ),
                (false, false) => row.notes.push("no agent runs on this node".into()),
                (_, true) => {}
            }
        }
        for node in &self.nodes {
            let name = text(node, "/metadata/name");
            let has_pod = pods.iter().any(|pod| text(pod, "/spec/nodeName") == name);
            if text(node, "/metadata/labels/octavia-bridge.io~1agent") == "disabled" && !has_pod {
                // What the last agent wrote of the node is old, and meant to be.
                let notes = vec!["no agent runs on this node: label octavia-bridge.io/agent=disabled".into()];
                rows.insert(name, Row { node: name.to_owned(), notes, ..Row::default() });
            }
        }
        let mut overview = Overview { nodes: rows.into_values().collect(), ..Overview::default() };
        for one in &self.daemon_sets {
            take_daemon_set(&mut overview, one);
        }
        match &self.namespace {
            Some(namespace) if self.daemon_sets.is_empty() => {
                overview.cluster.push(format!("there is no DaemonSet {namespace}/octavia-bridge-agent"));
            }
            Some(_) => {}
            None => overview.cluster.push(
                "the agents' pods are not known: there is no ClusterRoleBinding octavia-bridge-agent, and no --agent-namespace"
                    .into(),
            ),
        }
        if pods.is_empty() && overview.nodes.iter().all(|row| row.version.is_none()) {
            overview.wrong.push("no node runs an agent".into());
        }
        for pool in &self.pools {
            let used = pool.pointer("/spec/allocations").and_then(Value::as_object).map_or(0, Map::len);
            let addresses = if used == 1 { "address" } else { "addresses" };
            overview
                .cluster
                .push(format!("pool {}: {used} {addresses} in use", text(pool, "/metadata/name")));
        }
        overview.cluster.extend(self.fill().iter().map(|range| format!("range: {range}")));
        overview
    }

    /// How full the networks' ranges are. One whose pool does not exist yet is empty; a damaged pool says nothing.
    fn fill(&self) -> Vec<RangeUse> {
        let mut fill = Vec::new();
        for network in &self.ranges {
            if let Some(pools) = self.pools_of(network) {
                let usage = usage(network.range(), &network.pool, pools.iter(), &network.inquiry.reserved);
                fill.push(network.used(&usage));
            }
        }
        fill
    }

    /// The pools whose entries count in the range; `None` if one of them is damaged.
    fn pools_of(&self, network: &NetworkRange) -> Option<Vec<Pool>> {
        let mut pools = Vec::new();
        for object in &self.pools {
            let name = text(object, "/metadata/name");
            let is_own = name == network.pool;
            let Some(subnet) = network.subnet_of(name) else { continue };
            match Pool::parse(name, object.to_string().as_bytes()) {
                Ok(pool) if pool.subnet() == subnet => pools.push(pool),
                // Another domain's pool may have a name that reads as one of this domain. Its range tells.
                Ok(_) if !is_own => {}
                _ => return None,
            }
        }
        Some(pools)
    }

    /// Whether one of the `DaemonSet` objects controls the pod. Its labels prove nothing.
    fn is_agent(&self, pod: &Value) -> bool {
        for owner in list(pod, "/metadata/ownerReferences") {
            if owner["controller"] == true {
                let uid = text(owner, "/uid");
                return !uid.is_empty()
                    && self.daemon_sets.iter().any(|one| text(one, "/metadata/uid") == uid);
            }
        }
        false
    }
}

/// Why the agent's pod does not run, if it does not.
fn pod_fault(pod: &Value) -> Option<String> {
    let conditions = list(pod, "/status/conditions");
    let is_ready = conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True");
    if is_ready {
        return None;
    }
    let mut why = text(pod, "/status/phase");
    for container in list(pod, "/status/containerStatuses") {
        if let Some(reason) = container.pointer("/state/waiting/reason").and_then(Value::as_str) {
            why = reason;
        }
    }
    Some(format!("its agent, pod {}, is not ready ({why})", text(pod, "/metadata/name")))
}

fn take_state(row: &mut Row, state: &Value, now: Timestamp) {
    row.interfaces = state.pointer("/status/currentState/interfaces").and_then(Value::as_array).map(Vec::len);
    let Some(version) = text(state, "/status/handlerNmstateVersion").strip_prefix(WRITER) else {
        row.notes
            .push("another program, such as kubernetes-nmstate, writes this node's NodeNetworkState".into());
        return;
    };
    row.version = Some(version.to_owned());
    let written = text(state, "/status/lastSuccessfulUpdateTime").parse::<Timestamp>();
    let age = written.map_or(i64::MAX, |written| now.as_second().saturating_sub(written.as_second()));
    if age > STALE {
        row.wrong.push(format!(
            "the agent wrote last at {}: it does not run, or does not reach the API server",
            text(state, "/status/lastSuccessfulUpdateTime")
        ));
    }
    let mut degraded = false;
    for condition in list(state, "/status/conditions") {
        let message = text(condition, "/message");
        if condition["status"] != "True" || message.is_empty() {
            continue;
        }
        // The same message stands with both if both are true.
        if condition["type"] == "Degraded" {
            degraded = true;
            row.wrong.push(message.to_owned());
        }
    }
    if !degraded {
        let messages = list(state, "/status/conditions").iter().map(|one| text(one, "/message"));
        row.notes.extend(messages.filter(|message| !message.is_empty()).map(str::to_owned));
    }
}

fn take_enactment(row: &mut Row, policy: &str, enactment: &Value) {
    let (done, all) = row.policies.unwrap_or_default();
    let conditions = list(enactment, "/status/conditions");
    let told = conditions.iter().find(|one| one["status"] == "True");
    let is_done = told.is_some_and(|one| one["type"] == "Available");
    row.policies = Some((done + usize::from(is_done), all + 1));
    if !is_done {
        let message = told.map_or("nothing is known of it", |one| text(one, "/message"));
        row.wrong.push(format!("policy {policy}: {message}"));
    }
}

fn take_daemon_set(overview: &mut Overview, one: &Value) {
    let number = |key: &str| one.pointer(key).and_then(Value::as_i64).unwrap_or(0);
    let (desired, ready, updated) = (
        number("/status/desiredNumberScheduled"),
        number("/status/numberReady"),
        number("/status/updatedNumberScheduled"),
    );
    let name = format!("{}/{}", text(one, "/metadata/namespace"), text(one, "/metadata/name"));
    let line = format!("DaemonSet {name}: {ready} of {desired} agents ready, {updated} up to date");
    if ready < desired || updated < desired {
        overview.wrong.push(line);
    } else {
        overview.cluster.push(line);
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

#[cfg(test)]
mod tests;
