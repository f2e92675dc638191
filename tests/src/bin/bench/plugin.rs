//! The plugin against Debian's bridge and host-local: time, processor, memory and size.
//!
//! Both plugins attach to bridges of the same namespace, keep their files on the same disk, and are called in turns, so that
//! whatever else the machine does meets both alike.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use octavia_bridge_tests::statistics::{self, Samples};
use octavia_bridge_tests::table::{Row, Unit};
use octavia_bridge_tests::{Lab, Pod};

use crate::Options;
use crate::contestant::Contestant;
use crate::{WARM_UP, memory, neighbours};

/// ADDs of the burst: as many as the range has addresses for.
const BURST: usize = 40;
/// A burst is long enough to need few repetitions.
const BURSTS: usize = 5;
/// ADDs beside a real-time task, which leaves others one processor less: few.
const BESIDE: usize = 20;
/// Peak memory hardly varies.
const MEMORY_RUNS: usize = 9;
/// A start is short, hence many.
const STARTS: usize = 400;

/// Every measurement of the plugin.
pub(crate) fn figures(options: &Options) -> Vec<Row> {
    let lab = Lab::new();
    let node = lab.node("node");
    let ours = Contestant::ours(&options.disk);
    let peer = Contestant::peer(&options.disk);
    let mut rows = attach_and_detach([&ours, &peer], options.rounds, || node.pod("pod"));
    rows.extend(start([&ours, &peer]));
    rows.extend(beside_a_real_time_task([&ours, &peer], || node.pod("pod")));
    rows.push(burst([&ours, &peer], || node.pod("pod")));
    rows.push(peak_memory(&ours, &peer, &node.pod("pod")));
    rows.extend(neighbours::figures([&ours, &peer], || node.pod("pod")));
    let size = fs::metadata(ours.program()).expect("size of the plugin").len();
    rows.push(Row::alone("size of the binary", Unit::Megabytes, size as f64 / 1e6).most(2.1));
    rows
}

/// ADD and DEL, one of each plugin in every round, the first one changing places.
fn attach_and_detach(both: [&Contestant; 2], rounds: usize, pod: impl Fn() -> Pod) -> Vec<Row> {
    // Kept until the end: the kernel discards namespaces in the background, which would be measured as well.
    let pods: Vec<[Pod; 2]> = (0..rounds + WARM_UP).map(|_| [pod(), pod()]).collect();
    let mut add = [Samples::default(), Samples::default()];
    let mut del = [Samples::default(), Samples::default()];
    for (round, pods) in pods.iter().enumerate() {
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for (verb, samples) in [("ADD", &mut add), ("DEL", &mut del)] {
            for which in order {
                let sample = both[which].run(verb, &pods[which]);
                if round >= WARM_UP {
                    samples[which].push(sample);
                }
            }
        }
    }
    let row = |name, of: fn(&Samples) -> f64, samples: &[Samples; 2]| {
        Row::new(name, Unit::Milliseconds, of(&samples[0]), of(&samples[1]))
    };
    vec![
        row("ADD, median", Samples::median, &add).at_most(0.25),
        row("ADD, 90th percentile", Samples::p90, &add),
        row("ADD, processor (user + system)", Samples::median_cpu, &add),
        row("DEL, median", Samples::median, &del).at_most(0.75),
        row("DEL, 90th percentile", Samples::p90, &del),
    ]
}

/// ADDs while a task that yields to nobody has a processor: a plugin that is bound to one must not wait for it.
fn beside_a_real_time_task(both: [&Contestant; 2], pod: impl Fn() -> Pod) -> Option<Row> {
    let busy = ["-c", "0", "chrt", "--fifo", "50", "sh", "-c", "while :; do :; done"];
    // A sandbox of a user, or a machine with one processor, has no such task.
    let mut task = Command::new("taskset").args(busy).stderr(Stdio::null()).spawn().ok()?;
    thread::sleep(Duration::from_millis(50));
    let runs =
        matches!(task.try_wait(), Ok(None)) && thread::available_parallelism().is_ok_and(|all| all.get() > 1);
    let mut samples = [Samples::default(), Samples::default()];
    if runs {
        for _ in 0..BESIDE {
            for (contestant, samples) in both.iter().zip(&mut samples) {
                let pod = pod();
                samples.push(contestant.run("ADD", &pod));
                contestant.run("DEL", &pod);
            }
        }
    }
    // It may have ended by itself.
    task.kill().unwrap_or_default();
    let _status = task.wait();
    let [ours, peer] = &samples;
    runs.then(|| {
        Row::new("ADD beside a real-time task, 90th percentile", Unit::Milliseconds, ours.p90(), peer.p90())
    })
}

fn start(both: [&Contestant; 2]) -> Vec<Row> {
    let mut samples = [Samples::default(), Samples::default()];
    for _ in 0..STARTS {
        for (contestant, samples) in both.iter().zip(&mut samples) {
            samples.push(contestant.version());
        }
    }
    let [ours, peer] = &samples;
    vec![Row::new("VERSION, median", Unit::Milliseconds, ours.median(), peer.median()).at_most(0.15)]
}

fn burst(both: [&Contestant; 2], pod: impl Fn() -> Pod) -> Row {
    let pods: [Vec<Pod>; 2] = std::array::from_fn(|_| (0..BURST).map(|_| pod()).collect());
    let mut walls = [Samples::default(), Samples::default()];
    for _ in 0..BURSTS {
        for ((contestant, pods), walls) in both.iter().zip(&pods).zip(&mut walls) {
            walls.push(contestant.run_at_once("ADD", pods));
            for pod in pods {
                contestant.run("DEL", pod);
            }
        }
    }
    let [ours, peer] = &walls;
    let name = format!("{BURST} ADDs at once, until the last ends");
    Row::new(name, Unit::Milliseconds, ours.median(), peer.median()).at_most(0.2)
}

/// Ours with its addresses against the peer's bridge without any, so without its second process.
fn peak_memory(ours: &Contestant, peer: &Contestant, pod: &Pod) -> Row {
    let without_addresses = peer.without_addresses();
    let measure = |contestant: &Contestant| {
        let mut peaks: Vec<f64> = (0..MEMORY_RUNS)
            .map(|_| {
                let peak = memory::peak(contestant, pod);
                contestant.run("DEL", pod);
                peak as f64 / 1e6
            })
            .collect();
        statistics::quantile(&mut peaks, 0.5)
    };
    let (ours, peer) = (measure(ours), measure(&without_addresses));
    Row::new("ADD, peak memory (peer: bridge alone)", Unit::Megabytes, ours, peer).at_most(0.5)
}
