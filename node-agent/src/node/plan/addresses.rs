//! Static addresses. On a link we made the list is the whole truth; on others it names what has to be
//! there, and what else the host's own configuration put there stays.

use ipnet::IpNet;

use super::{Planner, Step};
use crate::node::desired::{Interface, Ip};
use crate::node::observed::{Address, Kind};

impl Planner<'_> {
    pub(super) fn addresses(&mut self, wanted: &Interface) {
        self.family(wanted, wanted.ipv4.as_ref(), true);
        self.family(wanted, wanted.ipv6.as_ref(), false);
    }

    fn family(&mut self, wanted: &Interface, ip: Option<&Ip>, v4: bool) {
        let (Some(ip), Some(link)) = (ip, self.model.links.get(&wanted.name)) else { return };
        let name = &wanted.name;
        let ours = link.is_ours();
        let loopback = link.kind == Kind::Loopback;
        let no_ipv6 = !v4 && link.ipv6.is_none();
        // Those with a lifetime are a DHCP client's or a router's.
        let now: Vec<Address> =
            link.addresses.iter().filter(|one| one.is_v4() == v4 && one.stays()).cloned().collect();
        let off = ip.enabled == Some(false);
        let Some(listed) = (if off { Some(&Vec::new()) } else { ip.addresses.as_ref() }) else { return };
        if no_ipv6 && !listed.is_empty() {
            return self
                .conflict(format!("{name}: this kernel has no IPv6, so there can be no {}", listed[0]));
        }
        let mut stale = Vec::new();
        for one in now.iter().filter(|one| !listed.contains(&one.net)) {
            let address = one.net;
            if address.addr().is_loopback() && loopback {
                if off {
                    self.conflict(format!(
                        "{name}: the loopback interface needs {address}; do not disable it"
                    ));
                }
            } else if ours || off {
                stale.push(one);
            } else {
                self.warnings.push(format!("{name} keeps {address}, which the policy does not list"));
            }
        }
        // New ones first, so that routes stay; but one of the same subnet would be a secondary of the one that goes.
        let first: Vec<IpNet> = listed
            .iter()
            .filter(|net| !stale.iter().any(|one| one.shares_subnet(&Address::plain(**net))))
            .copied()
            .collect();
        self.add_missing(name, &first);
        for one in stale {
            // Perhaps it went as a secondary.
            if self.has(name, one.net) {
                self.step(Step::RemoveAddress { link: name.clone(), address: one.net });
            }
        }
        self.add_missing(name, listed);
    }

    fn add_missing(&mut self, name: &str, listed: &[IpNet]) {
        for net in listed {
            if !self.has(name, *net) {
                self.step(Step::add(name, Address::plain(*net)));
            }
        }
    }

    pub(super) fn has(&self, name: &str, net: IpNet) -> bool {
        self.model.links.get(name).is_some_and(|link| link.address(net).is_some())
    }
}
