//! Every address in use, and whether its holder lives.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt};
use octavia_bridge_cluster::ApiError;
use octavia_bridge_ipam::kubernetes::{Holding, PoolStatus};

use super::report::{Holder, Pool, Report, State};
use crate::cluster::reclaim::{Basis, Death, Pod, PodRef, Repairer};

/// Questions under way at once.
const AT_ONCE: usize = 16;

/// All addresses in use.
pub(super) struct Census(pub(super) Vec<(Holding, Verdict)>);

/// How the holder of an address stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Lives,
    /// It is gone; for whom the address is to free.
    Gone(Death, Responsible),
    /// It cannot be found out, for this reason.
    Unknown(String),
}

/// Who frees an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Responsible {
    /// The agent of this node, which the API knows.
    Node(String),
    /// The elected agent, because this node is gone.
    ElectedForNode(String),
    /// The elected agent, because no node is known.
    Elected,
}

/// Asks for every holder's pod, and for the nodes of those that are gone.
pub(super) async fn take(repairer: &Repairer) -> Census {
    let holdings = repairer.store.survey(|_| true);
    let pods: BTreeSet<PodRef> =
        holdings.iter().filter_map(|holding| PodRef::new(holding.podref())).collect();
    let pods = ask(pods, |podref| async move { (podref.clone(), repairer.api.pod(&podref).await) }).await;
    let dead: Vec<Option<Result<Death, String>>> =
        holdings.iter().map(|holding| death(&Basis::of(holding), &pods)).collect();
    let nodes = holdings.iter().zip(&dead).filter(|(_, dead)| matches!(dead, Some(Ok(_))));
    let nodes = nodes.filter_map(|(holding, _)| match Basis::of(holding) {
        Basis::Uid { node, .. } => Some(node),
        Basis::Name { .. } | Basis::Nothing => None,
    });
    let nodes =
        ask(nodes.collect(), |node| async move { (node.clone(), repairer.api.has_node(&node).await) }).await;
    let verdicts = holdings.into_iter().zip(dead).map(|(holding, dead)| {
        let verdict = match dead {
            None => Verdict::Lives,
            Some(Err(why)) => Verdict::Unknown(why),
            Some(Ok(death)) => match Basis::of(&holding) {
                Basis::Uid { node, .. } => match nodes.get(&node) {
                    Some(Ok(false)) => Verdict::Gone(death, Responsible::ElectedForNode(node)),
                    // A node that cannot be read is not taken for gone.
                    _ => Verdict::Gone(death, Responsible::Node(node)),
                },
                Basis::Name { .. } | Basis::Nothing => Verdict::Gone(death, Responsible::Elected),
            },
        };
        (holding, verdict)
    });
    Census(verdicts.collect())
}

async fn ask<K: Ord, T, F: Future<Output = (K, Result<T, ApiError>)>>(
    keys: BTreeSet<K>,
    question: impl Fn(K) -> F,
) -> BTreeMap<K, Result<T, String>> {
    let mut asked = stream::iter(keys).map(question).buffer_unordered(AT_ONCE);
    let mut answers = BTreeMap::new();
    while let Some((key, answer)) = asked.next().await {
        answers.insert(key, answer.map_err(|error| error.in_words()));
    }
    answers
}

/// Why the holder is dead, or why that is not known; `None` if it lives.
fn death(
    basis: &Basis,
    pods: &BTreeMap<PodRef, Result<Option<Pod>, String>>,
) -> Option<Result<Death, String>> {
    let (Basis::Uid { podref, .. } | Basis::Name { podref }) = basis else {
        return Some(Err("the entry names no pod".to_owned()));
    };
    let pod = match pods.get(podref) {
        Some(Ok(pod)) => pod.as_ref(),
        Some(Err(why)) => return Some(Err(why.clone())),
        None => return Some(Err("its pod was not read".to_owned())),
    };
    let death = match basis {
        Basis::Uid { uid, .. } => Death::of_uid(podref, uid, pod),
        Basis::Name { .. } | Basis::Nothing => Death::of_name(podref, pod),
    };
    death.map(Ok)
}

impl Census {
    pub(super) fn report(self, source: String, pools: &[PoolStatus]) -> Report {
        let remedy = "Agents free them after their grace period; octavia-bridge-agent pools repair does it for nodes \
                      that are gone, and with --node-name for that node";
        let mut report =
            Report { source, remedy, pools: Vec::new(), without_pool: Vec::new(), alone: Vec::new() };
        report.pools.extend(pools.iter().map(|status| Pool {
            name: status.name.clone(),
            fill: match &status.content {
                Some(Ok(fill)) => Ok((fill.subnet, fill.used, fill.capacity)),
                Some(Err(why)) => Err(why.clone()),
                None => Err("it was not read".to_owned()),
            },
            ranges: Vec::new(),
            holders: Vec::new(),
        }));
        for (holding, verdict) in self.0 {
            let holder = holder(&holding, verdict);
            let pool = holding
                .entry
                .and_then(|entry| report.pools.iter_mut().find(|pool| pool.name == entry.pool.as_str()));
            match pool {
                Some(pool) => pool.holders.push(holder),
                None => report.alone.push(holder),
            }
        }
        report
    }
}

fn holder(holding: &Holding, verdict: Verdict) -> Holder {
    let attachment = holding.attachment();
    let reservation = holding.reservation.as_ref().map(|(_, reservation)| reservation);
    let (state, why) = match verdict {
        Verdict::Lives => (State::Lives, None),
        Verdict::Unknown(why) => (State::Unknown, Some(why)),
        Verdict::Gone(death, responsible) => (State::Gone, Some(format!("{death}; {responsible}"))),
    };
    let remark = match &holding.entry {
        None if holding.disputed => Some("no entry: another pod has the address"),
        None => Some("no entry in a pool"),
        Some(_) if reservation.is_none() => Some("no reservation"),
        Some(_) => None,
    };
    Holder {
        address: holding.address(),
        pod: holding.podref().to_owned(),
        interface: attachment.ifname,
        container: attachment.container_id,
        node: reservation.and_then(|seen| unless_empty(seen.node())),
        since: reservation.and_then(|seen| unless_empty(seen.created())),
        state,
        why,
        remark: remark.map(str::to_owned),
    }
}

fn unless_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

impl std::fmt::Display for Responsible {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Node(node) => write!(f, "the agent of node {node} frees it"),
            Self::ElectedForNode(node) => {
                write!(f, "node {node} is gone, too, so the elected agent frees it")
            }
            Self::Elected => write!(f, "the elected agent frees it"),
        }
    }
}
