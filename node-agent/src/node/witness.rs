//! The second witness of which links the agent created and which ports it attached.
//!
//! The first is the mark in a link's alias ([`marker`]), which other programs overwrite: lldpd puts the switch's port
//! there. Without it, `remove` and `state: absent` would leave the link. So index, MAC address and kind of each link that
//! was seen with the mark are in a file as well. The file lies in memory: it ends with the links, and waits for no disk. The
//! kernel does not use an index again by itself, and a link's kind never changes; where index and kind agree and the MAC
//! address does not, the agent does not decide.

mod file;

use std::collections::{BTreeMap, BTreeSet};

use octavia_bridge_ipam::causes::chain;
use octavia_bridge_netlink::{Link, LinkChange, LinkKind, Netlink, Result};
use serde::{Deserialize, Serialize};

use super::desired::{Desired, Kind, State as Wanted};
use super::marker;
use super::observed::Observed;
use super::state::State;

/// What is known of links that are the agent's, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Witness {
    links: BTreeMap<String, Made>,
    /// Ports of bridges that a policy gave them.
    #[serde(default)]
    ports: BTreeMap<String, Attached>,
}

/// A link that was seen with the mark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Made {
    index: u32,
    /// Canonical text.
    mac: Option<String>,
    /// With what of it never changes.
    kind: String,
    alias: String,
    /// It was seen with another MAC address and without the mark. That stays, since a bridge takes its ports' address.
    #[serde(default)]
    doubtful: bool,
}

/// Indices of a port and of its bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Attached {
    index: u32,
    master: u32,
}

/// What a link is that bears the name of one that the agent created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It has the mark.
    Marked,
    /// It is the agent's and has lost its mark, which was this alias.
    Lost(String),
    /// The witnesses disagree, in words.
    Doubtful(String),
    /// Another program replaced the agent's link.
    Replaced,
    /// Nothing says that the agent created it.
    Unknown,
}

impl Witness {
    /// What `link` is.
    pub(crate) fn judge(&self, link: &Link) -> Verdict {
        if marker::is_ours(link.alias.as_deref()) {
            return Verdict::Marked;
        }
        let name = &link.name;
        let Some(made) = self.links.get(name) else { return Verdict::Unknown };
        if made.index != link.index || made.kind != kind(link) {
            return Verdict::Replaced;
        }
        if made.mac == mac(link) && !made.doubtful {
            return Verdict::Lost(made.alias.clone());
        }
        let alias = &made.alias;
        Verdict::Doubtful(format!(
            "{name}: its alias no longer says that the agent created it, and its MAC address is not the one that it had, so the agent does \
             not decide whose it is; to give it back: ip link set {name} alias {alias:?}"
        ))
    }

    /// Notes a link that has the mark. Whether it is another one than the one known by this name.
    pub(crate) fn note(&mut self, link: &Link) -> bool {
        let alias = link.alias.clone().unwrap_or_default();
        let made = Made { index: link.index, mac: mac(link), kind: kind(link), alias, doubtful: false };
        let before = self.links.insert(link.name.clone(), made);
        before.is_none_or(|before| before.index != link.index)
    }

    /// Notes that the witnesses disagree about the link of this name.
    pub(crate) fn doubt(&mut self, name: &str) {
        if let Some(made) = self.links.get_mut(name) {
            made.doubtful = true;
        }
    }

    /// Forgets the link of this name; whether it was known.
    pub(crate) fn forget(&mut self, name: &str) -> bool {
        self.links.remove(name).is_some()
    }

    /// The link with this index is gone.
    pub(crate) fn gone(&mut self, index: u32) {
        self.links.retain(|_, made| made.index != index);
        self.ports.retain(|_, port| port.index != index && port.master != index);
    }

