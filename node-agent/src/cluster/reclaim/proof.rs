//! What proves that the holder of an address is gone. Pure.

use std::fmt;

use octavia_bridge_ipam::kubernetes::Holding;
use octavia_bridge_ipam::name::is_object_name;

use super::pod::{Pod, PodRef};

/// By what the holder of an address can be proven dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Basis {
    /// One of our agents wrote down which pod on which node it is: the pod of this uid must be gone or have ended.
    Uid { node: String, podref: PodRef, uid: String },
    /// Only the pod's name is known, because whereabouts wrote it, or where there are no reservations: there must be no
    /// pod of that name.
    Name { podref: PodRef },
    /// Not even that. It stays until its writer takes it back.
    Nothing,
}

impl Basis {
    pub(crate) fn of(holding: &Holding) -> Self {
        let Some(podref) = PodRef::new(holding.podref()) else { return Self::Nothing };
        let reservation = holding.reservation.as_ref().map(|(_, reservation)| reservation);
        match reservation {
            Some(known)
                if is_object_name(known.node())
                    && !known.pod_uid().is_empty()
                    && !known.container().is_empty()
                    // Of another container than the entry it is about an earlier sandbox, or of an earlier pod.
                    && holding.entry.as_ref().is_none_or(|entry| entry.allocation.id() == known.container()) =>
            {
                Self::Uid { node: known.node().to_owned(), podref, uid: known.pod_uid().to_owned() }
            }
            _ => Self::Name { podref },
        }
    }
}

/// Why the holder of an address is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Death {
    /// There is no pod of its name.
    Absent(PodRef),
    /// The pod of its name is another one.
    Replaced(PodRef),
    /// It runs no more, and will not.
    Ended(PodRef, Box<str>),
}

impl Death {
    /// Whether the pod with this uid is dead, by what the API has under its name now.
    pub(crate) fn of_uid(podref: &PodRef, uid: &str, now: Option<&Pod>) -> Option<Self> {
        let podref = podref.clone();
        match now {
            None => Some(Self::Absent(podref)),
            Some(pod) if pod.mirror => None,
            Some(pod) if *pod.uid != *uid => Some(Self::Replaced(podref)),
            Some(pod) => pod.ended.clone().map(|phase| Self::Ended(podref, phase)),
        }
    }

    /// Whether the pod of this name is dead: any pod of that name could be the holder.
    pub(crate) fn of_name(podref: &PodRef, now: Option<&Pod>) -> Option<Self> {
        now.is_none().then(|| Self::Absent(podref.clone()))
    }

    /// For metrics.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Absent(_) => "pod_absent",
            Self::Replaced(_) => "pod_replaced",
            Self::Ended(..) => "pod_ended",
        }
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent(podref) => write!(f, "there is no pod {podref}"),
            Self::Replaced(podref) => write!(f, "pod {podref} was replaced by another one of the same name"),
            Self::Ended(podref, phase) => write!(f, "pod {podref} has ended ({phase})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use octavia_bridge_ipam::kubernetes::{Entry, Reservation, ReservationFields};
    use octavia_bridge_ipam::name::PoolName;
    use octavia_bridge_ipam::pool::Allocation;

    use super::*;

    fn podref() -> PodRef {
        PodRef::new("n/a").unwrap()
    }

    fn pod(uid: &str) -> Pod {
        let (podref, uid, node) = ("n/a".into(), uid.into(), "w1".into());
        Pod { podref, uid, node, ended: None, mirror: false }
    }

    fn reservation(node: &str, uid: &str, container: &str) -> Reservation {
        let (podref, ifname) = ("n/a", "net1");
        ReservationFields { uid: "r", podref, ifname, container, node, pod_uid: uid, created: "" }.into()
    }

    fn holding(id: Option<&str>, podref: &str, reservation: Option<Reservation>) -> Holding {
        let subnet = "10.0.0.0/24".parse().unwrap();
        let entry = id.map(|id| Entry {
            pool: PoolName::new(None, &subnet).unwrap(),
            subnet,
            address: "10.0.0.1".parse().unwrap(),
            allocation: Allocation::new(id, podref, "net1"),
        });
        let reservation = reservation.map(|reservation| ("10.0.0.1".to_owned(), reservation.into()));
        Holding { entry, reservation, disputed: false }
    }

    #[test]
    fn a_uid_is_believed_only_of_the_container_it_was_written_for() {
        let ours = || Some(reservation("w1", "u1", "c1"));
        let by_uid = Basis::Uid { node: "w1".into(), podref: podref(), uid: "u1".into() };
        let by_name = Basis::Name { podref: podref() };
        assert_eq!(Basis::of(&holding(Some("c1"), "n/a", ours())), by_uid);
        assert_eq!(Basis::of(&holding(None, "", ours())), by_uid);
        for other in [
            holding(Some("c2"), "n/a", ours()),
            holding(Some("c1"), "n/a", Some(reservation("", "u1", "c1"))),
            holding(Some("c1"), "n/a", Some(reservation("w1", "", "c1"))),
            holding(Some("c1"), "n/a", Some(reservation("w1/..", "u1", "c1"))),
            holding(Some("c1"), "n/a", None),
            holding(None, "", Some(reservation("w1", "u1", ""))),
        ] {
            assert_eq!(Basis::of(&other), by_name, "{other:?}");
        }
        assert_eq!(Basis::of(&holding(Some("c1"), "", None)), Basis::Nothing);
        assert_eq!(Basis::of(&holding(Some("c1"), "../x", None)), Basis::Nothing);
    }

    #[test]
    fn a_pod_of_the_uid_is_dead_when_it_is_gone_replaced_or_ended() {
        let of = |now: Option<Pod>| Death::of_uid(&podref(), "u1", now.as_ref());
        assert_eq!(of(None), Some(Death::Absent(podref())));
        assert_eq!(of(Some(pod("u2"))), Some(Death::Replaced(podref())));
        let failed = Pod { ended: Some("Failed".into()), ..pod("u1") };
        assert_eq!(of(Some(failed)), Some(Death::Ended(podref(), "Failed".into())));
        assert_eq!(of(Some(pod("u1"))), None);
        // The uid in the API is not the one that plugins are told.
        assert_eq!(of(Some(Pod { mirror: true, ..pod("u2") })), None);
    }

    #[test]
    fn by_its_name_a_pod_is_dead_only_when_there_is_none() {
        let ended = Pod { ended: Some("Failed".into()), ..pod("u2") };
        assert_eq!(Death::of_name(&podref(), Some(&ended)), None);
        assert_eq!(Death::of_name(&podref(), None), Some(Death::Absent(podref())));
    }
}
