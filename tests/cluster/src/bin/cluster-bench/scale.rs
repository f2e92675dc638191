//! What the server sends to all agents together for one ADD, in pools and clusters of several sizes.
//!
//! Counted is what goes over the wire: heads and bodies of answers, compressed where they are, and events of watches, of all
//! objects but leases, which agents read all the time and no ADD needs. TLS and the frames of HTTP are not counted.

mod fill;

use std::thread::sleep;
use std::time::{Duration, Instant};

use octavia_bridge_cluster_tests::{Access, Agent, Cluster, Exchange, Proxy};
use octavia_bridge_tests::statistics::quantile;
use octavia_bridge_tests::table::{self, Row, Unit};

use crate::peers::claim;
use crate::single::milliseconds;

const AGENTS: [usize; 3] = [1, 10, 50];
const ENTRIES: [usize; 3] = [40, 1000, 5000];
/// The size that has targets. An agent whose node has none of the entries shall cost nothing in any.
const AIM: Size = Size { agents: 50, entries: 1000 };

/// Most ADDs of a size, each of another agent as long as there are such.
const ADDS: usize = 10;
/// Nothing has come for so long: nothing more comes for this ADD.
const QUIET: Duration = Duration::from_millis(700);
/// After so long something is wrong.
const NEVER_QUIET: Duration = Duration::from_secs(120);
/// Agents read their own entries again at least so often.
const REPAIR: Duration = Duration::from_secs(75);

/// Agents, and entries that they hold between them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    agents: usize,
    entries: usize,
}

impl Size {
    /// Of the form `50x1000`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (agents, entries) = text.split_once('x')?;
        let size = Self { agents: agents.parse().ok()?, entries: entries.parse().ok()? };
        (size.agents > 0 && (size.agents..fill::ROOM).contains(&size.entries)).then_some(size)
    }
}

/// Figures of one size, or of all.
pub(crate) fn figures(cluster: &Cluster, rounds: usize, only: Option<Size>) -> Vec<Row> {
    let mut rows = Vec::new();
    for entries in ENTRIES {
        for agents in AGENTS {
            let size = Size { agents, entries };
            if only.is_none() {
                rows.extend(one_size(cluster, size, rounds.min(ADDS)));
            }
        }
    }
    if let Some(size) = only {
        rows.extend(one_size(cluster, size, rounds.min(ADDS)));
    }
    rows
}

fn one_size(cluster: &Cluster, size: Size, adds: usize) -> Vec<Row> {
    let Size { agents: count, entries } = size;
    let admin = cluster.namespace("scale");
    // One more, whose node has none of the entries.
    let names: Vec<String> = (0..=count).map(|n| format!("scale-{n:02}")).collect();
    names.iter().for_each(|name| cluster.node(name));
    fill::pool(&admin, &names[..count], entries);
    let peer = peer_s_add(&admin, adds.min(3));

    let nodes: Vec<Node> = names.iter().map(|name| Node::start(&admin, name)).collect();
    let (idle, holders) = (&nodes[count], &nodes[..count]);
    // The first ADD after a start may read what later ones remember.
    holders.iter().take(adds).for_each(Node::add);
    settle(&nodes);
    let mut sum = Received::default();
    let mut idle_sum = Received::default();
    let mut times = Vec::new();
    for n in 0..adds {
        let (before, idle_before) = (received(holders), idle.received());
        let started = Instant::now();
        holders[n % count].add();
        times.push(milliseconds(started.elapsed()));
        settle(&nodes);
        sum = sum.plus(received(holders).less(before));
        idle_sum = idle_sum.plus(idle.received().less(idle_before));
    }
    let each = |bytes: usize| bytes as f64 / adds as f64 / 1000.0;
    let name = format!("{count} agents, {entries} entries: ");
    table::line(&format!(
        "{name}{:.1} kB of events, {:.1} kB of answers for each ADD, {:.0} ms",
        each(sum.events),
        each(sum.answers),
        quantile(&mut times, 0.5)
    ));
    let all = Row::new(format!("{name}an ADD"), Unit::Kilobytes, each(sum.all()), peer);
    let none = Row::alone(format!("{name}an agent without"), Unit::Kilobytes, each(idle_sum.all()));
    let none = none.most(0.0);
    if size != AIM {
        return vec![all, none];
    }
    let before = received(holders);
    sleep(REPAIR);
    let later = received(holders).less(before).all() as f64 / 1000.0;
    let later = Row::alone(format!("{name}all in {REPAIR:?} after"), Unit::Kilobytes, later);
    vec![all.most(150.0), none, later]
}

/// An agent behind a proxy of its own, which counts.
struct Node {
    agent: Agent,
    proxy: Proxy,
}

impl Node {
    fn start(access: &Access, name: &str) -> Self {
        let proxy = Proxy::start(access);
        let agent = Agent::start(&proxy.access(), name);
        agent.ready();
        Self { agent, proxy }
    }

    fn add(&self) {
        let answer = fill::claim(&self.agent);
        assert!(answer["assigned"].is_array(), "a claim failed: {answer}");
    }

    fn received(&self) -> Received {
        let mut sum = Received::default();
        for Exchange { path, bytes, .. } in self.proxy.exchanges() {
            if path.contains("/leases") {
                continue;
            }
            if path.contains("watch=") {
                sum.events += bytes;
            } else {
                sum.answers += bytes;
            }
        }
        sum
    }
}

/// Bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Received {
    events: usize,
    answers: usize,
}

impl Received {
    fn all(self) -> usize {
        self.events + self.answers
    }

    fn plus(self, other: Self) -> Self {
        Self { events: self.events + other.events, answers: self.answers + other.answers }
    }

    fn less(self, before: Self) -> Self {
        Self { events: self.events - before.events, answers: self.answers - before.answers }
    }
}

fn received(nodes: &[Node]) -> Received {
    nodes.iter().map(Node::received).fold(Received::default(), Received::plus)
}

/// Waits until nothing comes any more.
fn settle(nodes: &[Node]) {
    let started = Instant::now();
    let mut last = received(nodes);
    loop {
        sleep(QUIET);
        let now = received(nodes);
        if now == last {
            return;
        }
        assert!(started.elapsed() < NEVER_QUIET, "after an ADD the server goes on and on");
        last = now;
    }
}

/// Kilobytes that the server sends for one ADD of the peer's, which reads nothing for others' ADDs, however many nodes there
/// are. Go's client takes pools compressed, which the peer here does not: each answer with the pool counts as long as that.
fn peer_s_add(access: &Access, adds: usize) -> f64 {
    let proxy = Proxy::start(access);
    let rival = fill::peer(&proxy.access());
    for n in 0..adds {
        rival.add(&claim(n)).expect("the peer's ADD");
    }
    let answers: Vec<usize> = proxy.exchanges().iter().map(|seen| seen.bytes).collect();
    for n in 0..adds {
        rival.del(&claim(n)).expect("the peer's DEL");
    }
    let [plain, small] = fill::sizes(access);
    let with_pool = answers.iter().filter(|&&bytes| bytes >= plain).count();
    let sum: usize = answers.iter().sum();
    let each = |bytes: usize| bytes as f64 / adds as f64 / 1000.0;
    let taken = each(sum - with_pool * (plain - small));
    table::line(&format!(
        "a pool of {} bytes, {small} compressed; the peer's ADD reads {:.1} kB, {taken:.1} kB compressed",
        plain,
        each(sum)
    ));
    taken
}
