//! What the API holds of a namespace's addresses at one moment, read as whereabouts reads it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde_json::Value;

use crate::Access;

/// Pools and reservations of one namespace.
#[derive(Debug, Clone)]
pub struct Ledger {
    /// By the object's name.
    pub pools: BTreeMap<String, Pool>,
    /// By the object's name.
    pub reservations: BTreeMap<String, Reservation>,
}

/// An `IPPool`.
#[derive(Debug, Clone)]
pub struct Pool {
    /// `spec.range`.
    pub range: IpNet,
    /// `spec.allocations`, by address instead of its distance from the range's first.
    pub holders: BTreeMap<IpAddr, Holder>,
}

/// An entry of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Container ID.
    pub id: String,
    /// `namespace/name` of the pod.
    pub podref: String,
    /// Interface; empty where the entry has none.
    pub ifname: String,
}

/// An `OverlappingRangeIPReservation`.
#[derive(Debug, Clone)]
pub struct Reservation {
    /// `namespace/name` of the pod.
    pub podref: String,
    /// Interface; empty where there is none.
    pub ifname: String,
    /// The whole object, with its metadata.
    pub object: Value,
}

impl Ledger {
    /// Reads both kinds, one list each: between the two somebody may write.
    ///
    /// # Panics
    /// When the server does not answer, or an object is not as whereabouts reads it.
    #[track_caller]
    pub fn read(access: &Access) -> Self {
        let items = |kind: &str| {
            let list = access.get(&access.whereabouts(kind));
            list["items"].as_array().cloned().unwrap_or_default()
        };
        let name = |object: &Value| text(object, "/metadata/name");
        let reservations = items("overlappingrangeipreservations").into_iter().map(|object| {
            let (podref, ifname) = (text(&object, "/spec/podref"), text(&object, "/spec/ifname"));
            (name(&object), Reservation { podref, ifname, object })
        });
        Self {
            pools: items("ippools").iter().map(|object| (name(object), Pool::parse(object))).collect(),
            reservations: reservations.collect(),
        }
    }

    /// The entry of an address, in whichever pool.
    pub fn holder(&self, address: IpAddr) -> Option<&Holder> {
        self.pools.values().find_map(|pool| pool.holders.get(&address))
    }

    /// What is wrong: an entry without its reservation or the other way round, an address in two pools of a network, a
    /// pod's interface with two addresses in a pool.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        // By the name its reservation has: the pool and the pod.
        let mut entries: BTreeMap<String, (&str, &Holder)> = BTreeMap::new();
        for (name, pool) in &self.pools {
            // `NETWORK-` for pools of a network with a name.
            let prefix = name.strip_suffix(&object_name(&pool.range.to_string()));
            let Some(prefix) = prefix else {
                faults.push(format!("pool {name} is not named after its range {}", pool.range));
                continue;
            };
            let mut interfaces: BTreeMap<(&str, &str), IpAddr> = BTreeMap::new();
            for (address, holder) in &pool.holders {
                let twice = interfaces.insert((&holder.podref, &holder.ifname), *address);
                if let Some(other) = twice {
                    faults.push(format!("pool {name}: {holder:?} has both {other} and {address}"));
                }
                let reservation = format!("{prefix}{}", object_name(&address.to_string()));
                if let Some((other, first)) = entries.insert(reservation, (name, holder)) {
                    faults
                        .push(format!("{address} is {first:?}'s in pool {other} and {holder:?}'s in {name}"));
                }
            }
        }
        for (name, (pool, holder)) in &entries {
            match self.reservations.get(name) {
                None => faults.push(format!("pool {pool}: {holder:?} has no reservation {name}")),
                // Before 0.9 whereabouts wrote no interface into a reservation.
                Some(other)
                    if other.podref != holder.podref
                        || !(other.ifname.is_empty() || other.ifname == holder.ifname) =>
                {
                    let Reservation { podref, ifname, .. } = other;
                    faults.push(format!(
                        "pool {pool}: {holder:?}, but reservation {name} is {podref}'s {ifname}"
                    ));
                }
                Some(_) => {}
            }
        }
        for (name, reservation) in &self.reservations {
            if !entries.contains_key(name) {
                faults.push(format!("reservation {name} of {} is of no entry", reservation.podref));
            }
        }
        faults
    }

    /// # Panics
    /// When there is a fault.
    #[track_caller]
    pub fn assert_consistent(&self) {
        let faults = self.faults();
        assert!(faults.is_empty(), "pools and reservations differ:\n{}", faults.join("\n"));
    }
}

