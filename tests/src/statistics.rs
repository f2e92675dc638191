//! Medians rather than means: one call that met a busy moment must not decide.

use std::time::Duration;

/// One call.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// From its start to its end.
    pub wall: Duration,
    /// Processor time, user and system.
    pub cpu: Duration,
}

/// Calls of one kind; times in milliseconds.
#[derive(Debug, Default)]
pub struct Samples(Vec<Sample>);

impl Samples {
    /// Adds one.
    pub fn push(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    /// Half took no longer.
    pub fn median(&self) -> f64 {
        self.quantile(0.5, |sample| sample.wall)
    }

    /// Nine in ten took no longer.
    pub fn p90(&self) -> f64 {
        self.quantile(0.9, |sample| sample.wall)
    }

    /// Half took no more processor time.
    pub fn median_cpu(&self) -> f64 {
        self.quantile(0.5, |sample| sample.cpu)
    }

    fn quantile(&self, share: f64, of: impl Fn(&Sample) -> Duration) -> f64 {
        let mut values: Vec<f64> = self.0.iter().map(|sample| of(sample).as_secs_f64() * 1000.0).collect();
        quantile(&mut values, share)
    }
}

/// The value that `share` of the values do not exceed; the upper one of two in the middle. Sorts them.
pub fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let index = (values.len() as f64 * share) as usize;
    values.get(index.min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}
