//! In what a node differs from what it was, as far as certain steps could have changed it.

use std::collections::BTreeSet;

use octavia_bridge_netlink::LinkOption;

use crate::node::desired::options::in_words;
use crate::node::observed::{Address, Link, Observed};
use crate::node::plan::{Planned, Step, vlans_in_words};

/// Every difference in words.
pub(super) fn between(before: &Observed, now: &Observed, done: &[Planned]) -> Vec<String> {
    let mut found = Vec::new();
    let touched = touched(before, done);
    // Tables are read only where a bridge filters.
    let tables_are_read = now.links.values().any(Link::filters);
    for name in &touched {
        match (before.links.get(name), now.links.get(name)) {
            (Some(_), None) => found.push(format!("{name} is gone")),
            (None, Some(_)) => found.push(format!("{name} is there")),
            (Some(was), Some(is)) => {
                of_link(name, was, is, &mut found);
                // Elsewhere they may have been read by chance.
                if tables_are_read && (before.filters_port(name) || !was.vlans.is_empty()) {
                    let (was, is) = (vlans_in_words(&was.vlans), vlans_in_words(&is.vlans));
                    tell("VLAN table", name, &was, &is, &mut found);
                }
            }
            (None, None) => {}
        }
    }
    let is_near = |uses: &dyn Fn(&str) -> bool| touched.iter().any(|name| uses(name));
    for route in before.routes.iter().filter(|route| is_near(&|name| route.uses(name))) {
        if !now.routes.contains(route) {
            found.push(format!("{} is missing", of_step(&Step::AddRoute(route.clone()))));
        }
    }
    for route in now.routes.iter().filter(|route| is_near(&|name| route.uses(name))) {
        if !before.routes.contains(route) {
            found.push(format!("{} is there", of_step(&Step::AddRoute(route.clone()))));
        }
    }
    found
}

/// The links that the steps act on, and those that follow these.
fn touched(before: &Observed, done: &[Planned]) -> BTreeSet<String> {
    let mut touched = BTreeSet::new();
    let mut open: Vec<String> = Vec::new();
    for planned in done {
        open.extend(planned.apply.link().map(ToOwned::to_owned));
        if let Step::AddRoute(route) | Step::RemoveRoute(route) = &planned.apply {
            open.extend(route.hops.iter().map(|hop| hop.link.clone()));
        }
    }
    while let Some(name) = open.pop() {
        if touched.insert(name.clone()) {
            open.extend(before.vlans_on(&name).map(ToOwned::to_owned));
        }
    }
    touched
}

fn tell(what: &str, name: &str, before: &str, now: &str, found: &mut Vec<String>) {
    if before != now {
        found.push(format!("the {what} of {name} is {now}, not {before}"));
    }
}

fn of_link(name: &str, before: &Link, now: &Link, found: &mut Vec<String>) {
    let up = |link: &Link| if link.up { "up" } else { "down" };
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".into());
    let ipv6 = |link: &Link| match link.ipv6 {
        Some(ipv6) => {
            let (setting, on) = ipv6.accepting();
            format!("disable_ipv6 {}, accept_ra {}", ipv6.disabled, setting.value(on))
        }
        None => "none".to_owned(),
    };
    for (what, before, now) in [
        ("state", up(before).to_owned(), up(now).to_owned()),
        ("MTU", before.mtu.to_string(), now.mtu.to_string()),
        ("MAC address", text(&before.mac), text(&now.mac)),
        ("alias", text(&before.alias), text(&now.alias)),
        ("master", text(&before.master), text(&now.master)),
        ("type", format!("{:?}", before.kind), format!("{:?}", now.kind)),
        ("IPv6", ipv6(before), ipv6(now)),
    ] {
        tell(what, name, &before, &now, found);
    }
    for (option, before) in &before.options {
        // A cost follows the speed that the hardware has found.
        let cost = *option == LinkOption::PortPathCost;
        if let Some(now) = now.options.get(option).filter(|now| !cost && !option.is_same(**now, *before)) {
            let ((key, before), (_, now)) = (in_words(*option, *before), in_words(*option, *now));
            found.push(format!("{key} of {name} is {now}, not {before}"));
        }
    }
    let list = |link: &Link| {
        link.addresses.iter().chain(&link.link_locals).map(Address::timeless).collect::<Vec<_>>()
    };
    let (before, now) = (list(before), list(now));
    for one in before.iter().filter(|one| !now.contains(one)) {
        found.push(match now.iter().find(|other| other.net == one.net) {
            Some(_) => format!("{} of {name} has other flags, label, metric or lifetime", one.net),
            None => format!("{} of {name} is missing", one.net),
        });
    }
    for one in now.iter().filter(|one| !before.iter().any(|other| other.net == one.net)) {
        found.push(format!("{name} has {}", one.net));
    }
    // The first of a subnet is the one that packets come from.
    for one in &before {
        let first = |list: &[Address]| list.iter().find(|other| other.shares_subnet(one)).map(|one| one.net);
        if first(&before) == Some(one.net) && now.contains(one) && first(&now) != Some(one.net) {
            found.push(format!("{} of {name} is not the first of its subnet any more", one.net));
        }
    }
}

/// The route in the words of a step.
fn of_step(step: &Step) -> String {
    let text = step.to_string();
    text.strip_prefix("add ").unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use octavia_bridge_netlink::VlanRange;

    use super::*;
    use crate::node::observed::Kind;

    #[test]
    fn vlans_of_a_port_are_compared() {
        let mut before = Observed::default();
        let options = [(LinkOption::VlanFiltering, 1)].into();
        let bridge = Link { kind: Kind::Bridge { stp: false }, options, ..Link::default() };
        before.links.insert("octbr".into(), bridge);
        before.links.insert("enp6s0".into(), Link { master: Some("octbr".into()), ..Link::default() });
        let mut now = before.clone();
        let link = now.links.get_mut("enp6s0").unwrap();
        link.vlans = vec![VlanRange { first: 1, last: 1, pvid: true, untagged: true }];
        let done = [Step::SetMaster { link: "enp6s0".into(), master: None }.planned(&before)];
        assert_eq!(between(&before, &before, &done), [""; 0]);
        assert_eq!(between(&before, &now, &done), ["the VLAN table of enp6s0 is 1 pvid untagged, not none"]);
        assert_eq!(between(&now, &before, &done), ["the VLAN table of enp6s0 is none, not 1 pvid untagged"]);
    }
}
