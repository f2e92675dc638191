//! The mark on the agent's own links, written again where another program has overwritten it.
//!
//! The second witness ([`Witness`]) says whether the link is still the same. A mark is not written for ever against a
//! rival, and where the witnesses disagree, the agent only reports it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use octavia_bridge_ipam::causes::chain;
use octavia_bridge_netlink::{Event, Link, Netlink, Result};
use tokio::time::Instant;

use super::keeper::Keeper;
use crate::node::desired::{Desired, Kind, State as Wanted};
use crate::node::state::State;
use crate::node::unkept;
use crate::node::witness::{self, Verdict, Witness};

/// So often the mark is written again; then the other program's alias stays.
const MOST: u32 = 5;
/// From so many links on, reading them one by one costs more than the mark is worth at each look.
const FEW: usize = 48;
/// After so long without a loss the next one is a first one.
const CALM: Duration = Duration::from_secs(3600);

/// How often the mark of a link was written again, and when last.
#[derive(Debug)]
struct Fight {
    written: u32,
    last: Instant,
}

/// The links that were seen with the mark, by name.
#[derive(Debug, Default)]
pub(super) struct Marks {
    witness: Witness,
    /// As the file has it.
    kept: Witness,
    fights: BTreeMap<String, Fight>,
    /// Ports that a policy put where they are.
    ports: BTreeSet<String>,
    /// What there is to know, of each link.
    notes: BTreeMap<String, String>,
}

impl Marks {
    /// With what earlier processes saw.
    pub(super) fn new(state: &State) -> Self {
        let witness = state.witness();
        Self { kept: witness.clone(), witness, ..Self::default() }
    }

    /// A link that is gone was the agent's, and the next one with its name and index is another.
    pub(super) fn see(&mut self, event: &Event) {
        if let Event::LinkGone { index, .. } = event {
            self.witness.gone(*index);
        }
    }

    /// Looks at the links that the agent may have created, and gives them back their marks. Returns what there is to know.
    ///
    /// # Errors
    /// Those of reading, and of writing an alias.
    async fn keep(&mut self, netlink: &Netlink, desired: &Desired) -> Result<()> {
        let mut names: BTreeSet<String> = self.witness.names().map(ToOwned::to_owned).collect();
        for entry in &desired.interfaces {
            let is_made =
                matches!(entry.kind, Some(Kind::Bridge { .. } | Kind::Vlan { .. } | Kind::Vrf { .. }));
            if is_made && entry.state != Wanted::Ignore {
                names.insert(entry.name.clone());
            }
        }
        self.notes.retain(|name, _| names.contains(name));
        if names.len() > FEW {
            return Ok(());
        }
        for name in names {
            match netlink.link(name.as_str()).await?.filter(|link| link.name == name) {
                None => drop(self.witness.forget(&name)),
                Some(link) => self.look(netlink, &link).await?,
            }
        }
        Ok(())
    }

    async fn look(&mut self, netlink: &Netlink, link: &Link) -> Result<()> {
        let name = &link.name;
        self.notes.remove(name);
        match self.witness.judge(link) {
            Verdict::Marked => {
                if self.witness.note(link) {
                    self.fights.remove(name);
                }
            }
            Verdict::Lost(alias) => return self.lost(netlink, link, alias).await,
            Verdict::Doubtful(why) => {
                self.witness.doubt(name);
                self.notes.insert(name.clone(), why);
            }
            Verdict::Replaced => {
                tracing::info!("{name}: another program replaced the link that the agent had created");
                self.witness.forget(name);
            }
            Verdict::Unknown => {}
        }
        Ok(())
    }

    async fn lost(&mut self, netlink: &Netlink, link: &Link, alias: String) -> Result<()> {
        let name = &link.name;
        let now = Instant::now();
        let fight = self.fights.entry(name.clone()).or_insert(Fight { written: 0, last: now });
        if now >= fight.last + CALM {
            fight.written = 0;
        }
        if fight.written >= MOST {
            let note = format!(
                "{name}: another program writes over its alias time and again, by which `remove` and `state: absent` know that the \
                 agent created it; to give it back: ip link set {name} alias {alias:?}"
            );
            self.notes.insert(name.clone(), note);
            return Ok(());
        }
        (fight.written, fight.last) = (fight.written + 1, now);
        witness::write(netlink, link, alias).await
    }

    /// Takes in all links of the node.
    async fn learn(&mut self, netlink: &Netlink, links: &[Link], desired: &Desired) -> Result<()> {
        for link in links {
            self.look(netlink, link).await?;
        }
        self.witness.learn(links, desired);
        self.ports = self.witness.ports(links);
        Ok(())
    }

    /// Writes the file if it has to say something else. Returns why it cannot.
    fn write(&mut self, state: &State) -> Option<String> {
        if self.witness == self.kept {
            return None;
        }
        match state.keep_witness(&self.witness) {
            Ok(()) => {
                self.kept.clone_from(&self.witness);
                None
            }
            Err(why) => Some(why),
        }
    }
}

impl Keeper<'_> {
    /// Gives marks back, before a plan takes a link without one for a stranger's. Returns why it cannot.
    pub(super) async fn keep_marks(&mut self) -> Option<String> {
        let kept = self.marks.keep(self.netlink, &self.desired).await;
        self.desired.own_ports.clone_from(&self.marks.ports);
        kept.err().map(|error| chain(&error))
    }

    /// Looks at all links of the node, when something about them may have changed, and at each full look: which are the
    /// agent's, and which no policy names any more. Returns what there is to know.
    pub(super) async fn note_links(&mut self) -> Vec<String> {
        let now = Instant::now();
        let mut notes = Vec::new();
        if self.noted_at.is_none_or(|at| now >= at + self.job.interval) {
            match self.learn().await {
                Ok(()) => self.noted_at = Some(now),
                Err(error) => notes.push(chain(&error)),
            }
        }
        notes.extend(self.marks.notes.values().cloned());
        notes.extend(self.marks.write(self.state));
        notes.extend(self.unkept.iter().cloned());
        notes
    }

    async fn learn(&mut self) -> Result<()> {
        let links = self.netlink.links().await?;
        self.unkept = unkept::among(&links, &self.desired, unkept::NO_POLICY);
        self.marks.learn(self.netlink, &links, &self.desired).await
    }
}