impl Pool {
    /// # Panics
    /// When whereabouts could not read it.
    pub(crate) fn parse(object: &Value) -> Self {
        let range = text(object, "/spec/range");
        let range: IpNet = range.parse().unwrap_or_else(|e| panic!("spec.range {range:?}: {e}"));
        let allocations = object.pointer("/spec/allocations").and_then(Value::as_object);
        let allocations = allocations.unwrap_or_else(|| panic!("no spec.allocations in {object}"));
        let holders = allocations.iter().map(|(key, entry)| {
            // whereabouts ignores a key that is no signed number of 64 bits, and drops it at its next write.
            let offset: i64 = key.parse().unwrap_or_else(|e| panic!("key {key:?} of an allocation: {e}"));
            let offset =
                u64::try_from(offset).unwrap_or_else(|e| panic!("key {key:?} of an allocation: {e}"));
            let holder = Holder {
                id: text(entry, "/id"),
                podref: text(entry, "/podref"),
                ifname: text(entry, "/ifname"),
            };
            (address_at(range.network(), offset), holder)
        });
        Self { range, holders: holders.collect() }
    }
}

/// The address so far behind another.
pub(crate) fn address_at(base: IpAddr, offset: u64) -> IpAddr {
    match base {
        IpAddr::V4(base) => {
            let offset = u32::try_from(offset).unwrap_or_else(|e| panic!("{offset} in an IPv4 range: {e}"));
            Ipv4Addr::from_bits(base.to_bits() + offset).into()
        }
        IpAddr::V6(base) => Ipv6Addr::from_bits(base.to_bits() + u128::from(offset)).into(),
    }
}

/// An address or a range as an object's name. An object's name ends in a letter or digit.
pub(crate) fn object_name(address: &str) -> String {
    let end = if address.ends_with(':') { "0" } else { "" };
    format!("{}{end}", address.replace([':', '/'], "-"))
}

fn text(object: &Value, pointer: &str) -> String {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::{Ledger, Pool, Reservation};

    fn ledger(entry_of: &str, reservation_of: &str) -> Ledger {
        let allocations = json!({"30": {"id": "c", "podref": entry_of, "ifname": "net1"}});
        let pool = Pool::parse(&json!({"spec": {"range": "172.23.0.0/24", "allocations": allocations}}));
        let reservation =
            Reservation { podref: reservation_of.to_owned(), ifname: "net1".to_owned(), object: json!({}) };
        Ledger {
            pools: BTreeMap::from([("172.23.0.0-24".to_owned(), pool)]),
            reservations: BTreeMap::from([("172.23.0.30".to_owned(), reservation)]),
        }
    }

    #[test]
    fn entries_and_reservations_are_of_the_same_pods() {
        assert_eq!(ledger("a/b", "a/b").faults(), [""; 0]);
        assert_eq!(ledger("a/b", "a/c").faults().len(), 1);

        let mut lonely = ledger("a/b", "a/b");
        lonely.reservations.clear();
        assert_eq!(lonely.faults().len(), 1);

        let mut leaked = ledger("a/b", "a/b");
        leaked.pools.clear();
        assert_eq!(leaked.faults().len(), 1);
    }

    #[test]
    fn an_address_is_in_one_pool_of_a_network() {
        let mut twice = ledger("a/b", "a/b");
        let allocations = json!({"14": {"id": "d", "podref": "a/b", "ifname": "net1"}});
        let smaller = json!({"spec": {"range": "172.23.0.16/28", "allocations": allocations}});
        twice.pools.insert("172.23.0.16-28".to_owned(), Pool::parse(&smaller));
        assert_eq!(twice.faults().len(), 1, "{:?}", twice.faults());
        // Another network's addresses are others.
        let pool = twice.pools.remove("172.23.0.16-28").expect("it was put there");
        twice.pools.insert("neta-172.23.0.16-28".to_owned(), pool);
        let reservation = twice.reservations["172.23.0.30"].clone();
        twice.reservations.insert("neta-172.23.0.30".to_owned(), reservation);
        assert_eq!(twice.faults(), [""; 0]);
    }
}
