//! Durations on the command line, in whole seconds.

use std::time::Duration;

/// Longest duration that can be asked for. An address that stays leaked, or a node that is not checked, for longer than a
/// day is a typing error: a number in milliseconds, or one digit too many.
const LONGEST: u64 = 86_400;

/// Reads a duration.
///
/// # Errors
/// Not a whole number of seconds, 0, or more than a day.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(seconds @ 1..=LONGEST) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("expected whole seconds from 1 to {LONGEST} (a day)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_at_least_a_second_and_at_most_a_day() {
        assert_eq!(parse("1"), Ok(Duration::from_secs(1)));
        assert_eq!(parse("86400"), Ok(Duration::from_secs(86_400)));
        for wrong in ["0", "86401", "31536000", "-1", "1.5", "60s", "", "99999999999999999999"] {
            assert_eq!(
                parse(wrong).unwrap_err(),
                "expected whole seconds from 1 to 86400 (a day)",
                "{wrong}"
            );
        }
    }
}
