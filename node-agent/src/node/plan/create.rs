//! Making links, and making them anew where the kernel cannot change them.

use super::link::{too_large, wanted_ipv6};
use super::{NewLink, Planner, Step};
use crate::node::desired::{self, Interface, State, effective, follows_its_port};
use crate::node::marker;
use crate::node::observed::{Address, Ipv6, Kind, Link, Route};

/// MTU of a bridge or bond whose policy states none, in bytes.
const ETHERNET_MTU: u32 = 1500;

/// What a VLAN that has to be made anew had, and shall have again.
#[derive(Default)]
pub(super) struct Kept {
    addresses: Vec<Address>,
    routes: Vec<Route>,
}

impl Planner<'_> {
    /// Makes the link if it is missing or stands on another base or id. `None` if it cannot be.
    pub(super) fn ensure_exists(&mut self, wanted: &Interface) -> Option<Kept> {
        let name = &wanted.name;
        let mut kept = Kept::default();
        if let Some(link) = self.model.links.get(name).cloned() {
            if !fits(wanted.kind.as_ref(), &link.kind) {
                let stated = wanted.kind.as_ref().map_or("unknown", word);
                self.conflict(format!("{name} exists and is of type {}, not {stated}", link.kind.word()));
                return None;
            }
            let kind = self.wanted_kind(wanted, Some(&link.kind))?;
            if same_but_for_options(&kind, &link.kind) {
                self.warn_of_base(name, &kind);
                return Some(kept);
            }
            // The kernel answers success to a changed VLAN id, and changes nothing.
            if !link.is_ours() {
                let now = Step::Create(described(name, &link));
                self.conflict(format!(
                    "{name} is there with another base, id or table, and this program did not make it, so it will \
                     not delete it: {}",
                    now.to_string().trim_start_matches("create ")
                ));
                return None;
            }
            if let Some(missing) = self.awaited_by(&kind) {
                self.await_link(name, missing);
                return None;
            }
            if !self.free_to_delete(name) {
                return None;
            }
            kept.addresses = [link.addresses.as_slice(), &link.link_locals].concat();
            kept.routes = self.model.routes.iter().filter(|route| route.uses(name)).cloned().collect();
            self.delete(name);
        } else if let Some(missing) = self.awaited(name) {
            self.await_link(name, missing);
            return None;
        }
        let kind = self.wanted_kind(wanted, None)?;
        self.create(wanted, kind);
        Some(kept)
    }

    /// The sort of link that is wanted, completed by what is there. A conflict if it is not enough.
    fn wanted_kind(&mut self, wanted: &Interface, now: Option<&Kind>) -> Option<Kind> {
        let kind = match (&wanted.kind, now) {
            (Some(desired::Kind::Vlan { base, id }), now) => {
                let (old_base, old_id) = match now {
                    Some(Kind::Vlan { base, id }) => (Some(base.clone()), Some(*id)),
                    _ => (None, None),
                };
                let vlan = |base, id| Kind::Vlan { base, id };
                base.clone().or(old_base).zip(id.or(old_id)).map(|(base, id)| vlan(base, id))
            }
            (Some(desired::Kind::Vrf { table, .. }), now) => {
                let old = if let Some(Kind::Vrf { table }) = now { Some(*table) } else { None };
                table.or(old).map(|table| Kind::Vrf { table })
            }
            (Some(desired::Kind::Bond { options, .. }), now) => {
                let new = options.contains_key("mode").then(|| {
                    let mut options = effective(options);
                    options.remove("primary");
                    Kind::Bond { options }
                });
                now.cloned().or(new)
            }
            (Some(desired::Kind::Bridge { stp, .. }), _) => Some(Kind::Bridge { stp: stp.unwrap_or(false) }),
            (_, now) => now.cloned(),
        };
        if kind.is_none() {
            let name = &wanted.name;
            let keys = match wanted.kind {
                Some(desired::Kind::Vrf { .. }) => "vrf.route-table-id",
                Some(desired::Kind::Bond { .. }) => "link-aggregation.mode",
                _ => "vlan.base-iface and vlan.id",
            };
            self.conflict(format!("{name} does not exist, and the policy lacks {keys} to create it"));
        }
        kind
    }

    fn awaited_by(&self, kind: &Kind) -> Option<String> {
        if let Kind::Vlan { base, .. } = kind { self.awaited(base) } else { None }
    }

    fn create(&mut self, wanted: &Interface, kind: Kind) {
        let name = wanted.name.clone();
        // The address that a bond takes from its active port stays its own.
        let follows = matches!(&kind, Kind::Bond { options } if follows_its_port(options));
        let has_mac = kind.takes_frames() && !follows;
        if let Kind::Vlan { base, id } = &kind {
            let rival = self.model.vlans_on(base).find(
                |other| matches!(&self.model.links[*other].kind, Kind::Vlan { id: taken, .. } if taken == id),
            );
            if let Some(rival) = rival.map(ToOwned::to_owned) {
                return self.conflict(format!("{name}: VLAN {id} on {base} is taken by {rival}"));
            }
            let most = self.model.links.get(base).map_or(u32::MAX, |base| base.mtu);
            if let Some(mtu) = wanted.mtu.filter(|mtu| *mtu > most) {
                return self.conflict(too_large(&name, mtu, most));
            }
            self.warn_of_base(&name, &kind);
            self.raise_base(&base.clone());
        }
        // A bridge without a MAC of its own takes its lowest port's, another one with every pod. The
        // uplink's is known to be unique on its network, and the same after a reboot.
        let mac = wanted.mac.map(|mac| mac.to_string());
        let mac =
            mac.or_else(|| wanted.ports().iter().filter(|_| has_mac).find_map(|port| self.mac_beneath(port)));
        let mut ipv6 = self.has_ipv6().then(|| wanted_ipv6(self.ipv6_of(wanted), true, Ipv6::OF_NEW_LINK));
        if let Some(ipv6) = &mut ipv6 {
            // Whether it will forward packets is not known yet, and without that 2 is as 1.
            ipv6.always = ipv6.accept_ra;
        }
        let new = NewLink {
            mtu: wanted.mtu.or(self.mtu_of_ports(wanted)).or(kind.takes_frames().then_some(ETHERNET_MTU)),
            mac,
            alias: Some(marker::alias(wanted.description.as_deref())),
            ipv6,
            kind,
            options: wanted.options.clone(),
            name: name.clone(),
            token: None,
        };
        self.step(Step::Create(new));
    }

    /// The hardware address a port has or will have.
    fn mac_beneath(&self, name: &str) -> Option<String> {
        if let Some(link) = self.model.links.get(name) {
            return link.mac.clone();
        }
        match self.declared.get(name)?.kind.as_ref()? {
            desired::Kind::Vlan { base: Some(base), .. } => self.mac_beneath(base),
            desired::Kind::Bond { ports, .. } => {
                ports.iter().flatten().find_map(|port| self.mac_beneath(port))
            }
            _ => None,
        }
    }

    /// A VLAN cannot be set up while its base is down (ENETDOWN); a base that the policy speaks of has
    /// had its turn already.
    pub(super) fn raise_base(&mut self, base: &str) {
        if !self.declared.contains_key(base) && self.model.links.get(base).is_some_and(|link| !link.up) {
            self.raise(base);
        }
    }

    /// Sets a link up. VLANs that come up with it, and that nobody wants to be up, go down again.
    pub(super) fn raise(&mut self, name: &str) {
        let down = |link: &Link| !link.up;
        let before: Vec<String> =
            self.model.links.iter().filter(|(_, link)| down(link)).map(|(name, _)| name.clone()).collect();
        self.step(Step::SetUp { link: name.to_owned(), up: true });
        for other in before.iter().filter(|other| *other != name) {
            let wanted = self.declared.get(other.as_str()).is_some_and(|entry| entry.state == State::Up)
                || self.lowered.contains(other);
            if self.model.links.get(other).is_some_and(|link| link.up) && !wanted {
                self.step(Step::SetUp { link: other.clone(), up: false });
            }
        }
    }

    pub(super) fn warn_of_base(&mut self, name: &str, kind: &Kind) {
        let Kind::Vlan { base, .. } = kind else { return };
        let master = self.model.links.get(base).and_then(|link| link.master.clone());
        let of_ovs = master
            .as_ref()
            .and_then(|master| self.model.links.get(master))
            .is_some_and(|master| matches!(&master.kind, Kind::Other(kind) if kind == "openvswitch"));
        if of_ovs || master.as_deref() == Some("ovs-system") || base == "br-ex" {
            self.warnings.push(format!(
                "{name}: its base interface {base} belongs to Open vSwitch, which may take the tagged frames for itself"
            ));
        }
    }

    pub(super) fn give_back(&mut self, wanted: &Interface, kept: Kept) {
        // A port has none.
        if self.is_emptied(&wanted.name) {
            return;
        }
        let stated = |ip: Option<&desired::Ip>| {
            ip.is_some_and(|ip| ip.addresses.is_some() || ip.enabled == Some(false))
        };
        for address in kept.addresses {
            let ip = if address.is_v4() { &wanted.ipv4 } else { &wanted.ipv6 };
            let v6_off = self.model.links[&wanted.name].ipv6.is_none_or(|ipv6| ipv6.disabled);
            if !stated(ip.as_ref()) && (address.is_v4() || !v6_off) {
                self.step(Step::add(&wanted.name, address));
            }
        }
        for route in kept.routes {
            self.step(Step::AddRoute(route));
        }
    }
}

