//! Metrics of the broker: what plugins asked for and got, and how full the pools are.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use octavia_bridge_cluster::lock;
use octavia_bridge_ipam::allocate::Usage;
use octavia_bridge_ipam::kubernetes::{Claimed, Error, Refused, Store, Watching};
use octavia_bridge_ipam::request::{Choice, Request};
use octavia_bridge_ipam::wire::{Failure, Inquiry, Kind};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Unit;

use super::Broker;
use super::asked::Asked;
use crate::health::{Label, Line, Metrics, Times};

/// What plugins asked for and got.
#[derive(Debug)]
pub(super) struct BrokerMetrics {
    allocations: Family<Label, Counter>,
    releases: Family<Label, Counter>,
    took: Times,
    asked: Mutex<Asked>,
}

impl BrokerMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let help = "Claims of plugins by result";
        let allocations = metrics.add("allocations", help, Family::<Label, Counter>::default());
        let releases = metrics.add("releases", "Releases by result", Family::<Label, Counter>::default());
        // Known from the start, so that the first one is seen as an increase.
        for result in ["assigned", "exhausted", "unavailable"] {
            drop(allocations.get_or_create(&[("result", result)]));
        }
        for result in ["released", "failed"] {
            drop(releases.get_or_create(&[("result", result)]));
        }
        let took =
            metrics.add_times("allocation_duration", "From a plugin's call to its addresses, if it got them");
        Self { allocations, releases, took, asked: Mutex::default() }
    }

    /// A claim that took so long came out like this.
    pub(super) fn claimed(&self, claimed: &Result<Claimed, Refused>, took: Duration) {
        let result = match claimed {
            Ok(Claimed::Assigned(_)) => {
                self.took.took(took);
                "assigned"
            }
            Ok(Claimed::Contested(_)) => "contested",
            Err(Refused { error, .. }) => word(Failure::from(error).kind),
        };
        self.allocations.get_or_create(&[("result", result)]).inc();
    }

    /// A release by a plugin ended like this.
    pub(super) fn released(&self, released: &Result<usize, Error>) {
        let result = if released.is_ok() { "released" } else { "failed" };
        self.releases.get_or_create(&[("result", result)]).inc();
    }

    /// Remembers which ranges plugins of this node take addresses from: a pool is one of a whole subnet, and says nothing
    /// of what part of it may be handed out.
    pub(super) fn wanted(&self, request: &Request) {
        for want in &request.wants {
            if let Choice::Lowest(range) = &want.choice {
                self.note(Inquiry {
                    network_name: request.network_name.clone(),
                    overlapping: request.overlapping,
                    ranges: vec![range.clone()],
                    reserved: request.reserved.clone(),
                });
            }
        }
    }

    /// The same of a question how full ranges are.
    pub(super) fn asked(&self, inquiry: &Inquiry) {
        for range in &inquiry.ranges {
            self.note(Inquiry { ranges: vec![range.clone()], ..inquiry.clone() });
        }
    }

    fn note(&self, inquiry: Inquiry) {
        lock(&self.asked).note(inquiry, Instant::now());
    }

    fn usages(&self, store: &Store) -> Vec<Usage> {
        let mut by_name = BTreeMap::new();
        for inquiry in lock(&self.asked).current(Instant::now()) {
            for range in &inquiry.ranges {
                // A damaged pool is reported as such, and has no usage; one that is not read here is reported by other agents.
                if let Ok(Some(usage)) = store.known_usage(&inquiry, range) {
                    // Networks that differ in other things may share a range: the one that was asked for last stays.
                    by_name.insert((usage.pool.clone(), usage.first, usage.last), usage);
                }
            }
        }
        by_name.into_values().collect()
    }
}

/// Failures as label values.
fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Version => "version",
        Kind::Malformed => "malformed",
        Kind::Exhausted => "exhausted",
        Kind::Held => "held",
        Kind::Corrupt => "corrupt",
        Kind::Unsupported => "unsupported",
        Kind::Unavailable => "unavailable",
    }
}

