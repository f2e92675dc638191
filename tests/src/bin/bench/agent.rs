//! The agent against the crate `nmstate` without NetworkManager and against `ip -batch`: the work alone, in programs that
//! run already, and whole programs, from start to end.
//!
//! nmstate is given less to do, since without NetworkManager it sets neither MTU nor STP; `ip` does not read back. Neither
//! keeps anything on disk.

use std::fs;
use std::path::Path;

use octavia_bridge_tests::Lab;
use octavia_bridge_tests::statistics::{Samples, quantile};
use octavia_bridge_tests::table::{Row, Unit};

use crate::peers::{Ground, Peer, Scene};
use crate::running::{Asked, Daemon};
use crate::{Options, WARM_UP, keeper, ports};

/// Whole programs, against nmstate's: to start one takes about as long as the work.
const WHOLE: f64 = 0.33;
/// Links of the growing policy; four times as many may take so much longer for each.
const GROWTH: [usize; 3] = [125, 250, 500];
const LINEAR: f64 = 1.5;
/// A policy of hundreds is long enough to need few repetitions.
const GROWTH_ROUNDS: usize = 3;

/// Every measurement of the agent, in tables with the names of their two columns.
pub(crate) fn figures(options: &Options) -> Vec<([&'static str; 2], Vec<Row>)> {
    let lab = Lab::new();
    let ground = Ground::new(&lab, &options.disk);
    let repair = (["our daemon", ""], keeper::figures(&Scene::new(&ground, "keeper", 1)));
    let ports = (["our daemon", "ip -batch"], ports::figures(&lab));
    if options.only_repair {
        return vec![repair, ports];
    }
    let what = if ground.vlans { "VLAN + bridge" } else { "bridge + port (no 8021q here)" };
    let mut programs = create_and_again(&ground, options.rounds, what);
    programs.push(writes(&ground));
    programs.extend(growth(&ground, what));
    vec![
        (["our daemon, running", "peer, running"], work_alone(&ground, options.rounds, what)),
        (["our program, whole", "peer, whole"], programs),
        repair,
        ports,
    ]
}

/// Making one, and looking again, by programs that were started before: what it takes in a daemon, and nothing of what it
/// takes to start one.
fn work_alone(ground: &Ground<'_>, rounds: usize, what: &str) -> Vec<Row> {
    let scenes = ["daemon", "calls", "commands"].map(|name| Scene::new(ground, name, 1));
    let daemon = Daemon::in_scene(&scenes[0]);
    let mut nmstate = Asked::nmstate(&scenes[1]);
    let [mut made, mut kept, mut checked, mut called, mut again, mut commanded]: [Vec<f64>; 6] =
        Default::default();
    for round in 0..rounds + WARM_UP {
        for turn in 0..3 {
            match (round + turn) % 3 {
                0 => {
                    let [links, whole] = daemon.make();
                    made.push(links);
                    kept.push(whole);
                    checked.push(daemon.again());
                }
                1 => {
                    called.push(nmstate.apply());
                    again.push(nmstate.apply());
                }
                _ => commanded.push(Asked::ip(&scenes[2]).batch()),
            }
        }
        daemon.forget();
        scenes.iter().for_each(|scene| scene.clear(1));
    }
    let row = |name: String, ours: &[f64], peer: &[f64], share: f64| {
        let of = |values: &[f64]| quantile(&mut values[WARM_UP..].to_vec(), share);
        Row::new(name, Unit::Milliseconds, of(ours), of(peer))
    };
    let named = |name: &str| name.to_owned();
    vec![
        row(format!("{what}, median (nmstate)"), &made, &called, 0.5).most(2.0).at_most(0.1),
        row(format!("{what}, median (ip -batch)"), &made, &commanded, 0.5),
        row(named("the same, 90th percentile (nmstate)"), &made, &called, 0.9),
        row(named("the same, and kept on disk (nmstate keeps not)"), &kept, &called, 0.5),
        row(named("nothing to do, median (nmstate)"), &checked, &again, 0.5).most(1.0),
        row(named("nothing to do, 90th percentile (nmstate)"), &checked, &again, 0.9),
    ]
}

/// Making one, and applying again, one of each program in every round, the first one changing places.
fn create_and_again(ground: &Ground<'_>, rounds: usize, what: &str) -> Vec<Row> {
    let peers = [Peer::Ours, Peer::Nmstate, Peer::Ip];
    let scenes = ["ours", "nmstate", "ip"].map(|name| Scene::new(ground, name, 1));
    let mut create: [Samples; 3] = Default::default();
    let mut again: [Samples; 2] = Default::default();
    for round in 0..rounds + WARM_UP {
        let counts = round >= WARM_UP;
        for turn in 0..3 {
            let which = (round + turn) % 3;
            let sample = peers[which].apply(&scenes[which], 1);
            if counts {
                create[which].push(sample);
            }
        }
        // `ip` has no such thing: what exists is an error to it.
        for turn in 0..2 {
            let which = (round + turn) % 2;
            let sample = peers[which].apply(&scenes[which], 1);
            if counts {
                again[which].push(sample);
            }
        }
        scenes.iter().for_each(|scene| scene.clear(1));
    }
    let [ours, nmstate, ip] = create.each_ref().map(Samples::median);
    let ms = Unit::Milliseconds;
    vec![
        Row::new(format!("{what}, median (nmstate)"), ms, ours, nmstate).at_most(WHOLE),
        Row::new(format!("{what}, median (ip -batch)"), ms, ours, ip),
        Row::new("the same, 90th percentile (nmstate)", ms, create[0].p90(), create[1].p90()),
        Row::new("the same, processor (nmstate)", ms, create[0].median_cpu(), create[1].median_cpu()),
        Row::new("applied again, median (nmstate)", ms, again[0].median(), again[1].median()).at_most(WHOLE),
        Row::new("applied again, 90th percentile (nmstate)", ms, again[0].p90(), again[1].p90()),
    ]
}

/// Requests that change something, of an apply with nothing to do.
fn writes(ground: &Ground<'_>) -> Row {
    let [ours, nmstate] =
        [(Peer::Ours, "count-ours"), (Peer::Nmstate, "count-nmstate")].map(|(peer, name)| {
            let scene = Scene::new(ground, name, 1);
            peer.apply(&scene, 1);
            let log = scene.node.path("requests");
            let command = peer.command(&scene, 1);
            let mut strace = std::process::Command::new("strace");
            strace.args(["-f", "-qq", "-e", "trace=sendto,sendmsg", "-o"]).arg(&log);
            strace.arg(command.get_program()).args(command.get_args());
            let output = scene.node.output(&mut strace);
            assert!(output.status.success(), "{strace:?}: {}", String::from_utf8_lossy(&output.stderr));
            changing(&log)
        });
    Row::new("applied again, writes to the kernel (nmstate)", Unit::Times, ours, nmstate).most(0.0)
}

/// Requests of rtnetlink that ask for more than an answer.
fn changing(log: &Path) -> f64 {
    let requests = fs::read_to_string(log).expect("read what strace saw");
    let of_kind = |kind: &str| requests.matches(&format!("nlmsg_type={kind}")).count();
    assert!(of_kind("RTM_GET") > 0, "strace saw no request: {requests}");
    (of_kind("RTM_NEW") + of_kind("RTM_DEL") + of_kind("RTM_SET")) as f64
}

/// Policies of hundreds, which must cost no more for each link than small ones.
fn growth(ground: &Ground<'_>, what: &str) -> Vec<Row> {
    let most = GROWTH[GROWTH.len() - 1];
    let scenes = ["many", "many-ip"].map(|name| Scene::new(ground, name, most));
    let peers = [Peer::Ours, Peer::Ip];
    let mut samples: [[Samples; 2]; 3] = Default::default();
    for _ in 0..GROWTH_ROUNDS {
        for (count, samples) in GROWTH.iter().zip(&mut samples) {
            for which in 0..2 {
                samples[which].push(peers[which].apply(&scenes[which], *count));
                scenes[which].clear(*count);
            }
        }
    }
    let rows = GROWTH.iter().zip(&samples).map(|(count, [ours, ip])| {
        Row::new(format!("{count} x {what} (ip -batch)"), Unit::Milliseconds, ours.median(), ip.median())
    });
    let mut rows: Vec<Row> = rows.collect();
    let each = |which: usize| samples[which][0].median() / GROWTH[which] as f64;
    let name = format!("each of {most} (against each of {})", GROWTH[0]);
    rows.push(Row::new(name, Unit::Milliseconds, each(GROWTH.len() - 1), each(0)).at_most(LINEAR));
    rows
}
