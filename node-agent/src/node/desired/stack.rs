//! What stands on what: a VLAN on its base interface, a bridge or a VRF on its ports.

use std::collections::BTreeMap;

use super::{Interface, Kind};

/// By name, what each of them needs.
type Needs<'a> = BTreeMap<&'a str, Vec<&'a str>>;

/// How the interfaces of a document stand on each other.
#[derive(Debug, Default)]
pub(super) struct Stack<'a> {
    /// How many links there are from the lowest to this one, both counted. A name without an entry is one, too.
    heights: BTreeMap<&'a str, usize>,
    /// The same from the highest.
    depths: BTreeMap<&'a str, usize>,
}

impl<'a> Stack<'a> {
    pub(super) fn of(interfaces: impl Iterator<Item = &'a Interface>) -> Self {
        let (mut beneath, mut above) = (Needs::new(), Needs::new());
        for interface in interfaces {
            let base = match &interface.kind {
                Some(Kind::Vlan { base, .. }) => base.as_ref(),
                _ => None,
            };
            let name = interface.name.as_str();
            beneath.entry(name).or_default();
            above.entry(name).or_default();
            for other in interface.ports().iter().chain(base) {
                beneath.entry(name).or_default().push(other);
                beneath.entry(other).or_default();
                above.entry(other).or_default().push(name);
            }
        }
        Self { heights: levels(&beneath, &above), depths: levels(&above, &beneath) }
    }

    /// Whether what the link stands on leads back to it, or it lies between two of which that is so.
    pub(super) fn is_circular(&self, name: &str) -> bool {
        !self.heights.contains_key(name) && !self.depths.contains_key(name)
    }

    /// How many links there are from the lowest beneath it to this one; `None` if that has no end.
    pub(super) fn height(&self, name: &str) -> Option<usize> {
        self.heights.get(name).copied()
    }
}

/// The level of each name all of whose needs have one: 1 for those that need nothing. Kahn's algorithm, which looks at
/// each need once.
fn levels<'a>(needs: &Needs<'a>, needed_by: &Needs<'a>) -> BTreeMap<&'a str, usize> {
    let mut open: BTreeMap<&str, usize> = needs.iter().map(|(name, all)| (*name, all.len())).collect();
    let mut levels: BTreeMap<&str, usize> = BTreeMap::new();
    let mut ready: Vec<(&str, usize)> =
        open.iter().filter(|(_, count)| **count == 0).map(|(name, _)| (*name, 1)).collect();
    let mut highest: BTreeMap<&str, usize> = BTreeMap::new();
    while let Some((name, level)) = ready.pop() {
        levels.insert(name, level);
        for other in needed_by.get(name).into_iter().flatten() {
            let below = highest.entry(other).or_default();
            *below = level.max(*below);
            if let Some(count) = open.get_mut(other) {
                *count -= 1;
                if *count == 0 {
                    ready.push((other, *below + 1));
                }
            }
        }
    }
    levels
}
