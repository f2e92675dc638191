//! Static addresses. On a link we made the list is the whole truth; on others it names what has to be
//! there, and what else the host's own configuration put there stays.

use ipnet::IpNet;

use super::{Planner, Step};
use crate::node::desired::{Interface, Ip};
use crate::node::observed::Kind;

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
        let now: Vec<IpNet> =
            link.addresses.iter().copied().filter(|net| net.addr().is_ipv4() == v4).collect();
        let off = ip.enabled == Some(false);
        let Some(listed) = (if off { Some(&Vec::new()) } else { ip.addresses.as_ref() }) else { return };
        if no_ipv6 && !listed.is_empty() {
            return self
                .conflict(format!("{name}: this kernel has no IPv6, so there can be no {}", listed[0]));
        }
        for address in now.iter().filter(|address| !listed.contains(address)) {
            if address.addr().is_loopback() && loopback {
                if off {
                    self.conflict(format!(
                        "{name}: the loopback interface needs {address}; do not disable it"
                    ));
                }
            } else if ours || off {
                self.step(Step::RemoveAddress { link: name.clone(), address: *address });
            } else {
                self.warnings.push(format!("{name} keeps {address}, which the policy does not list"));
            }
        }
        for address in listed.iter().filter(|address| !now.contains(address)) {
            if !self.model.links[name].addresses.contains(address) {
                self.step(Step::AddAddress { link: name.clone(), address: *address });
            }
        }
    }
}
