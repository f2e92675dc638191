//! Medians rather than means: one call that met a busy moment must not decide.

use std::time::Duration;

/// One call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
}

/// Calls of one kind; times in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<Sample>);

impl Samples {
    pub(crate) fn push(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5, |sample| sample.wall)
    }

    pub(crate) fn p90(&self) -> f64 {
        self.quantile(0.9, |sample| sample.wall)
    }

    pub(crate) fn median_cpu(&self) -> f64 {
        self.quantile(0.5, |sample| sample.cpu)
    }

    fn quantile(&self, share: f64, of: impl Fn(&Sample) -> Duration) -> f64 {
        let mut values: Vec<f64> = self.0.iter().map(|sample| of(sample).as_secs_f64() * 1000.0).collect();
        quantile(&mut values, share)
    }
}

/// The value that `share` of the values do not exceed; the upper one of two in the middle. Sorts them.
pub(crate) fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = (values.len() as f64 * share) as usize;
    values.get(index.min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}
