//! One ADD or DEL at a time.

use std::thread::sleep;
use std::time::{Duration, Instant};

use octavia_bridge_cluster_tests::{Access, Cluster, Proxy, Rival};
use octavia_bridge_tests::statistics::quantile;
use octavia_bridge_tests::table::{Row, Unit};

use crate::WARM_UP;
use crate::node::{Node, Pod};
use crate::peers::{claim, peer};

/// How long each request to the server takes in addition where it is far away.
const FAR: Duration = Duration::from_millis(10);
/// Longest pause between two calls that come at random; whereabouts' LIST is slow after less than this.
const PAUSE: usize = 200;

pub(crate) fn figures(cluster: &Cluster, rounds: usize) -> Vec<Row> {
    let [admin, rivals] = ["single", "single-peer"].map(|name| cluster.namespace(name));
    let node = Node::start(&admin, "single");
    let rival = peer(&rivals);
    for n in 0..WARM_UP {
        node.run("ADD", &Pod::one()).1.done();
        rival.add(&claim(n)).expect("the peer's ADD");
    }
    let mut rows = requests(cluster, &admin, &node, &rivals, &rival);

    let [mut ours, mut theirs] = [Times::default(), Times::default()];
    for n in 0..rounds {
        ours.add_and_del(&node, Duration::ZERO);
        theirs.peer_s_add_and_del(&rival, WARM_UP + n, Duration::ZERO);
    }
    rows.push(row("ADD, back to back, median", &mut ours.add, &mut theirs.add).most(12.0));
    rows.push(row("DEL, back to back, median", &mut ours.del, &mut theirs.del));

    let [mut ours, mut theirs] = [Times::default(), Times::default()];
    for n in 0..rounds {
        // Anything that does not repeat within the rounds.
        let pause = Duration::from_millis((n * 7919 % PAUSE) as u64);
        ours.add_and_del(&node, pause);
        theirs.peer_s_add_and_del(&rival, WARM_UP + n, pause);
    }
    rows.push(row("ADD, at random moments, median", &mut ours.add, &mut theirs.add).most(12.0));

    rows.push(far(cluster, rounds.min(20)));
    rows
}

/// What the server is asked for one ADD and one DEL of a pool that exists.
fn requests(cluster: &Cluster, admin: &Access, node: &Node, rivals: &Access, rival: &Rival) -> Vec<Row> {
    let asked = |access: &Access, work: &dyn Fn()| {
        let mark = cluster.audit().mark();
        work();
        let requests = cluster.audit().since(mark).into_iter();
        requests.filter(|request| request.namespace == access.namespace()).count() as f64
    };
    let (pod, theirs) = (Pod::one(), claim(usize::MAX));
    let our = |verb| drop(node.run(verb, &pod).1.done());
    let row = |name, ours, theirs| Row::new(name, Unit::Requests, ours, theirs).most(2.0);
    let their_add = || {
        rival.add(&theirs).expect("the peer's ADD");
    };
    let their_del = || rival.del(&theirs).expect("the peer's DEL");
    vec![
        row("ADD, in a pool that exists", asked(admin, &|| our("ADD")), asked(rivals, &their_add)),
        row("DEL", asked(admin, &|| our("DEL")), asked(rivals, &their_del)),
    ]
}

/// Each request takes 10 ms more.
fn far(cluster: &Cluster, rounds: usize) -> Row {
    let [proxy, rivals] = ["far", "far-peer"].map(|name| Proxy::start(&cluster.namespace(name)));
    let node = Node::start(&proxy.access(), "far");
    let rival = peer(&rivals.access());
    node.run("ADD", &Pod::one()).1.done();
    rival.add(&claim(0)).expect("the peer's ADD");
    proxy.latency(FAR);
    rivals.latency(FAR);
    let [mut ours, mut theirs] = [Times::default(), Times::default()];
    for n in 0..rounds {
        ours.add_and_del(&node, Duration::ZERO);
        theirs.peer_s_add_and_del(&rival, 1 + n, Duration::ZERO);
    }
    row("ADD, API 10 ms away, median", &mut ours.add, &mut theirs.add).most(45.0)
}

/// Wall clock of calls, in milliseconds.
#[derive(Default)]
struct Times {
    add: Vec<f64>,
    del: Vec<f64>,
}

impl Times {
    fn add_and_del(&mut self, node: &Node, pause: Duration) {
        let pod = Pod::one();
        for (verb, times) in [("ADD", &mut self.add), ("DEL", &mut self.del)] {
            sleep(pause);
            let (took, said) = node.run(verb, &pod);
            said.done();
            times.push(milliseconds(took));
        }
    }

    fn peer_s_add_and_del(&mut self, rival: &Rival, n: usize, pause: Duration) {
        let claim = claim(n);
        sleep(pause);
        let started = Instant::now();
        rival.add(&claim).expect("the peer's ADD");
        self.add.push(milliseconds(started.elapsed()));
        sleep(pause);
        let started = Instant::now();
        rival.del(&claim).expect("the peer's DEL");
        self.del.push(milliseconds(started.elapsed()));
    }
}

fn row(name: &str, ours: &mut [f64], theirs: &mut [f64]) -> Row {
    Row::new(name, Unit::Milliseconds, quantile(ours, 0.5), quantile(theirs, 0.5))
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
