//! What an operation changes in a pool, as a patch that commutes with the patches of others.
//!
//! Every change names one entry and tests only that entry: changes of different addresses never conflict, whoever makes
//! them and in whatever order they arrive. A test on the object's version, as whereabouts makes, would let one of a
//! hundred writers through and send the others back.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::pool::{Allocation, Pool};

/// One change of one entry, which is shared with the pools that have it: hundreds of changes are remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// A free address gets an entry.
    Add(Allocation),
    /// An entry of this pod passes to another sandbox.
    Take {
        /// As it was.
        old: Allocation,
        /// As it shall be.
        new: Allocation,
    },
    /// An entry goes.
    Remove(Allocation),
}

/// What has become of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeState {
    /// The pool is as the change would make it.
    Done,
    /// It can be made.
    Open,
    /// Somebody else has made another one.
    Lost,
}

/// The changes that make `after` of `before`, two states of one pool, but for entries that are added by others.
pub(crate) fn difference(
    before: &Pool,
    after: &Pool,
    by_others: impl Fn(IpAddr, &Allocation) -> bool,
) -> Vec<(IpAddr, Change)> {
    let mut changes = Vec::new();
    for (address, new) in after.iter() {
        match before.get(address) {
            // Left out here and not later: of hundreds of claims at once each would keep room for all.
            None if by_others(address, new) => {}
            None => changes.push((address, Change::Add(new.clone()))),
            Some(old) if old != new => {
                changes.push((address, Change::Take { old: old.clone(), new: new.clone() }));
            }
            Some(_) => {}
        }
    }
    for (address, old) in before.iter().filter(|(address, _)| after.get(*address).is_none()) {
        changes.push((address, Change::Remove(old.clone())));
    }
    changes
}

impl Change {
    /// What has become of it, by the pool as it is now; `None` if there is none.
    pub(crate) fn state(&self, address: IpAddr, pool: Option<&Pool>) -> ChangeState {
        let now = pool.and_then(|pool| pool.get(address));
        match (self, now) {
            (Self::Add(_), None) => ChangeState::Open,
            (Self::Add(new) | Self::Take { new, .. }, Some(now)) if same(now, new) => ChangeState::Done,
            (Self::Take { old, .. } | Self::Remove(old), Some(now)) if same(now, old) => ChangeState::Open,
            // Gone, or somebody else's already: nothing of ours is left.
            (Self::Remove(_), _) => ChangeState::Done,
            (Self::Add(_), Some(_)) | (Self::Take { .. }, _) => ChangeState::Lost,
        }
    }

    /// Expects the entry without its interface where the server has dropped that.
    pub(crate) fn adapt(&mut self, address: IpAddr, pool: Option<&Pool>) {
        let now = pool.and_then(|pool| pool.get(address));
        if let (Self::Take { old, .. } | Self::Remove(old), Some(now)) = (self, now)
            && same(now, old)
            && now.ifname() != old.ifname()
        {
            *old = old.renewed(old.id(), old.podref(), now.ifname().unwrap_or_default());
        }
    }

    /// The operations (RFC 6902) for the entry with this offset, appended to `operations`.
    pub(crate) fn write(&self, offset: u128, operations: &mut Vec<Value>) {
        let path = format!("/spec/allocations/{offset}");
        let test = |field: &str, value: Value| json!({ "op": "test", "path": format!("{path}{field}"), "value": value });
        let put = |field: &str, value: Value| json!({ "op": "add", "path": format!("{path}{field}"), "value": value });
        // A missing interface may be written in two ways, as nothing and as "".
        let tests = |old: &Allocation| {
            let ifname = old.ifname().map(|ifname| test("/ifname", json!(ifname)));
            std::iter::once(test("/id", json!(old.id()))).chain(ifname).collect::<Vec<_>>()
        };
        match self {
            Self::Add(new) => {
                // The server takes a test for null as one for absence, as whereabouts relies on.
                operations.extend([test("", Value::Null), put("", json!(new))]);
            }
            Self::Take { old, new } => {
                operations.extend(tests(old));
                // Field by field: fields that a later schema may have are not ours.
                for (field, old, new) in [
                    ("/id", Some(old.id()), Some(new.id())),
                    ("/podref", Some(old.podref()), Some(new.podref())),
                    ("/ifname", old.ifname(), new.ifname()),
                ] {
                    if old != new {
                        operations.push(put(field, json!(new)));
                    }
                }
            }
            Self::Remove(old) => {
                operations.extend(tests(old));
                operations.push(json!({ "op": "remove", "path": path }));
            }
        }
    }

