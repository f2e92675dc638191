//! What is wrong with a document, all of it.

use std::cell::RefCell;
use std::fmt;

use octavia_bridge_ipam::visible::lines;

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
#[error("{}", lines(.0))]
pub(crate) struct Problems(pub(crate) Vec<Problem>);

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
        self.0.borrow_mut().push(Problem { path: path.into(), text: text.into(), unsupported: false });
    }

    pub(crate) fn unsupported(&self, path: impl Into<String>, text: impl Into<String>) {
        self.0.borrow_mut().push(Problem { path: path.into(), text: text.into(), unsupported: true });
    }

    pub(crate) fn count(&self) -> usize {
        self.0.borrow().len()
    }

    /// Takes out what was found since `count` if nothing of it is worse than unsupported.
    pub(crate) fn take_unsupported_since(&self, count: usize) -> Option<Vec<Problem>> {
        let mut all = self.0.borrow_mut();
        let all_unsupported = all[count..].iter().all(|problem| problem.unsupported);
        (all.len() > count && all_unsupported).then(|| all.split_off(count))
    }

    pub(crate) fn into_vec(self) -> Vec<Problem> {
        self.0.into_inner()
    }
}
