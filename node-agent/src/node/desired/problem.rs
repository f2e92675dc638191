//! What is wrong with a document, all of it.

use std::cell::RefCell;
use std::fmt;

use octavia_bridge_ipam::visible::visible;

/// One problem at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Such as `octavia: interfaces[3].vlan.id`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// The document is right, this program lacks it. `--ours-only` may then leave the entry out.
    pub(crate) unsupported: bool,
}

/// Every problem of what was read; never empty as an error.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) struct Problems(pub(crate) Vec<Problem>);

/// So many are said; the rest is counted.
const SAID: usize = 20;
/// So many are remembered. A text of a few megabytes may have a million.
const REMEMBERED: usize = 1000;

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.0.iter().take(SAID).enumerate() {
            let separator = if number == 0 { "" } else { "\n" };
            write!(f, "{separator}{}", visible(&problem.to_string()))?;
        }
        match self.0.len().saturating_sub(SAID) {
            0 => Ok(()),
            more => write!(f, "\nand {more} problems more"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.text)
    }
}

/// Where problems are gathered while a document is read.
#[derive(Debug, Default)]
pub(crate) struct Findings(RefCell<Vec<Problem>>);

impl Findings {
    pub(crate) fn invalid(&self, path: impl Into<String>, text: impl Into<String>) {
        self.add(Problem { path: path.into(), text: text.into(), unsupported: false });
    }

    pub(crate) fn unsupported(&self, path: impl Into<String>, text: impl Into<String>) {
        self.add(Problem { path: path.into(), text: text.into(), unsupported: true });
    }

    fn add(&self, problem: Problem) {
        let mut all = self.0.borrow_mut();
        if all.len() < REMEMBERED {
            all.push(problem);
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.0.borrow().len()
    }

    /// Takes out what was found since `count` if nothing of it is worse than unsupported, as far as it is remembered.
    pub(crate) fn take_unsupported_since(&self, count: usize) -> Option<Vec<Problem>> {
        let mut all = self.0.borrow_mut();
        let whole = all.len() < REMEMBERED;
        let all_unsupported = whole && all[count..].iter().all(|problem| problem.unsupported);
        (all.len() > count && all_unsupported).then(|| all.split_off(count))
    }

    pub(crate) fn into_vec(self) -> Vec<Problem> {
        self.0.into_inner()
    }
}
