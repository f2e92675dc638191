//! Metrics for Prometheus, in the `OpenMetrics` text format.
//!
//! Names begin with `octavia_bridge_`; docs/operations.md has the list. Each part of the agent registers its own when it
//! is started, so an agent without a cluster has none about pools.

use std::sync::Mutex;
use std::time::Duration;

use octavia_bridge_cluster::lock;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};

/// Bounds of times, in seconds: a request to the kernel takes a tenth of a millisecond, one to a busy API seconds.
const TIMES: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// One label with one of a few values.
pub(crate) type Label = [(&'static str, &'static str); 1];

/// All metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    ready: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("octavia_bridge");
        let ready = Gauge::default();
        registry.register("ready", "1 while /readyz has the status 200", ready.clone());
        Self { registry: Mutex::new(registry), ready }
    }
}

impl Metrics {
    /// Adds a metric. Counters get `_total` to their name when they are exported.
    pub(crate) fn add<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        lock(&self.registry).register(name, help, metric.clone());
        metric
    }

    /// Adds a histogram of times.
    pub(crate) fn add_times(&self, name: &str, help: &str) -> Times {
        let times = Histogram::new(TIMES);
        lock(&self.registry).register_with_unit(name, help, Unit::Seconds, times.clone());
        Times(times)
    }

    /// Adds metrics that are looked up at every scrape. It must not block.
    pub(crate) fn collect(&self, collector: impl Collector) {
        lock(&self.registry).register_collector(Box::new(collector));
    }

    /// All metrics as text, of an agent that is ready or not.
    pub(crate) fn text(&self, ready: bool) -> Result<String, std::fmt::Error> {
        self.ready.set(ready.into());
        let mut text = String::new();
        encode(&mut text, &lock(&self.registry))?;
        Ok(text)
    }
}

/// A histogram of times.
#[derive(Debug, Clone)]
pub(crate) struct Times(Histogram);

impl Times {
    pub(crate) fn took(&self, time: Duration) {
        self.0.observe(time.as_secs_f64());
    }
}

/// How the policy stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PolicyState {
    /// There is none.
    None,
    /// The node is as it says.
    InForce,
    /// A link has to appear first.
    Waiting,
    /// It could not be brought about.
    Failed,
    /// kubernetes-nmstate is at work on this node.
    StoodDown,
}

impl PolicyState {
    const ALL: [Self; 5] = [Self::None, Self::InForce, Self::Waiting, Self::Failed, Self::StoodDown];

    fn label(self) -> Label {
        let value = match self {
            Self::None => "none",
            Self::InForce => "in_force",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
            Self::StoodDown => "stood_down",
        };
        [("state", value)]
    }
}

/// Metrics of the loop that keeps the links.
#[derive(Debug, Clone)]
pub(crate) struct Links {
    state: Family<Label, Gauge>,
    applies: Family<Label, Counter>,
    repairs: Counter,
    took: Times,
    checked: Times,
}

impl Links {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let links = Self {
            state: metrics.add(
                "policy_state",
                "1 for how the policy stands, 0 for the others",
                Family::default(),
            ),
            applies: metrics.add(
                "applies",
                "Plans with at least one step, by how they ended",
                Family::<Label, Counter>::default(),
            ),
            repairs: metrics.add(
                "repairs",
                "Plans carried out because something had changed what was in force",
                Counter::default(),
            ),
            took: metrics
                .add_times("apply_duration", "From the first reading to the last, where there was a step"),
            checked: metrics.add_times(
                "check_duration",
                "From the first reading to the last, where there was nothing to do",
            ),
        };
        // Known from the start, so that the first one is seen as an increase.
        for result in ["done", "failed"] {
            drop(links.applies.get_or_create(&[("result", result)]));
        }
        links.stands(PolicyState::None);
        links
    }

    /// How the policy stands from now on.
    pub(crate) fn stands(&self, now: PolicyState) {
        for state in PolicyState::ALL {
            self.state.get_or_create(&state.label()).set((state == now).into());
        }
    }

    /// A plan was carried out; `repair` if it was in force before.
    pub(crate) fn applied(&self, took: Duration, repair: bool) {
        self.applies.get_or_create(&[("result", "done")]).inc();
        self.took.took(took);
        if repair {
            self.repairs.inc();
        }
    }

    /// There was nothing to do.
    pub(crate) fn checked(&self, took: Duration) {
        self.checked.took(took);
    }

    /// Reading, planning or carrying out failed.
    pub(crate) fn failed(&self) {
        self.applies.get_or_create(&[("result", "failed")]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_units_are_prometheus_own() {
        let metrics = Metrics::default();
        let links = Links::new(&metrics);
        links.stands(PolicyState::InForce);
        links.applied(Duration::from_millis(3), false);
        links.applied(Duration::from_millis(30), true);
        links.checked(Duration::from_millis(1));
        let told = metrics.text(true).unwrap();
        for line in [
            "octavia_bridge_ready 1",
            "octavia_bridge_policy_state{state=\"in_force\"} 1",
            "octavia_bridge_policy_state{state=\"none\"} 0",
            "octavia_bridge_applies_total{result=\"done\"} 2",
            "octavia_bridge_applies_total{result=\"failed\"} 0",
            "octavia_bridge_repairs_total 1",
            "# UNIT octavia_bridge_apply_duration_seconds seconds",
            "octavia_bridge_apply_duration_seconds_bucket{le=\"0.005\"} 1",
            "octavia_bridge_apply_duration_seconds_count 2",
            "octavia_bridge_check_duration_seconds_sum 0.001",
        ] {
            assert!(told.lines().any(|told| told == line), "{line}\n{told}");
        }
        assert!(told.ends_with("# EOF\n"), "{told}");
    }
}
