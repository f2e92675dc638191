//! A health manager is deleted and made again while heartbeats keep coming.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::attachments::Attached;
use crate::screen::{Screen, check, ms};
use crate::topology::Topology;
use crate::traffic::{Heartbeats, INTERVAL, Listener, longest_gap};

/// After so long without a heartbeat Octavia replaces the amphora (`heartbeat_timeout`).
const OCTAVIA_ALLOWS: Duration = Duration::from_secs(60);
/// More than this is not what the network needs for it, on the slowest machine.
const TOO_LONG: Duration = Duration::from_secs(2);

pub(crate) fn health_manager(screen: &Screen, topology: &Topology, pods: &mut Vec<Attached>, conf: &Value) {
    screen.heading("6. A health manager's pod deleted and made again, under a heartbeat every 10 ms");
    let managers: Vec<usize> = (0..pods.len()).filter(|&index| pods[index].is("healthmanager")).collect();
    let [first, second] = managers[..] else {
        panic!("two health managers expected, there are {managers:?}")
    };
    let undisturbed = Listener::start(&pods[second].pod);
    let before = Listener::start(&pods[first].pod);
    let addresses = managers.iter().map(|&index| pods[index].address.clone()).collect();
    let amphora = Heartbeats::start(&topology.amphora, addresses);
    thread::sleep(INTERVAL * 30);

    // A kubelet's order: the process ends, DEL, the namespace goes; a new namespace, ADD, a new process.
    let beats_before = before.kill();
    let killed = Instant::now();
    let old = pods.remove(first);
    let del = old.delete(conf);
    let (address, mac) = (old.address.clone(), old.mac.clone());
    drop(old);
    let new = Attached::new(&topology.node1, "octavia-healthmanager-x2lzn", conf);
    let after = Listener::start(&new.pod);
    let back = killed.elapsed();
    thread::sleep(INTERVAL * 30);
    let sent = amphora.stop();
    let beats_after = after.finish(sent);
    let beats_of_other = undisturbed.finish(sent);

    new.verify();
    check("address of the pod made again", &address, &new.address);
    check("MAC of the pod made again", &mac, &new.mac);
    check("heartbeats to the other health manager", sent as usize, beats_of_other.len());
    let (Some(last), Some(next)) = (beats_before.last(), beats_after.first()) else {
        panic!("{} heartbeats before and {} after", beats_before.len(), beats_after.len())
    };
    let silence = next.at.duration_since(last.at);
    assert!(silence < TOO_LONG, "silence of {}, allowed here: {}", ms(silence), ms(TOO_LONG));
    let row = |what: &str, value: String| [what.to_owned(), value];
    screen.table(
        ["event", "seen"],
        &[
            row("address and MAC, before and after", format!("{address} {mac}, the same")),
            row(
                "DEL / ADD / both with the namespaces",
                format!("{} / {} / {}", ms(del), ms(new.took), ms(back)),
            ),
            row(
                "longest silence at this health manager",
                format!("{}, {} heartbeats lost", ms(silence), next.number - last.number - 1),
            ),
            row("longest silence at the other one", ms(longest_gap(&beats_of_other))),
            row("silence after which Octavia replaces an amphora", format!("{} s", OCTAVIA_ALLOWS.as_secs())),
        ],
    );
    screen.holds("the lowest free address is the old one and the MAC follows from it, so no neighbour had to learn anything");
    pods.insert(first, new);
}
