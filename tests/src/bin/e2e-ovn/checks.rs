//! What has to work when nothing is broken.

use std::net::{IpAddr, SocketAddr};

use octavia_bridge_tests::table::line;

use crate::addresses::{AMPHORA, AMPHORA_V6};
use crate::pods::{HEALTH_MANAGER, RSYSLOG};
use crate::topology::Cloud;
use crate::traffic::{datagram, exchange};

/// The amphora's API.
const API: u16 = 9443;
/// Where health managers get heartbeats, and rsyslog logs.
pub(crate) const HEARTBEATS: u16 = 5555;
const LOGS: u16 = 514;
/// Bytes of what is to be more than any buffer on the way.
const MUCH: usize = 3_000_000;
/// Bytes of a heartbeat, and of one with many listeners, which is fragmented.
const DATAGRAMS: [usize; 2] = [900, 4000];

/// The results of one kind of check.
#[derive(Debug, Default)]
struct Tally {
    done: usize,
    failed: Vec<String>,
}

/// Makes all checks, and prints them as a table.
///
/// # Panics
/// If one fails, after the others.
pub(crate) fn all(cloud: &Cloud) {
    line("");
    line(&format!("{:62}  {:>9}  {:>9}", "check", "IPv4", "IPv6"));
    let passed = [
        print("TCP 9443, each controller: 3 MB to the amphora and back", |family| api(cloud, family)),
        print("UDP 5555, amphora to health managers: 900 and 4000 bytes", |family| heartbeats(cloud, family)),
        print("TCP 514, amphora to rsyslog: 3 MB and back", |family| logs(cloud, family)),
        print("TCP, health managers to rsyslog on each node", |family| neighbours(cloud, family)),
    ];
    assert!(!passed.contains(&false), "checks failed");
}

fn print(name: &str, check: impl Fn(usize) -> Tally) -> bool {
    let tallies = [check(0), check(1)];
    let cells =
        tallies.each_ref().map(|tally| format!("{} of {}", tally.done - tally.failed.len(), tally.done));
    line(&format!("{name:62}  {:>9}  {:>9}", cells[0], cells[1]));
    for failure in tallies.iter().flat_map(|tally| &tally.failed) {
        line(&format!("    {failure}"));
    }
    tallies.iter().all(|tally| tally.done > 0 && tally.failed.is_empty())
}

impl Tally {
    fn count(&mut self, result: Result<(), String>) {
        self.done += 1;
        self.failed.extend(result.err());
    }
}

fn amphora(family: usize) -> IpAddr {
    [AMPHORA, AMPHORA_V6][family].parse().expect("an address")
}

fn api(cloud: &Cloud, family: usize) -> Tally {
    let to = SocketAddr::from((amphora(family), API));
    let mut tally = Tally::default();
    for controller in cloud.controllers() {
        tally.count(exchange(&controller.pod, &cloud.amphora, to, MUCH));
    }
    tally
}

fn heartbeats(cloud: &Cloud, family: usize) -> Tally {
    let mut tally = Tally::default();
    for manager in cloud.pods_of(HEALTH_MANAGER) {
        let to = SocketAddr::from((manager.known_as(family), HEARTBEATS));
        for length in DATAGRAMS {
            tally.count(datagram((&cloud.amphora, amphora(family)), (&manager.pod, to), length));
        }
    }
    tally
}

fn logs(cloud: &Cloud, family: usize) -> Tally {
    let mut tally = Tally::default();
    for rsyslog in cloud.pods_of(RSYSLOG) {
        let to = SocketAddr::from((rsyslog.known_as(family), LOGS));
        tally.count(exchange(&cloud.amphora, &rsyslog.pod, to, MUCH));
    }
    tally
}

fn neighbours(cloud: &Cloud, family: usize) -> Tally {
    let mut tally = Tally::default();
    for from in cloud.pods_of(HEALTH_MANAGER) {
        for to in cloud.pods_of(RSYSLOG) {
            let address = SocketAddr::from((to.addresses[family], LOGS));
            tally.count(exchange(&from.pod, &to.pod, address, MUCH));
        }
    }
    tally
}
