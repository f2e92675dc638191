//! Links that a policy calls by an alternative name, as `ip link property add … altname` or udev gives one.

use std::collections::BTreeMap;

use octavia_bridge_netlink::{MAX_NAME, validate_link_name};

use super::merge::{Merge, Source};
use super::problem::Findings;
use super::{Desired, Interface, Kind, bounds};

impl Desired {
    /// This state with links' own names in place of alternative ones, which `names` has by the alternative; `None` if it
    /// mentions none of these.
    ///
    /// # Errors
    /// What contradicts itself as soon as it is known which names are one link's.
    pub(crate) fn under_own_names(
        &self,
        names: &BTreeMap<String, String>,
    ) -> Result<Option<Self>, Vec<String>> {
        if names.is_empty() {
            return Ok(None);
        }
        let mut state = self.clone();
        let mut changed = false;
        for entry in &mut state.interfaces {
            changed |= rename(&mut entry.name, names);
            match &mut entry.kind {
                Some(Kind::Vlan { base: Some(base), .. }) => changed |= rename(base, names),
                Some(Kind::Bridge { ports, .. } | Kind::Vrf { ports, .. }) => {
                    for port in ports.iter_mut().flatten() {
                        changed |= rename(port, names);
                    }
                }
                Some(Kind::Bond { ports, options }) => {
                    for port in ports.iter_mut().flatten().chain(options.get_mut("primary")) {
                        changed |= rename(port, names);
                    }
                }
                _ => {}
            }
            for (port, vlans) in std::mem::take(&mut entry.port_vlans) {
                entry.port_vlans.insert(names.get(&port).cloned().unwrap_or(port), vlans);
            }
            for (port, options) in std::mem::take(&mut entry.port_options) {
                entry.port_options.insert(names.get(&port).cloned().unwrap_or(port), options);
            }
        }
        for route in &mut state.routes {
            if let Some(link) = &mut route.interface {
                changed |= rename(link, names);
            }
        }
        for port in &self.own_ports {
            if let Some(own) = names.get(port) {
                state.own_ports.insert(own.clone());
                changed = true;
            }
        }
        if !changed {
            return Ok(None);
        }
        state.check_again(self)?;
        Ok(Some(state))
    }

