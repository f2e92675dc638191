//! Metrics of reclaim.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;

use super::election::Election;
use super::proof::Death;
use crate::health::{Label, Metrics};

/// What was freed, and what was put back.
#[derive(Debug)]
pub(super) struct ReclaimMetrics {
    reclaimed: Family<Label, Counter>,
    restored: Family<Label, Counter>,
}

impl ReclaimMetrics {
    pub(super) fn new(metrics: &Metrics, election: Arc<Election>) -> Self {
        let help = "Leaked addresses freed, by the proof that their pod is gone";
        let reclaimed = metrics.add("reclaimed", help, Family::<Label, Counter>::default());
        let help = "Objects recreated because they were deleted while their pod lives";
        let restored = metrics.add("restored", help, Family::<Label, Counter>::default());
        // Known from the start, so that the first one is seen as an increase.
        for reason in ["pod_absent", "pod_replaced", "pod_ended"] {
            drop(reclaimed.get_or_create(&[("reason", reason)]));
        }
        for kind in ["entry", "reservation"] {
            drop(restored.get_or_create(&[("kind", kind)]));
        }
        metrics.collect(Elected(election));
        Self { reclaimed, restored }
    }

    pub(super) fn reclaimed(&self, death: &Death) {
        self.reclaimed.get_or_create(&[("reason", death.label())]).inc();
    }

    pub(super) fn restored(&self, kind: &'static str) {
        self.restored.get_or_create(&[("kind", kind)]).inc();
    }
}

#[derive(Debug)]
struct Elected(Arc<Election>);

impl Collector for Elected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let elected = ConstGauge::new(i64::from(self.0.is_won()));
        let help = "1 on the agent that is elected to reclaim addresses of deleted nodes";
        elected.encode(encoder.encode_descriptor("reclaim_elected", help, None, elected.metric_type())?)
    }
}
