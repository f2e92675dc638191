//! Bonds in the walk, where the kernel has them.

use super::{Chance, LINKS, Observed, Step};

pub(super) fn has_bond(observed: &Observed, link: &str) -> bool {
    link == "bond0" || observed.links[link].master.as_deref() == Some("bond0")
}

/// What a policy says that makes one of the links a port of the bond; `None` if that could not be undone: the kernel gives a new port
/// the bond's MTU.
pub(super) fn with_port(chance: &mut Chance, observed: &Observed) -> Option<String> {
    let link = chance.of(&LINKS);
    let mtu = observed.links[link].mtu;
    observed.links.get("bond0").filter(|bond| bond.mtu == mtu)?;
    Some(format!("{{name: bond0, type: bond, link-aggregation: {{port: [{link}]}}}}"))
}

/// One option, by chance.
pub(super) fn option(chance: &mut Chance, observed: &Observed) -> Step {
    let ports: Vec<&str> = observed.ports("bond0").chain([""]).collect();
    let (option, value) = match chance.below(7) {
        0 => ("primary", chance.of(&ports)),
        1 => ("arp_interval", chance.of(&["0", "500"])),
        2 => ("updelay", chance.of(&["0", "100", "200"])),
        3 => ("downdelay", chance.of(&["0", "200"])),
        4 => ("arp_validate", chance.of(&["none", "all"])),
        5 => ("xmit_hash_policy", chance.of(&["layer2", "layer3+4"])),
        _ => ("miimon", chance.of(&["0", "50", "100"])),
    };
    Step::SetBond { link: "bond0".into(), option: option.into(), value: value.into() }
}
