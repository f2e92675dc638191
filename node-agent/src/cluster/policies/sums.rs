//! Which agent sums up a policy's status after something new was said of it on many nodes.
//!
//! A sum reads all enactments and all nodes. Where a policy comes into force on a thousand nodes at once, each of their agents has
//! something new to say, and a thousand sums of a thousand nodes would be gigabytes. So an agent waits for a time by chance, which
//! grows with the cluster, and leaves it when it sees that another agent's sum counts what it has said.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::objects::Policy;
use super::status::Statuses;

/// For each node of the cluster, up to so many, what is new on one waits so much longer at most before it is summed up.
const FOR_EACH_NODE: Duration = Duration::from_millis(20);
const MOST_NODES: u32 = 1500;

/// The longest wait before a sum in a cluster of so many nodes.
pub(super) fn spread(nodes: usize) -> Duration {
    FOR_EACH_NODE * u32::try_from(nodes).unwrap_or(u32::MAX).min(MOST_NODES)
}

/// What this agent has to have summed up, and what was.
#[derive(Debug, Default)]
pub(super) struct Sums {
    /// Policies of which this node has said something new, and the version of the enactment that says it.
    news: BTreeMap<String, u64>,
    /// Policies as they were seen last, without what they want.
    seen: BTreeMap<String, Policy>,
    /// In which version a policy's status was summed up last, and over which version of the policy.
    summed: BTreeMap<String, (String, u64)>,
}

impl Sums {
    /// Something new was said of a policy, in this version of the enactment.
    pub(super) fn has_news(&mut self, policy: &str, version: u64) {
        self.news.insert(policy.to_owned(), version);
    }

    /// The news of a policy are summed up, or about to be.
    pub(super) fn done(&mut self, policy: &str) {
        self.news.remove(policy);
    }

    /// Whether another agent's sum counts what is new here. Such an agent reads the policy, then the enactments, and writes only if
    /// the policy is still as it was read. So a status that was written over a version of the policy which is younger than our
    /// enactment counts that: both kinds are custom resources and have one counter of versions.
    pub(super) fn is_told(&self, policy: &Policy) -> bool {
        let metadata = &policy.metadata;
        let Some((version, over)) = self.summed.get(&metadata.name) else { return false };
        let news = self.news.get(&metadata.name);
        *version == metadata.resource_version && news.is_some_and(|news| news < over)
    }

    /// Notes which policies have a new status, and over which version of the policy it was written: at least that which was seen
    /// before it.
    pub(super) fn note(&mut self, all: &BTreeMap<String, Policy>) {
        for (name, policy) in all {
            let before = self.seen.get(name);
            if before
                .is_some_and(|before| before.metadata.resource_version == policy.metadata.resource_version)
            {
                continue;
            }
            match before.and_then(|before| summed_over(before, policy)) {
                Some(over) => {
                    let version = policy.metadata.resource_version.clone();
                    self.summed.insert(name.clone(), (version, over));
                }
                None => drop(self.summed.remove(name)),
            }
            self.seen.insert(name.clone(), Policy { spec: Value::Null, ..policy.clone() });
        }
        self.seen.retain(|name, _| all.contains_key(name));
        self.summed.retain(|name, _| all.contains_key(name));
        self.news.retain(|name, _| all.contains_key(name));
    }
}

