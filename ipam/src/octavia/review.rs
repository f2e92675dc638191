//! A definition, what surrounds it, and what a review of it says.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::operator::{self, Reading};
use super::{growth, mistakes};
use crate::address::{Span, bits, merge};
use crate::conf::{Ipam, served_block};
use crate::document::{self, FieldError, Object};
use crate::range::Range;

/// Pods of a node with an address of the range: Open vSwitch, health manager, housekeeping, worker and rsyslog.
pub(super) const PODS_OF_A_NODE: u128 = 5;
/// Predictable addresses of a node: its health manager's and its rsyslog pod's.
const PREDICTABLE_OF_A_NODE: u128 = 2;

/// A network definition as far as it is looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Definition {
    /// `metadata.name`; empty for a configuration without an object around it.
    pub name: String,
    /// The kinds of `metadata.ownerReferences`.
    pub owners: Vec<String>,
    /// `spec.config`, JSON.
    pub config: String,
}

/// What is known of the cluster that the definition is for.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The bridges that policies name. `None` if no policy is known.
    pub bridges: Option<BTreeSet<String>>,
    /// How many nodes run Octavia's pods.
    pub nodes: Option<u128>,
    /// How many nodes the cluster has; without a `nodeSelector`, Octavia's pods run on all of them.
    pub cluster_nodes: Option<u128>,
    /// `range_end` before the range grew.
    pub former_range_end: Option<IpAddr>,
    /// Predictable addresses in use, from the operator's `ConfigMap` `octavia-hmport-map`.
    pub predictable_in_use: Vec<IpAddr>,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Octavia does not work, or will not after the next pod or node.
    Error,
    /// It works, but perhaps not as intended.
    Warning,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// Path, value and remedy. Paths are those of the configuration, and `metadata.…` of the object around it.
    pub field: FieldError,
}

/// How many nodes the network suffices for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Addresses for pods: those between the bounds without the exclusions and next hops.
    pub pods: u128,
    /// Nodes by the pods' addresses, five for each node. API pods with an address of the range are not counted.
    pub nodes_by_pods: u128,
    /// Nodes by the predictable addresses, two for each node; 0 if the operator finds no room for these addresses.
    pub nodes_by_predictable: u128,
}

/// All that a definition leads to.
#[derive(Debug, Clone, PartialEq)]
pub struct Review {
    /// What the operator reads and derives.
    pub reading: Reading,
    /// The range from which pods get their addresses, if the plugin takes the configuration.
    pub pods: Option<Range>,
    /// `None` without a range for pods.
    pub capacity: Option<Capacity>,
    /// Mistakes, errors first.
    pub findings: Vec<Finding>,
    /// What to add to `ipam.exclude`, because others have had these addresses since before the range grew. Sorted.
    pub exclude: Vec<IpNet>,
}

impl Review {
    /// Whether a finding is an error.
    pub fn is_wrong(&self) -> bool {
        self.findings.iter().any(|finding| finding.level == Level::Error)
    }
}

/// Whether a definition of the cluster is Octavia's: it has the label `osp/net: octavia` or the name `octavia`, or pods on a
/// bridge of a policy get routes by it. Other networks on such bridges, as Neutron's provider networks, have no routes.
pub fn is_of_octavia(definition: &Definition, label: Option<&str>, bridges: &BTreeSet<String>) -> bool {
    if label == Some("octavia") || definition.name == "octavia" {
        return true;
    }
    let Ok(config) = document::read(definition.config.as_bytes()) else { return false };
    let Ok(mut root) = Object::root(&config) else { return false };
    let is_on_bridge = matches!(root.string("bridge"), Ok(Some(bridge)) if bridges.contains(bridge));
    let Ok(Some(mut ipam)) = root.object("ipam") else { return false };
    is_on_bridge && ipam.list("routes").is_ok_and(|routes| !routes.is_empty())
}

/// Reviews a definition.
///
/// # Errors
/// `spec.config` is not a JSON object, so that there is nothing to review.
pub fn review(definition: &Definition, surroundings: &Surroundings) -> Result<Review, FieldError> {
    let config = document::read(definition.config.as_bytes())
        .map_err(|error| FieldError::missing("spec.config", format!("is not JSON: {error}")))?;
    let mut root = Object::root(&config)?;
    let reading = operator::read(&config);
    let (ipam, refused) = match served_block(&mut root) {
        Ok(ipam) => (ipam, None),
        Err(error) => (None, Some(error)),
    };
    let pods = ipam.as_ref().and_then(|ipam| ipam.ranges.first().cloned());
    let capacity = pods.as_ref().map(|pods| capacity(pods, ipam.as_ref(), &reading));
    let growth = pods.as_ref().map(|pods| growth::growth(pods, surroundings)).unwrap_or_default();
    let known = mistakes::Known {
        definition,
        surroundings,
        reading: &reading,
        pods: pods.as_ref(),
        capacity,
        growth: &growth,
        refused,
    };
    let findings = mistakes::find(&mut root, known);
    Ok(Review { reading, pods, capacity, findings, exclude: growth.exclude })
}

fn capacity(pods: &Range, ipam: Option<&Ipam>, reading: &Reading) -> Capacity {
    let mut taken = pods.exclude().to_vec();
    for address in ipam.map(Ipam::reserved).unwrap_or_default() {
        taken.push(address.into());
    }
    taken.retain(|net| net.addr().is_ipv4() == pods.first().is_ipv4());
    let mut free = pods.span().len();
    for span in merge(taken.iter().map(Span::of).collect(), pods.span()) {
        free -= span.len();
    }
    let predictable = reading.predictable.map_or(0, |pool| bits(pool.last) - bits(pool.first) + 1);
    Capacity {
        pods: free,
        nodes_by_pods: free / PODS_OF_A_NODE,
        nodes_by_predictable: predictable / PREDICTABLE_OF_A_NODE,
    }
}