    /// The entry as the change leaves it.
    pub(crate) fn after(&self) -> Option<&Allocation> {
        match self {
            Self::Add(new) | Self::Take { new, .. } => Some(new),
            Self::Remove(_) => None,
        }
    }

    /// By how many bytes the stored object may grow, the server's `managedFields` included.
    pub(crate) fn growth(&self) -> usize {
        /// A longer key, and what the server adds: `"f:65535":{".":{},"f:id":{},…`.
        const SERVERS: usize = 118;
        match self {
            Self::Add(new) => new.size() + SERVERS,
            Self::Take { .. } | Self::Remove(_) => 0,
        }
    }
}

/// Ends the server's bookkeeping of who has written which field of the object, as the API's documentation describes it
/// ("Clearing managedFields"). Nobody applies pools; but the server's notes are half as large as a pool, and most of the
/// work of changing a large one is to bring them up to date.
pub(crate) fn forget_managers() -> Value {
    json!({ "op": "add", "path": "/metadata/managedFields", "value": [{}] })
}

/// Whether an entry, as it is now, names the holder that is meant. CRDs of whereabouts before 0.8 drop the interface.
fn same(now: &Allocation, meant: &Allocation) -> bool {
    let is_interface = now.ifname() == meant.ifname() || now.ifname().is_none();
    now.id() == meant.id() && now.podref() == meant.podref() && is_interface
}

#[cfg(test)]
mod tests {
    use ipnet::IpNet;

    use super::*;
    use crate::name::PoolName;

    fn pool(entries: &[(&str, &str)]) -> Pool {
        let subnet: IpNet = "172.23.0.0/24".parse().unwrap();
        let mut pool = Pool::new(&PoolName::new(None, &subnet).unwrap(), subnet);
        for (address, id) in entries {
            assert!(pool.assign(address.parse().unwrap(), id, Some("ns/pod"), "net1"));
        }
        pool
    }

    #[test]
    fn two_states_differ_by_one_change_per_entry() {
        let before = pool(&[("172.23.0.30", "a"), ("172.23.0.31", "b"), ("172.23.0.32", "c")]);
        let after = pool(&[("172.23.0.30", "a"), ("172.23.0.31", "d"), ("172.23.0.33", "e")]);
        let changes = difference(&before, &after, |_, _| false);
        let text: Vec<String> = changes
            .iter()
            .map(|(address, change)| match change {
                Change::Add(new) => format!("{address} +{}", new.id()),
                Change::Take { old, new } => format!("{address} {}>{}", old.id(), new.id()),
                Change::Remove(old) => format!("{address} -{}", old.id()),
            })
            .collect();
        assert_eq!(text, ["172.23.0.31 b>d", "172.23.0.33 +e", "172.23.0.32 -c"]);
        for (address, change) in &changes {
            assert_eq!(change.state(*address, Some(&before)), ChangeState::Open, "{change:?}");
            assert_eq!(change.state(*address, Some(&after)), ChangeState::Done, "{change:?}");
        }
        let third = pool(&[("172.23.0.31", "x"), ("172.23.0.32", "y"), ("172.23.0.33", "z")]);
        let standing: Vec<ChangeState> =
            changes.iter().map(|(address, change)| change.state(*address, Some(&third))).collect();
        assert_eq!(standing, [ChangeState::Lost, ChangeState::Lost, ChangeState::Done]);
    }

    /// The text is what servers get, and whereabouts' own patches look so.
    #[test]
    fn patches_test_and_touch_one_entry_only() {
        let written = |change: Change| {
            let mut operations = Vec::new();
            change.write(30, &mut operations);
            operations.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let [old, new] = ["a", "b"].map(|id| Allocation::new(id, "ns/pod", "net1"));
        assert_eq!(
            written(Change::Add(new.clone())),
            [
                r#"{"op":"test","path":"/spec/allocations/30","value":null}"#,
                r#"{"op":"add","path":"/spec/allocations/30","value":{"id":"b","podref":"ns/pod","ifname":"net1"}}"#,
            ]
        );
        let tests = [
            r#"{"op":"test","path":"/spec/allocations/30/id","value":"a"}"#,
            r#"{"op":"test","path":"/spec/allocations/30/ifname","value":"net1"}"#,
        ];
        let take = written(Change::Take { old: old.clone(), new });
        assert_eq!(take[..2], tests);
        assert_eq!(take[2..], [r#"{"op":"add","path":"/spec/allocations/30/id","value":"b"}"#]);
        let remove = written(Change::Remove(old));
        assert_eq!(remove[..2], tests);
        assert_eq!(remove[2..], [r#"{"op":"remove","path":"/spec/allocations/30"}"#]);
    }
}