    /// The checks across entries, which could not know that two names are one link's. `before` has the names as written.
    fn check_again(&self, before: &Self) -> Result<(), Vec<String>> {
        let mut clashes = Vec::new();
        let mut written: BTreeMap<&str, &str> = BTreeMap::new();
        for (entry, as_written) in self.interfaces.iter().zip(&before.interfaces) {
            if let Some(other) = written.insert(&entry.name, &as_written.name) {
                let (own, name) = (&entry.name, &as_written.name);
                clashes.push(format!("{other} and {name} are names of one link, {own}: name it once"));
            }
            clashes.extend(on_itself(entry, as_written));
        }
        if !clashes.is_empty() {
            return Err(clashes);
        }
        let findings = Findings::default();
        let mut merge = Merge::default();
        for entry in &self.interfaces {
            let source = Source { path: entry.name.clone(), document: 1 };
            merge.interfaces.push((source, entry.clone()));
        }
        bounds::check(&merge, &findings);
        let problems: Vec<String> = findings.into_vec().iter().map(ToString::to_string).collect();
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

/// What is wrong with the name of a link. An alternative name may have 127 bytes, and is not looked for beyond those of a name.
pub(super) fn wrong_name(name: &str) -> Option<String> {
    let error = validate_link_name(name).err()?;
    Some(match name.len() > MAX_NAME {
        true => format!(
            "{error}; if this is an alternative name, write the link's own name, which `ip link` shows"
        ),
        false => error.to_string(),
    })
}

/// A link that is to stand on itself, since what it stands on has been given its name.
fn on_itself(entry: &Interface, as_written: &Interface) -> Option<String> {
    let base = match &entry.kind {
        Some(Kind::Vlan { base, .. }) => base.as_ref(),
        _ => None,
    };
    let own = &entry.name;
    let name = &as_written.name;
    let is_itself = entry.ports().iter().chain(base).any(|other| other == own);
    is_itself.then(|| {
        format!(
            "{name} and {own} are names of one link, {own}, so it cannot stand on itself: give {name} another name, or \
             `ip link property del dev {own} altname {name}`"
        )
    })
}

/// Whether it is an alternative one.
fn rename(name: &mut String, names: &BTreeMap<String, String>) -> bool {
    let own = names.get(name);
    if let Some(own) = own {
        name.clone_from(own);
    }
    own.is_some()
}

/// A text with the alternative name behind the first mention of each link that the policy calls by it: `ens3 (enp6s0)`.
pub(crate) fn with_alternatives(text: &str, names: &BTreeMap<String, String>) -> String {
    let mut text = text.to_owned();
    for (own, alternative) in names {
        if let Some(end) = end_of_mention(&text, own) {
            text.insert_str(end, &format!(" ({alternative})"));
        }
    }
    text
}

/// Where the first mention of a name ends that is not part of a longer one, such as a VLAN's.
fn end_of_mention(text: &str, name: &str) -> Option<usize> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-@/".contains(c);
    for (start, found) in text.match_indices(name) {
        let end = start + found.len();
        let mut after = text[end..].chars();
        let next = after.next().unwrap_or(' ');
        let goes_on = is_name(next) || (next == '.' && after.next().is_some_and(is_name));
        let before = text[..start].chars().next_back().unwrap_or(' ');
        if !goes_on && !is_name(before) && before != '.' {
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::{Choice, Text, read};
    use super::*;

    fn want(yaml: &str) -> Desired {
        read(&[Text { origin: "-".into(), yaml: yaml.into() }], &Choice::default()).unwrap()
    }

    fn names() -> BTreeMap<String, String> {
        BTreeMap::from([("enp6s0".to_owned(), "ens3".to_owned())])
    }

    #[test]
    fn every_mention_gets_the_links_own_name() {
        let yaml = |nic: &str| {
            format!(
                "{{interfaces: [{{name: v, type: vlan, vlan: {{base-iface: {nic}, id: 3}}}},
                  {{name: b, type: linux-bridge, bridge: {{port: [{{name: {nic}}}]}}}}, {{name: {nic}, mtu: 1400}}],
                  routes: {{config: [{{destination: 10.1.0.0/16, next-hop-interface: {nic}}}]}}}}"
            )
        };
        assert_eq!(want(&yaml("enp6s0")).under_own_names(&names()).unwrap(), Some(want(&yaml("ens3"))));
        assert_eq!(want(&yaml("ens3")).under_own_names(&names()).unwrap(), None);
    }

    #[test]
    fn what_only_then_contradicts_itself_is_refused() {
        let refuse = |interfaces: &str| want(interfaces).under_own_names(&names()).unwrap_err();
        assert_eq!(
            refuse("interfaces: [{name: ens3, mtu: 1400}, {name: enp6s0, mtu: 1500}]"),
            ["ens3 and enp6s0 are names of one link, ens3: name it once"]
        );
        let two = "interfaces: [{name: x, bridge: {port: [{name: ens3}]}}, {name: y, bridge: {port: [{name: enp6s0}]}}]";
        assert_eq!(refuse(two), ["x.port: ens3 is a port of y as well"]);
        let itself =
            refuse("interfaces: [{name: enp6s0, type: linux-bridge, bridge: {port: [{name: ens3}]}}]");
        assert_eq!(itself.len(), 1);
        assert!(itself[0].starts_with("enp6s0 and ens3 are names of one link, ens3"), "{itself:?}");
        let addressed = "interfaces: [{name: x, bridge: {port: [{name: ens3}]}}, {name: enp6s0,
            ipv4: {enabled: true, address: [{ip: 10.0.0.1, prefix-length: 24}]}}]";
        assert!(refuse(addressed)[0].contains("ens3 has addresses"));
    }

    #[test]
    fn the_first_mention_of_the_link_has_both_names() {
        let shown = BTreeMap::from([("ens3".to_owned(), "enp6s0".to_owned())]);
        for (text, with) in [
            ("make ens3 a port of b", "make ens3 (enp6s0) a port of b"),
            ("ens3: ens3 is wrong", "ens3 (enp6s0): ens3 is wrong"),
            ("create ens3.24 (VLAN 24 on ens3)", "create ens3.24 (VLAN 24 on ens3 (enp6s0))"),
            ("set xens3 and ens30 up", "set xens3 and ens30 up"),
        ] {
            assert_eq!(with_alternatives(text, &shown), with);
        }
    }
}
