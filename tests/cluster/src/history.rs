//! Who had which address from when to when, as far as the holders themselves were told.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock;

/// An ADD or a DEL that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Container ID, unique to the attachment.
    pub id: String,
    /// `namespace/name` of the pod.
    pub podref: String,
    /// Whether it is an ADD.
    pub add: bool,
    /// What an ADD was given; none when it failed, and for a DEL.
    pub address: Option<IpAddr>,
    /// Why it failed.
    pub error: Option<String>,
    /// When it was begun, by [`Operation::now`].
    pub began: Duration,
    /// When its end was known.
    pub ended: Duration,
}

impl Operation {
    /// Time since the machine started: processes of one machine may compare it.
    pub fn now() -> Duration {
        clock::monotonic()
    }
}

/// Addresses that two had at once: both were told so, and neither had begun to give it back. Of many operations in any
/// order, of any number of processes.
pub fn doubles(operations: &[Operation]) -> Vec<String> {
    let mut dels: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for del in operations.iter().filter(|operation| !operation.add) {
        dels.entry(&del.id).or_default().push(del.began);
    }
    let mut tenures: BTreeMap<IpAddr, Vec<(Duration, Duration, &str)>> = BTreeMap::new();
    for add in operations.iter().filter(|operation| operation.add) {
        let Some(address) = add.address else { continue };
        let ends =
            dels.get(add.id.as_str()).into_iter().flatten().copied().filter(|began| *began >= add.ended);
        let end = ends.min().unwrap_or(Duration::MAX);
        tenures.entry(address).or_default().push((add.ended, end, &add.id));
    }
    let mut doubles = Vec::new();
    for (address, mut tenures) in tenures {
        tenures.sort();
        // Of those that began earlier, the one that ends last.
        let mut latest: Option<(Duration, &str)> = None;
        for (begin, end, id) in tenures {
            if let Some((_, other)) = latest.filter(|(until, other)| *until > begin && *other != id) {
                doubles.push(format!("{address}: {other} had it when {id} was given it"));
            }
            if latest.is_none_or(|(until, _)| end > until) {
                latest = Some((end, id));
            }
        }
    }
    doubles
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Operation, doubles};

    fn operation(id: &str, add: bool, began: u64, ended: u64) -> Operation {
        Operation {
            id: id.to_owned(),
            podref: format!("test/{id}"),
            add,
            address: add.then_some([10, 0, 0, 1].into()),
            error: None,
            began: Duration::from_secs(began),
            ended: Duration::from_secs(ended),
        }
    }

    #[test]
    fn an_address_is_one_s_until_it_is_given_back() {
        let [a, a_gone, b] =
            [operation("a", true, 0, 1), operation("a", false, 5, 9), operation("b", true, 3, 6)];
        assert_eq!(doubles(&[b.clone(), a_gone.clone(), a.clone()]), [""; 0]);
        let early = operation("b", true, 2, 4);
        assert_eq!(doubles(&[a.clone(), a_gone, early]).len(), 1);
        assert_eq!(doubles(&[a.clone(), b]).len(), 1, "never given back");
        assert_eq!(doubles(&[a.clone(), a]), [""; 0], "asked twice");
    }
}