/// What it takes to make a link as it is.
pub(super) fn described(name: &str, link: &Link) -> NewLink {
    NewLink {
        name: name.to_owned(),
        kind: link.kind.clone(),
        mac: link.mac.clone(),
        mtu: Some(link.mtu),
        alias: link.alias.clone(),
        ipv6: link.ipv6,
        options: link.options_of(false),
        token: None,
    }
}

pub(super) fn fits(wanted: Option<&desired::Kind>, now: &Kind) -> bool {
    match (wanted, now) {
        (None, _)
        | (Some(desired::Kind::Vlan { .. }), Kind::Vlan { .. })
        | (Some(desired::Kind::Bridge { .. }), Kind::Bridge { .. })
        | (Some(desired::Kind::Vrf { .. }), Kind::Vrf { .. })
        | (Some(desired::Kind::Bond { .. }), Kind::Bond { .. })
        | (Some(desired::Kind::Loopback), Kind::Loopback)
        | (Some(desired::Kind::Ethernet), Kind::Ethernet) => true,
        // Links of a test bench stand in for hardware, and hardware names its own sorts.
        (Some(desired::Kind::Ethernet), Kind::Other(kind)) => matches!(kind.as_str(), "dummy" | "macvlan"),
        _ => false,
    }
}

fn same_but_for_options(wanted: &Kind, now: &Kind) -> bool {
    (matches!(wanted, Kind::Bridge { .. }) && matches!(now, Kind::Bridge { .. })) || wanted == now
}

pub(super) fn word(kind: &desired::Kind) -> &'static str {
    match kind {
        desired::Kind::Ethernet => "ethernet",
        desired::Kind::Loopback => "loopback",
        desired::Kind::Vlan { .. } => "vlan",
        desired::Kind::Bridge { .. } => "linux-bridge",
        desired::Kind::Vrf { .. } => "vrf",
        desired::Kind::Bond { .. } => "bond",
    }
}