    /// Names of the links that it knows.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.links.keys().map(String::as_str)
    }

    /// Takes in what all links of the node show: those with the mark, ports that `desired` gives to a bridge and that are
    /// there, and what is gone.
    pub(crate) fn learn(&mut self, links: &[Link], desired: &Desired) {
        let by_name: BTreeMap<&str, &Link> = links.iter().map(|link| (link.name.as_str(), link)).collect();
        self.links.retain(|name, _| by_name.contains_key(name.as_str()));
        self.ports.retain(|name, port| by_name.get(name.as_str()).is_some_and(|link| port.holds(link)));
        for link in links {
            match self.judge(link) {
                Verdict::Marked => drop(self.note(link)),
                Verdict::Replaced => drop(self.forget(&link.name)),
                Verdict::Doubtful(_) => self.doubt(&link.name),
                Verdict::Lost(_) | Verdict::Unknown => {}
            }
        }
        for entry in &desired.interfaces {
            let bridge = by_name
                .get(entry.name.as_str())
                .filter(|_| entry.state == Wanted::Up && entry.kind.as_ref().is_some_and(Kind::is_made));
            let Some(bridge) = bridge else { continue };
            for port in entry.ports() {
                // A policy may use an alternative name.
                let is_port = |link: &&Link| link.is_called(port) && link.master == Some(bridge.index);
                if let Some(link) = links.iter().find(is_port) {
                    let attached = Attached { index: link.index, master: bridge.index };
                    self.ports.insert(link.name.clone(), attached);
                }
            }
        }
    }

    /// Names of ports among `links` that are still where a policy put them.
    pub(crate) fn ports(&self, links: &[Link]) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for link in links {
            if self.ports.get(&link.name).is_some_and(|port| port.holds(link)) {
                names.insert(link.name.clone());
            }
        }
        names
    }

    /// What there is to say of links whose mark is lost, of which `plan` and `doctor` change nothing.
    pub(crate) fn notes(&self, links: &[Link]) -> Vec<String> {
        let mut notes = Vec::new();
        for link in links {
            match self.judge(link) {
                Verdict::Lost(_) => notes.push(format!(
                    "{}: another program overwrote the alias with the agent's mark; apply, remove and run write it again",
                    link.name
                )),
                Verdict::Doubtful(why) => notes.push(why),
                Verdict::Marked | Verdict::Replaced | Verdict::Unknown => {}
            }
        }
        notes.extend(self.renamed(links));
        notes
    }

    /// Gives `observed` the marks that are lost.
    pub(crate) fn lend(&self, links: &[Link], observed: &mut Observed) {
        for link in links {
            if let Verdict::Lost(alias) = self.judge(link)
                && let Some(seen) = observed.links.get_mut(&link.name)
            {
                seen.alias = Some(alias);
            }
        }
    }

    /// Links without the mark that are the agent's by index, and that another program renamed.
    fn renamed(&self, links: &[Link]) -> Vec<String> {
        let mut notes = Vec::new();
        for (name, made) in &self.links {
            let same = |link: &&Link| {
                link.index == made.index
                    && link.name != *name
                    && made.kind == kind(link)
                    && made.mac == mac(link)
            };
            let Some(link) = links.iter().find(same) else { continue };
            if !marker::is_ours(link.alias.as_deref()) {
                notes.push(format!(
                    "{}: the agent created it as {name}; another program renamed it and overwrote its alias, so the agent \
                     leaves it; to give it back: ip link set {} alias {:?}",
                    link.name, link.name, made.alias
                ));
            }
        }
        notes
    }
}

impl Attached {
    fn holds(self, link: &Link) -> bool {
        link.index == self.index && link.master == Some(self.master)
    }
}

/// The witness and the node's links, as a command finds them.
pub(crate) struct Marks {
    witness: Witness,
    links: Vec<Link>,
}

impl Marks {
    /// Reads both.
    ///
    /// # Errors
    /// Those of reading the kernel. A file that cannot be understood is set aside.
    pub(crate) async fn read(netlink: &Netlink, state: &State) -> Result<Self> {
        Ok(Self { witness: state.witness(), links: netlink.links().await? })
    }

    /// Names of the ports that a policy attached.
    pub(crate) fn ports(&self) -> BTreeSet<String> {
        self.witness.ports(&self.links)
    }

    /// Whether a mark is lost.
    pub(crate) fn are_lost(&self) -> bool {
        self.links.iter().any(|link| matches!(self.witness.judge(link), Verdict::Lost(_)))
    }

    /// Gives `observed` the marks that are lost.
    pub(crate) fn lend(&self, observed: &mut Observed) {
        self.witness.lend(&self.links, observed);
    }

    /// Writes lost marks again, when it is certain that the command goes on. Returns what people should know.
    pub(crate) async fn restore(self, netlink: &Netlink, state: &State) -> Vec<String> {
        let Self { mut witness, links } = self;
        let before = witness.clone();
        let mut notes = witness.renamed(&links);
        for link in &links {
            match witness.judge(link) {
                Verdict::Lost(alias) => {
                    let written = write(netlink, link, alias).await;
                    notes.extend(written.err().map(|error| chain(&error)));
                }
                Verdict::Doubtful(why) => {
                    witness.doubt(&link.name);
                    notes.push(why);
                }
                Verdict::Marked | Verdict::Replaced | Verdict::Unknown => {}
            }
        }
        keep(state, &before, &witness);
        notes
    }
}

/// Writes the mark again.
///
/// # Errors
/// The kernel's refusal.
pub(crate) async fn write(netlink: &Netlink, link: &Link, alias: String) -> Result<()> {
    let change = LinkChange { alias: Some(alias), ..LinkChange::default() };
    netlink.change_link(link.index, &change).await?;
    tracing::info!("{}: the mark was lost from its alias, and is written again", link.name);
    Ok(())
}

/// After a command: what is there now. What cannot be noted is logged.
pub(crate) async fn learn(netlink: &Netlink, state: &State, desired: &Desired) {
    let before = state.witness();
    let mut witness = before.clone();
    match netlink.links().await {
        Ok(links) => witness.learn(&links, desired),
        Err(error) => return tracing::warn!("{}", chain(&error)),
    }
    keep(state, &before, &witness);
}

/// Writes the file if there is something new. What cannot be written is logged.
fn keep(state: &State, before: &Witness, witness: &Witness) {
    if witness != before
        && let Err(why) = state.keep_witness(witness)
    {
        tracing::warn!("{why}");
    }
}

fn mac(link: &Link) -> Option<String> {
    link.mac.map(|mac| mac.to_string())
}

fn kind(link: &Link) -> String {
    match &link.kind {
        LinkKind::Bridge(_) => "bridge".into(),
        LinkKind::Vlan { id, protocol } => {
            format!("VLAN {id} ({protocol:#06x}) on {}", link.parent.unwrap_or_default())
        }
        LinkKind::Vrf { table } => format!("VRF {table}"),
        LinkKind::Veth => "veth".into(),
        LinkKind::Bond(_) => "bond".into(),
        LinkKind::Other(kind) => kind.clone(),
        LinkKind::None => String::new(),
    }
}

#[cfg(test)]
mod tests;
