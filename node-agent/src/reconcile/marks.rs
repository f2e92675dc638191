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
use crate::node::desired::{Desired, Interface, Kind, State as Wanted};
use crate::node::state::State;
use crate::node::unkept;
use crate::node::witness::{self, Verdict, Witness};

/// So often the mark is written again; then the other program's alias stays.
const MOST: u32 = 5;
/// From so many links on, reading all of the node's costs less than reading them one by one.
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

    /// Looks at the links that the agent may have created, and gives them back their marks. Returns why that failed, of each
    /// link.
    async fn keep(&mut self, netlink: &Netlink, desired: &Desired) -> Vec<String> {
        let mut names: BTreeSet<String> = self.witness.names().map(ToOwned::to_owned).collect();
        for entry in &desired.interfaces {
            if entry.kind.as_ref().is_some_and(Kind::is_made) && entry.state != Wanted::Ignore {
                names.insert(entry.name.clone());
            }
        }
        self.notes.retain(|name, _| names.contains(name));
        let (links, mut failed) = read(netlink, &names).await;
        for name in names {
            let looked = match links.get(&name) {
                Some(Some(link)) => self.look(netlink, link).await,
                Some(None) => {
                    self.witness.forget(&name);
                    Ok(())
                }
                None => Ok(()),
            };
            failed.extend(looked.err().map(|error| format!("{name}: {}", chain(&error))));
        }
        failed
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

    /// Takes in all links of the node. Returns what failed, of each link: one may be gone again.
    async fn learn(&mut self, netlink: &Netlink, links: &[Link], desired: &Desired) -> Vec<String> {
        let mut failed = Vec::new();
        for link in links {
            let looked = self.look(netlink, link).await;
            failed.extend(looked.err().map(|error| format!("{}: {}", link.name, chain(&error))));
        }
        self.witness.learn(links, desired);
        self.ports = self.witness.ports(links);
        failed
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

/// The links of these names, `None` for one that is not there, and what could not be read.
async fn read(netlink: &Netlink, names: &BTreeSet<String>) -> (BTreeMap<String, Option<Link>>, Vec<String>) {
    let mut found = BTreeMap::new();
    let mut failed = Vec::new();
    if names.len() > FEW {
        match netlink.links().await {
            Ok(links) => {
                found.extend(names.iter().map(|name| (name.clone(), None)));
                let named = links.into_iter().filter(|link| names.contains(&link.name));
                found.extend(named.map(|link| (link.name.clone(), Some(link))));
            }
            Err(error) => failed.push(chain(&error)),
        }
        return (found, failed);
    }
    for name in names {
        match netlink.link(name.as_str()).await {
            Ok(link) => drop(found.insert(name.clone(), link.filter(|link| link.name == *name))),
            Err(error) => failed.push(format!("{name}: {}", chain(&error))),
        }
    }
    (found, failed)
}

impl Keeper<'_> {
    /// Gives marks back, before a plan takes a link without one for a stranger's. Returns why it cannot.
    pub(super) async fn keep_marks(&mut self) -> Vec<String> {
        let mut failed = self.marks.keep(self.netlink, &self.desired).await;
        match self.own_ports().await {
            Ok(ports) => self.desired.own_ports = ports,
            Err(error) => failed.push(chain(&error)),
        }
        failed
    }

    /// Ports that are not a stranger's: those that were seen where a policy put them, and those of what is in force, which an
    /// earlier release may have put there.
    async fn own_ports(&self) -> Result<BTreeSet<String>> {
        let mut ports = self.marks.ports.clone();
        // Nothing else asks whose they are.
        if self.desired.interfaces.iter().all(|entry| entry.state != Wanted::Absent) {
            return Ok(ports);
        }
        for port in self.in_force.interfaces.iter().flat_map(Interface::ports) {
            // The policy may have another name of it.
            let link = self.netlink.link(port.as_str()).await?;
            ports.extend(link.map(|link| link.name));
        }
        Ok(ports)
    }

    /// Looks at all links of the node, when something about them may have changed, and at each full look: which are the
    /// agent's, and which no policy names any more. Returns what there is to know.
    pub(super) async fn note_links(&mut self) -> Vec<String> {
        let now = Instant::now();
        let mut notes = Vec::new();
        if self.noted_at.is_none_or(|at| now >= at + self.job.interval) {
            match self.learn().await {
                Ok(failed) => {
                    self.noted_at = Some(now);
                    notes.extend(failed);
                }
                Err(error) => notes.push(chain(&error)),
            }
        }
        notes.extend(self.marks.notes.values().cloned());
        notes.extend(self.marks.write(self.state));
        notes.extend(self.unkept.iter().cloned());
        notes
    }

    async fn learn(&mut self) -> Result<Vec<String>> {
        let links = self.netlink.links().await?;
        self.unkept = unkept::among(&links, &self.desired, unkept::NO_POLICY);
        Ok(self.marks.learn(self.netlink, &links, &self.desired).await)
    }
}

#[cfg(test)]
mod tests {
    use octavia_bridge_netlink::{LinkChange, NewBridge, ask};

    use super::*;
    use crate::node::desired::{Choice, Text, read};

    const MARK: &str = "octavia-bridge: uplink";

    /// A bridge `br0` that was seen with its mark and has lost it, in a namespace of its own, which goes with the thread.
    fn with_a_lost_mark(story: impl AsyncFnOnce(&Netlink, Marks) + Send + 'static) {
        let inside = || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let scene = async |host: &Netlink| {
                let alias = Some(MARK.to_owned());
                host.create_bridge(&NewBridge { name: "br0".into(), alias, ..NewBridge::default() }).await?;
                let link = host.link("br0").await?.unwrap();
                let mut marks = Marks::default();
                marks.witness.note(&link);
                let change = LinkChange { alias: Some("other".into()), ..LinkChange::default() };
                host.change_link(link.index, &change).await?;
                story(host, marks).await;
                Ok(())
            };
            ask(scene).unwrap();
        };
        std::thread::spawn(inside).join().unwrap();
    }

    async fn mark(host: &Netlink) -> Option<String> {
        host.link("br0").await.unwrap().unwrap().alias
    }

    #[test]
    fn of_many_links_each_has_its_mark_back_before_the_plan() {
        with_a_lost_mark(async |host, mut marks| {
            let names: Vec<String> =
                (0..=FEW).map(|n| format!("{{name: br{n}, type: linux-bridge}}")).collect();
            let yaml = format!("interfaces: [{}]", names.join(", "));
            let desired = read(&[Text { origin: "-".into(), yaml }], &Choice::default()).unwrap();
            assert!(marks.keep(host, &desired).await.is_empty());
            assert_eq!(mark(host).await.as_deref(), Some(MARK));
        });
    }

    #[test]
    fn a_link_that_vanishes_keeps_no_other_from_its_mark() {
        with_a_lost_mark(async |host, mut marks| {
            let link = host.link("br0").await.unwrap().unwrap();
            let gone = Link { index: 4000, name: "aa".into(), ..link.clone() };
            marks.witness.note(&Link { alias: Some(MARK.into()), ..gone.clone() });
            let failed = marks.learn(host, &[gone, link], &Desired::default()).await;
            assert_eq!(failed.len(), 1, "{failed:?}");
            assert!(failed[0].starts_with("aa: "), "{failed:?}");
            assert_eq!(mark(host).await.as_deref(), Some(MARK));
        });
    }
}