/// The version before, if a sum was written since.
fn summed_over(before: &Policy, now: &Policy) -> Option<u64> {
    let (old, new) = (&before.metadata, &now.metadata);
    let same = old.generation == new.generation && old.uid == new.uid;
    let written = same && before.status != now.status && Statuses::is_sum(now);
    if written { old.resource_version.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use octavia_bridge_cluster::{Content, Jitter};
    use serde_json::json;

    use super::*;

    fn policy(version: u64, said: &str) -> Policy {
        let condition = json!({"type": "Progressing", "status": "True", "message": said});
        let status = json!({"conditions": [condition], "unavailableNodeCountMap": {"1": 1}});
        let metadata =
            json!({"name": "octavia", "uid": "u", "generation": 1, "resourceVersion": version.to_string()});
        Policy::read(&json!({"metadata": metadata, "status": status}).to_string()).unwrap()
    }

    fn one(policy: &Policy) -> BTreeMap<String, Policy> {
        BTreeMap::from([("octavia".to_owned(), policy.clone())])
    }

    #[test]
    fn a_sum_counts_what_was_said_before_the_version_that_it_was_written_over() {
        let mut sums = Sums::default();
        let (first, second, third) = (policy(10, "1/3"), policy(20, "2/3"), policy(30, "3/3"));
        sums.note(&one(&first));
        sums.has_news("octavia", 15);
        assert!(!sums.is_told(&first));
        // It may have been read before 15.
        sums.note(&one(&second));
        assert!(!sums.is_told(&second));
        sums.note(&one(&third));
        assert!(sums.is_told(&third));
        // Of what was said later it knows nothing.
        sums.has_news("octavia", 25);
        assert!(!sums.is_told(&third));
    }

    #[test]
    fn what_is_written_otherwise_is_not_a_sum() {
        let mut sums = Sums::default();
        sums.note(&one(&policy(20, "1/3")));
        sums.has_news("octavia", 15);
        // A label was set, and the status is the same.
        let labelled = policy(30, "1/3");
        sums.note(&one(&labelled));
        assert!(!sums.is_told(&labelled));
        // Nothing was counted.
        let begun = policy(40, "Policy is progressing");
        sums.note(&one(&begun));
        assert!(!sums.is_told(&begun));
    }

    /// Agents of a cluster of `nodes` that all have something to say within some seconds: how many of them sum up. One sum takes as
    /// long as reading so many objects does, and of those that end over a newer policy each is made again.
    fn sums_of(nodes: usize) -> usize {
        const MILLISECOND: u64 = 1;
        let jitter = Jitter::seeded(7);
        let look = 20 * MILLISECOND + nodes as u64 * MILLISECOND / 2;
        // Versions are times here, and every agent hears of a new status at once.
        let mut agents: Vec<(u64, u64, Sums)> = (0..nodes)
            .map(|_| {
                let said = 1 + jitter.roll(5000) as u64;
                let wait = jitter.below(spread(nodes)).as_millis() as u64;
                let mut sums = Sums::default();
                sums.note(&one(&policy(0, "0")));
                sums.has_news("octavia", said);
                (said + wait, said, sums)
            })
            .collect();
        let (mut made, mut now) = (0, policy(0, "0"));
        let mut running: BTreeMap<(u64, usize), u64> = BTreeMap::new();
        let mut waiting: BTreeMap<(u64, usize), ()> =
            agents.iter().enumerate().map(|(n, (due, ..))| ((*due, n), ())).collect();
        loop {
            let (begin, end) = (
                waiting.first_key_value().map(|(key, ())| *key),
                running.first_key_value().map(|(key, _)| *key),
            );
            let version = |policy: &Policy| policy.metadata.resource_version.parse::<u64>().unwrap();
            match (begin, end) {
                (None, None) => return made,
                (Some((time, n)), end) if end.is_none_or(|(end, _)| time < end) => {
                    waiting.remove(&(time, n));
                    if !agents[n].2.is_told(&now) {
                        made += 1;
                        running.insert((time + look, n), version(&now));
                    }
                }
                (_, Some((time, n))) => {
                    let over = running.remove(&(time, n)).unwrap();
                    if over == version(&now) {
                        now = policy(time, &time.to_string());
                        for (_, _, sums) in &mut agents {
                            sums.note(&one(&now));
                        }
                    } else {
                        waiting.insert((time + 1, n), ());
                    }
                }
                (Some(_), None) => unreachable!("the first arm takes it"),
            }
        }
    }

    #[test]
    fn the_number_of_sums_does_not_grow_with_the_cluster() {
        let (few, many) = (sums_of(50), sums_of(1000));
        assert!(few <= 50 && many <= 150, "{few} of 50, {many} of 1000");
    }
}
