//! The mark on the agent's own links, written again where another program has written over it.
//!
//! The mark is the link's alias, which others write as well: lldpd puts the switch's port there. Without it `remove` and
//! `state: absent` would leave the link. So what this process has seen with the mark is remembered by a second witness,
//! index and MAC: where that still holds, the link is the same, and gets its mark again. Where it does not, nobody guesses.

use std::collections::BTreeMap;
use std::time::Duration;

use octavia_bridge_netlink::{Link, LinkChange, MacAddress, Netlink, Result};
use tokio::time::Instant;

use crate::node::desired::{Desired, Kind, State};
use crate::node::marker;

/// So often the mark is written again; then the other program's alias stays.
const MOST: u32 = 5;
/// From so many links on, reading them one by one costs more than the mark is worth at each look.
const FEW: usize = 48;
/// After so long without a loss the next one is a first one.
const CALM: Duration = Duration::from_secs(3600);

/// A link of this agent's, as it was seen with its mark.
#[derive(Debug)]
struct Own {
    index: u32,
    mac: Option<MacAddress>,
    alias: String,
    /// How often the mark was written again, and when last.
    written: u32,
    last: Option<Instant>,
}

/// The links that were seen with the mark, by name.
#[derive(Debug, Default)]
pub(super) struct Marks {
    own: BTreeMap<String, Own>,
}

impl Marks {
    /// Looks at the links that `desired` names and that the agent may have made, and gives them back their marks. Returns
    /// what there is to know.
    ///
    /// # Errors
    /// Those of reading, and of writing an alias.
    pub(super) async fn keep(&mut self, netlink: &Netlink, desired: &Desired) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in &desired.interfaces {
            let is_made =
                matches!(entry.kind, Some(Kind::Bridge { .. } | Kind::Vlan { .. } | Kind::Vrf { .. }));
            if is_made && entry.state != State::Ignore {
                names.push(entry.name.as_str());
            }
        }
        let mut notes = Vec::new();
        if names.len() > FEW {
            return Ok(notes);
        }
        for name in names {
            let link = netlink.link(name).await?.filter(|link| link.name == name);
            match link {
                None => drop(self.own.remove(name)),
                Some(link) if marker::is_ours(link.alias.as_deref()) => self.seen(link),
                Some(link) => notes.extend(self.lost(netlink, &link).await?),
            }
        }
        Ok(notes)
    }

    fn seen(&mut self, link: Link) {
        let Link { name, index, mac, alias, .. } = link;
        let alias = alias.unwrap_or_default();
        let own = self.own.entry(name).or_insert_with(|| Own {
            index,
            mac,
            alias: String::new(),
            written: 0,
            last: None,
        });
        if own.index != index {
            (own.written, own.last) = (0, None);
        }
        (own.index, own.mac, own.alias) = (index, mac, alias);
    }

    async fn lost(&mut self, netlink: &Netlink, link: &Link) -> Result<Option<String>> {
        let Some(own) = self.own.get_mut(&link.name) else { return Ok(None) };
        let name = &link.name;
        if own.index != link.index {
            // Another one, of somebody else's.
            self.own.remove(name);
            return Ok(None);
        }
        if own.mac != link.mac {
            return Ok(Some(format!(
                "{name}: its alias no longer says that the agent created it, and its MAC address has changed, so the agent does not \
                 decide whose it is; to give it back: ip link set {name} alias {:?}",
                own.alias
            )));
        }
        let now = Instant::now();
        if own.last.is_some_and(|last| now >= last + CALM) {
            own.written = 0;
        }
        if own.written >= MOST {
            return Ok(Some(format!(
                "{name}: another program writes over its alias time and again, by which `remove` and `state: absent` know that the \
                 agent created it; to give it back: ip link set {name} alias {:?}",
                own.alias
            )));
        }
        let change = LinkChange { alias: Some(own.alias.clone()), ..LinkChange::default() };
        netlink.change_link(link.index, &change).await?;
        own.written += 1;
        own.last = Some(now);
        tracing::info!("{name}: the mark was lost from its alias, and is written again");
        Ok(None)
    }
}
