//! Links that this program made and that no policy names any more: they stay, but nobody makes them at the next boot.

use std::collections::BTreeSet;

use octavia_bridge_netlink::Link;

use super::desired::{Desired, Kind};
use super::marker;

/// Of all policies of the node.
pub(crate) const NO_POLICY: &str = "no policy names it any more";
/// Of one that may come.
pub(crate) const NOT_THIS: &str = "the policy does not name it";

/// A note for each of them among these links.
pub(crate) fn among(links: &[Link], desired: &Desired, whose: &str) -> Vec<String> {
    let mut named = BTreeSet::new();
    for entry in &desired.interfaces {
        named.insert(entry.name.as_str());
        named.extend(entry.ports().iter().map(String::as_str));
        if let Some(Kind::Vlan { base: Some(base), .. }) = &entry.kind {
            named.insert(base);
        }
    }
    let mut notes = Vec::new();
    for link in links {
        if marker::is_ours(link.alias.as_deref()) && !named.iter().any(|name| link.is_called(name)) {
            let name = &link.name;
            notes.push(format!(
                "{name}: the agent created it, and {whose}; it stays, is not kept, and will not be created at the next boot"
            ));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::desired::{Choice, Text, read};

    #[test]
    fn a_link_with_the_mark_is_named_unless_a_policy_names_it() {
        let link = |name: &str, alias: &str| Link {
            name: name.into(),
            alias: Some(alias.to_owned()),
            ..Link::default()
        };
        let links =
            [link("octbr", "octavia-bridge"), link("ospbr", "octavia-bridge: old"), link("other", "uplink")];
        let text = |yaml: &str| Text { origin: "-".into(), yaml: yaml.into() };
        let desired = |yaml| read(&[text(yaml)], &Choice::default()).unwrap();
        let notes = among(&links, &desired("interfaces: [{name: octbr, type: linux-bridge}]"), NO_POLICY);
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].starts_with("ospbr: "), "{notes:?}");
        let absent = "interfaces: [{name: octbr, type: linux-bridge}, {name: ospbr, type: linux-bridge, state: absent}]";
        assert!(among(&links, &desired(absent), NO_POLICY).is_empty());
        assert_eq!(among(&links, &Desired::default(), NO_POLICY).len(), 2);
    }
}
