//! Many ADDs at once: a node that starts, a cluster that starts, another network beside them.

use std::thread;
use std::time::{Duration, Instant};

use octavia_bridge_cluster_tests::{Access, Agent, Cluster, Proxy, Range};
use octavia_bridge_tests::statistics::quantile;
use octavia_bridge_tests::table::{self, Row, Unit};

use crate::node::{Node, Pod, at_once};
use crate::peers;
use crate::single::milliseconds;

/// Bursts of one kind: one that met a busy moment must not decide, unless an ADD failed in it.
const TIMES: usize = 5;
const NODES: usize = 10;

pub(crate) fn figures(cluster: &Cluster) -> Vec<Row> {
    let one = nodes(&cluster.namespace("burst"), 1);
    let ours = burst(&one, 100);
    let theirs = milliseconds(peers::at_once(&cluster.namespace("burst-peer"), 100));
    let ten = nodes(&cluster.namespace("burst"), NODES);
    vec![
        Row::new("100 ADDs at once, one node", Unit::Milliseconds, ours, theirs).most(800.0),
        Row::new("100 ADDs at once, ten nodes", Unit::Milliseconds, burst(&ten, 100), theirs).most(2000.0),
        Row::alone("500 ADDs at once, ten nodes", Unit::Milliseconds, burst(&ten, 500)).most(4000.0),
        beside(cluster),
    ]
}

fn nodes(access: &Access, count: usize) -> Vec<Node> {
    (0..count).map(|n| Node::start(access, &format!("burst-{n}"))).collect()
}

/// The time of `count` ADDs at once, in milliseconds; no time at all will do if one failed.
fn burst(nodes: &[Node], count: usize) -> f64 {
    let nodes: Vec<&Node> = nodes.iter().collect();
    let mut took: Vec<f64> = (0..TIMES)
        .map(|_| {
            let pods = Pod::many(count);
            let took = at_once("ADD", &nodes, &pods).and_then(|took| {
                at_once("DEL", &nodes, &pods)?;
                Ok(took)
            });
            took.map_or_else(
                |why| {
                    table::line(&format!("{count} at once, {} nodes: {why}", nodes.len()));
                    f64::INFINITY
                },
                milliseconds,
            )
        })
        .collect();
    if took.iter().all(|time| time.is_finite()) { quantile(&mut took, 0.5) } else { f64::INFINITY }
}

/// 50 claims of one network alone, and while 50 of another one are at work. The server is 10 ms away: where the processors
/// are the limit, whatever else runs slows everything.
fn beside(cluster: &Cluster) -> Row {
    let proxy = Proxy::start(&cluster.namespace("beside"));
    let agent = Agent::start(&proxy.access(), "beside");
    agent.ready();
    proxy.latency(Duration::from_millis(10));
    let [one, other] = ["10.1.0", "10.2.0"].map(|network| Range::of(network, 1, 254));
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    for round in 0..TIMES {
        alone.push(milliseconds(claims(&agent, &one, &format!("a{round}"))));
        let both = thread::scope(|scope| {
            let (agent, other) = (&agent, &other);
            scope.spawn(move || claims(agent, other, &format!("c{round}")));
            claims(agent, &one, &format!("b{round}"))
        });
        together.push(milliseconds(both));
        for name in ["a", "b", "c"] {
            (0..50).for_each(|n| drop(agent.release(&format!("{name}{round}-{n}"))));
        }
    }
    let name = "50 claims beside another network's 50 | alone";
    Row::new(name, Unit::Milliseconds, quantile(&mut together, 0.5), quantile(&mut alone, 0.5)).at_most(1.5)
}

fn claims(agent: &Agent, range: &Range, name: &str) -> Duration {
    let started = Instant::now();
    thread::scope(|scope| {
        for n in 0..50 {
            scope.spawn(move || {
                let id = format!("{name}-{n}");
                let answer = agent.claim(range, &id, &id, &[]);
                assert!(answer["assigned"].is_array(), "{answer}");
            });
        }
    });
    started.elapsed()
}