/// How the pools are known, for people.
pub(super) fn lines(store: &Store, metrics: &BrokerMetrics) -> Vec<Line> {
    let pools = store.pools();
    let mut lines = Vec::new();
    match store.watching() {
        Watching::Well => {
            let read = pools.iter().filter_map(|pool| pool.content.as_ref());
            let used: u128 = read.clone().flatten().map(|fill| fill.used).sum();
            let text = match (pools.len(), read.count()) {
                (watched, 0) => format!("watched: {watched}"),
                (watched, read) if read == watched => format!("watched: {watched}, addresses in use: {used}"),
                (watched, read) => {
                    format!("watched: {watched}, in use here: {read}, addresses in use there: {used}")
                }
            };
            lines.push(Line::Well(text));
        }
        Watching::Behind(error) => lines.push(Line::Missing(format!(
            "the watch of the pools fails, so the agent reads each pool before use: {error}: {}",
            error.why
        ))),
        Watching::Unread(Some(error)) => {
            lines.push(Line::Missing(format!("the pools were not read yet: {error}: {}", error.why)));
        }
        Watching::Unneeded => {
            lines.push(Line::Well(
                "not watched: no pod of this node has an address of the cluster, and none needs one".into(),
            ));
        }
        Watching::Unread(None) => lines.push(Line::Missing("the pools are being read".into())),
    }
    // Other pools are served: that is not a reason to call this node, and every other one, unready.
    lines.extend(pools.iter().filter_map(|pool| {
        let why = pool.content.as_ref()?.as_ref().err()?;
        Some(Line::Note(format!("ippools {} is damaged, and the agent leaves it alone: {why}", pool.name)))
    }));
    for usage in metrics.usages(store) {
        if usage.free == 0 {
            let Usage { pool, first, last, used, capacity, .. } = usage;
            let text =
                format!("range {first}-{last} of {pool} is full: {used} of {capacity} addresses in use");
            lines.push(Line::Note(text));
        }
    }
    lines
}

/// Looked up at every scrape.
pub(super) struct Pools(pub(super) std::sync::Arc<Broker>);

impl fmt::Debug for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pools")
    }
}

impl Collector for Pools {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Broker { store, pending, metrics, .. } = &*self.0;
        let synced = matches!(store.watching(), Watching::Well | Watching::Unneeded);
        plain(
            &mut encoder,
            "pools_synced",
            "1 while the pools in memory follow the API, or need not.",
            f64::from(synced),
        )?;
        // The values are those that a claim would go by, also while they are behind.
        let pools = store.pools();
        let of = |pool: &str| [("pool", pool.to_owned())];
        let read = || pools.iter().filter_map(|pool| Some((pool, pool.content.as_ref()?)));
        let damaged = read().map(|(pool, content)| (of(&pool.name), f64::from(content.is_err())));
        gauge(
            &mut encoder,
            "pool_damaged",
            "1 for a pool whose content does not match its name.",
            None,
            damaged,
        )?;
        let sound = || read().filter_map(|(pool, content)| Some((pool, content.as_ref().ok()?)));
        let addresses = Unit::Other("addresses".into());
        let unit = Some(&addresses);
        let used = sound().map(|(pool, fill)| (of(&pool.name), fill.used as f64));
        gauge(&mut encoder, "pool_used", "Addresses with an entry in the pool.", unit, used)?;
        let capacity = sound().map(|(pool, fill)| (of(&pool.name), fill.capacity as f64));
        gauge(&mut encoder, "pool_capacity", "Addresses of the pool's whole subnet.", unit, capacity)?;

        let usages = metrics.usages(store);
        for (name, help, value) in [
            (
                "range_used",
                "Addresses in use of a range that plugins on this node ask for.",
                (|usage| usage.used) as fn(&Usage) -> u128,
            ),
            ("range_free", "Addresses left in that range.", |usage| usage.free),
            ("range_capacity", "Addresses that can be assigned from that range.", |usage| usage.capacity),
        ] {
            let told = usages.iter().map(|usage| {
                let labels = [
                    ("pool", usage.pool.clone()),
                    ("first", usage.first.to_string()),
                    ("last", usage.last.to_string()),
                ];
                (labels, value(usage) as f64)
            });
            gauge(&mut encoder, name, help, unit, told)?;
        }

        // The replay reports a directory that cannot be read.
        let waiting = pending.count().map_or(f64::NAN, |count| count as f64);
        plain(&mut encoder, "tombstones", "Releases that are pending.", waiting)?;
        let help = "Claims that found their address taken by another node, and chose another one.";
        let conflicts = encoder.encode_descriptor("allocation_conflicts", help, None, MetricType::Counter)?;
        ConstCounter::new(store.conflicts()).encode(conflicts)
    }
}

/// A gauge without labels.
fn plain(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> fmt::Result {
    encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
}

fn gauge<const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    values: impl IntoIterator<Item = ([(&'static str, String); N], f64)>,
) -> fmt::Result
where
    [(&'static str, String); N]: EncodeLabelSet,
{
    let mut family = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
    values.into_iter().try_for_each(|(labels, value)| family.encode_family(&labels)?.encode_gauge(&value))
}
