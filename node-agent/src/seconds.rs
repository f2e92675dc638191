//! Durations on the command line.

/// Longest time that can be asked for, in seconds: a year. What is added to a moment must not be more than a clock holds.
pub(crate) const LONGEST: u64 = 31_536_000;
