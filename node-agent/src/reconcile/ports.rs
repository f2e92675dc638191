//! Keeping pods' ports in the policy's bridges, and telling of those that are not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use octavia_bridge_ipam::causes::chain;
use octavia_bridge_netlink::Netlink;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::{Instant, timeout};

use super::fights::BackOff;
use super::keeper::Keeper;
use crate::health::{Health, Line, Report};
use crate::node::ports::{self, Known, Seen, Stray};

/// Pause before what a plugin has locked, or what failed, is looked at again.
const RETRY: Duration = Duration::from_secs(1);
/// Longest time for all ports together.
const LONGEST: Duration = Duration::from_secs(30);
/// Ports that are named; a deleted bridge of others has hundreds.
const NAMED: usize = 8;

/// What is told of pods' ports.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    report: Report,
    out: Gauge,
    put_back: Counter,
}

impl Told {
    pub(crate) fn new(health: &Health) -> Self {
        let metrics = &health.metrics;
        Self {
            report: health.readiness.side_part("ports"),
            out: metrics.add(
                "pod_ports_out_of_bridge",
                "Attached pods' ports that are out of their bridge, down, isolated or without their VLANs",
                Gauge::default(),
            ),
            put_back: metrics.add(
                "pod_ports_put_back",
                "Attached pods' ports that were put back into their bridge, or set up again",
                Counter::default(),
            ),
        }
    }
}

/// What is kept in mind between two looks.
#[derive(Debug)]
pub(super) struct Ports {
    told: Told,
    /// Nothing is put back.
    left: bool,
    known: Known,
    /// Of ports that were put back lately, by index.
    fights: BTreeMap<u32, BackOff>,
    /// Said once, not at every look.
    said: Vec<String>,
}

impl Ports {
    pub(super) fn new(told: Told, left: bool) -> Self {
        Self { told, left, known: Known::new(), fights: BTreeMap::new(), said: Vec::new() }
    }
}

impl Keeper<'_> {
    /// Puts back what can be, and tells of the rest. Returns when to look again, if before the next full look.
    pub(super) async fn keep_ports(&mut self) -> Option<Duration> {
        let kept = ports::bridges(&self.desired);
        let done = self.ports.keep(self.netlink, &self.job.state_dir, &kept);
        match timeout(LONGEST, done).await {
            Ok(Ok((ports, again))) => {
                self.watch.ports(ports);
                again
            }
            Ok(Err(error)) => {
                self.ports.fail(&chain(&error));
                Some(RETRY)
            }
            Err(_) => {
                self.ports.fail(&format!("not done within {} s", LONGEST.as_secs()));
                Some(RETRY)
            }
        }
    }
}

impl Ports {
    async fn keep(
        &mut self,
        netlink: &Netlink,
        state_dir: &std::path::Path,
        kept: &BTreeSet<&str>,
    ) -> octavia_bridge_netlink::Result<(BTreeSet<u32>, Option<Duration>)> {
        let started = Instant::now();
        let Seen { strays, ports, locked, .. } =
            ports::look(netlink, state_dir, kept, &mut self.known).await?;
        self.fights.retain(|index, _| self.known.contains_key(index));
        let mut lines = Vec::new();
        let mut again = locked.then_some(RETRY);
        let mut mended = 0;
        for stray in strays {
            if self.left || !stray.kept || !stray.fault.is_mended() {
                lines.push(line(&stray, self.left));
                continue;
            }
            let now = Instant::now();
            let pause = self.fights.get(&stray.port.index).and_then(|fight| fight.pause_from(now));
            if let Some(pause) = pause {
                let why = format!(
                    "{stray}: another program undoes it time and again; put back in {} s",
                    pause.as_secs() + 1
                );
                lines.push(Line::Amiss(why));
                again = Some(again.map_or(pause, |other| other.min(pause)));
                continue;
            }
            match ports::put_back(netlink, &stray.port).await {
                Ok(true) => {
                    mended += 1;
                    if mended <= NAMED {
                        tracing::info!("{stray}: put back");
                    }
                    let fight = self.fights.entry(stray.port.index).or_default();
                    if let Some(pause) = fight.repaired(now, "put back") {
                        tracing::warn!(
                            "{stray} time and again; the next time it is put back after {pause:?}"
                        );
                    }
                }
                Ok(false) => again = Some(RETRY),
                Err(error) => {
                    lines.push(Line::Amiss(format!("{stray}: {}", chain(&error))));
                    again = Some(RETRY);
                }
            }
        }
        if mended > 0 {
            self.told.put_back.inc_by(mended.try_into().unwrap_or(u64::MAX));
            tracing::info!("{mended} ports of pods put back in {:?}", started.elapsed());
        }
        self.told.out.set(lines.len().try_into().unwrap_or(i64::MAX));
        self.tell(lines);
        Ok((ports, again))
    }

    fn fail(&mut self, why: &str) {
        self.tell(vec![Line::Amiss(format!("pods' ports cannot be looked at: {why}"))]);
    }

    /// Reports these, and logs them unless it has just logged the same.
    fn tell(&mut self, mut lines: Vec<Line>) {
        let more = lines.len().saturating_sub(NAMED);
        // What is missing first, so that it is not among those that are only counted.
        lines.sort_by_key(|line| !matches!(line, Line::Amiss(_)));
        lines.truncate(NAMED);
        if more > 0 {
            lines.push(Line::Note(format!("and {more} ports more")));
        }
        let mut said = Vec::new();
        for line in &lines {
            if let Line::Note(text) | Line::Amiss(text) = line {
                said.push(text.clone());
            }
        }
        if said != self.said {
            for text in &said {
                tracing::warn!("{text}");
            }
            self.said = said;
        }
        self.told.report.set(lines);
    }
}

/// What there is to say of a port that is left as it is.
fn line(stray: &Stray, left: bool) -> Line {
    let text = match (stray.kept, stray.fault.is_mended()) {
        (false, _) => format!("{stray}; no policy keeps {}, so the agent leaves it", stray.port.bridge()),
        (true, true) if left => format!("{stray}; --leave-pod-ports leaves it"),
        (true, _) => format!("{stray}; the agent leaves it as it is"),
    };
    if stray.kept && stray.fault.cuts_off() && !left { Line::Amiss(text) } else { Line::Note(text) }
}
