//! An error and what it was caused by.

use std::error::Error;
use std::fmt::Write;

/// An error with all its causes, in one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a string does not fail.
        write!(text, ": {error}").ok();
        cause = error.source();
    }
    text
}
