//! The way of a packet that opens a connection, and of its answer, through a table's forward hook, as far as links decide about
//! them.

use octavia_bridge_netlink::{
    FilterChain, FilterTable, Link, RulePart, RuleTest, STATE_ESTABLISHED, STATE_NEW, Verdict,
};

/// Rules at most that one look goes through; a rule of a chain to which many jump counts each time.
const RULES: usize = 100_000;
/// Chains that lead to each other. The kernel allows 16.
const DEPTH: usize = 32;

/// From one port of a bridge to another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way<'a> {
    pub(super) bridge: &'a Link,
    /// The ports, for a table that sees frames. Others see packets that come from the bridge and go to the bridge.
    pub(super) ports: Option<&'a [&'a Link]>,
    pub(super) ipv6: bool,
}

/// That nothing, or little, gets through.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dropped {
    /// Base chain.
    pub(super) chain: String,
    pub(super) by: String,
    /// Rules that look at other things than links accept some.
    pub(super) excepted: bool,
}

/// Whether a test, or all tests of a rule, are passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Passes {
    Always,
    /// By packets that other things than links tell apart.
    Some,
    Never,
}

enum Fate {
    Accepted,
    Dropped(String),
    Onward,
}

struct Walk<'a> {
    table: &'a FilterTable,
    way: &'a Way<'a>,
    /// State of its connection.
    state: u32,
    excepted: bool,
    left: usize,
}

/// The base chain of the forward hook that drops what goes this way, if one does. One that drops everything comes before one
/// that drops some.
pub(super) fn dropped(table: &FilterTable, way: &Way<'_>) -> Option<Dropped> {
    let mut found = dropped_in(table, way, STATE_NEW);
    for dropped in dropped_in(table, way, STATE_ESTABLISHED) {
        found.push(Dropped { by: format!("of answers, {}", dropped.by), ..dropped });
    }
    found.into_iter().min_by_key(|dropped| dropped.excepted)
}

fn dropped_in(table: &FilterTable, way: &Way<'_>, state: u32) -> Vec<Dropped> {
    let mut found = Vec::new();
    for chain in &table.chains {
        let Some(drops) = chain.forward else { continue };
        let mut walk = Walk { table, way, state, excepted: false, left: RULES };
        let by = match walk.chain(chain, 0) {
            Fate::Accepted => continue,
            Fate::Dropped(by) => by,
            Fate::Onward if drops => "policy drop".to_owned(),
            Fate::Onward => continue,
        };
        found.push(Dropped { chain: chain.name.clone(), by, excepted: walk.excepted });
    }
    found
}

impl Walk<'_> {
    fn chain(&mut self, chain: &FilterChain, depth: usize) -> Fate {
        for (at, rule) in chain.rules.iter().enumerate() {
            if self.left == 0 || depth == DEPTH {
                self.excepted = true;
                return Fate::Onward;
            }
            self.left -= 1;
            let mut passes = Passes::Always;
            for part in &rule.parts {
                match part {
                    RulePart::Test(test) => passes = passes.max(self.passes(test)),
                    RulePart::Verdict(verdict) => match self.verdict(verdict, passes, depth) {
                        Some(Fate::Dropped(by)) if by.is_empty() => {
                            return Fate::Dropped(format!("rule {} of {}", at + 1, chain.name));
                        }
                        Some(fate) => return fate,
                        None => {}
                    },
                }
            }
        }
        Fate::Onward
    }

    /// What becomes of every packet; `None` if at least some go on in this chain.
    fn verdict(&mut self, verdict: &Verdict, passes: Passes, depth: usize) -> Option<Fate> {
        let always = match passes {
            Passes::Always => true,
            Passes::Some => false,
            Passes::Never => return None,
        };
        let fate = match verdict {
            Verdict::Accept => Fate::Accepted,
            Verdict::Drop => Fate::Dropped(String::new()),
            Verdict::Return => Fate::Onward,
            Verdict::Unknown => {
                self.excepted = true;
                return None;
            }
            Verdict::Jump(name) | Verdict::GoTo(name) => {
                let table = self.table;
                let next = table.chains.iter().find(|chain| chain.name == *name)?;
                match (self.chain(next, depth + 1), verdict) {
                    (Fate::Onward, Verdict::Jump(_)) => return None,
                    (fate, _) => fate,
                }
            }
        };
        if always {
            return Some(fate);
        }
        self.excepted |= !matches!(fate, Fate::Dropped(_));
        None
    }

    fn passes(&self, test: &RuleTest) -> Passes {
        match test {
            RuleTest::State { mask, not } => certain((mask & self.state != 0) != *not),
            RuleTest::Ipv6(ipv6) if self.way.ports.is_none() => certain(*ipv6 == self.way.ipv6),
            RuleTest::Ipv6(_) | RuleTest::Other => Passes::Some,
            RuleTest::Link { bridge, name, whole, not, .. } => {
                let is = |link: &Link| match whole {
                    true => link.name.as_bytes() == name,
                    false => link.name.as_bytes().starts_with(name),
                };
                self.of_links(*bridge, *not, is)
            }
            RuleTest::Index { index, not, .. } => self.of_links(false, *not, |link| link.index == *index),
        }
    }

    fn of_links(&self, bridge: bool, not: bool, is: impl Fn(&Link) -> bool) -> Passes {
        match self.way.ports {
            Some(ports) if !bridge => {
                let passing = ports.iter().filter(|port| is(port) != not).count();
                match passing {
                    0 => Passes::Never,
                    _ if passing == ports.len() => Passes::Always,
                    _ => Passes::Some,
                }
            }
            _ => certain(is(self.way.bridge) != not),
        }
    }
}

fn certain(passes: bool) -> Passes {
    if passes { Passes::Always } else { Passes::Never }
}

#[cfg(test)]
mod tests;
