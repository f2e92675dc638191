//! Several documents into one state.

use super::bounds::MOST;
use super::problem::{Findings, Problem};
use super::{Desired, Interface, Route, State};

/// Where an entry stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Source {
    pub(crate) path: String,
    /// The number of its document, from 1: two may bear the same name.
    pub(crate) document: usize,
}

/// What was gathered so far, each entry with its place for later problems.
#[derive(Debug, Default)]
pub(crate) struct Merge {
    pub(crate) documents: usize,
    pub(crate) interfaces: Vec<(Source, Interface)>,
    pub(crate) routes: Vec<(Source, Route)>,
    left_alone: Vec<String>,
}

impl Merge {
    pub(crate) fn leave(&mut self, what: String) {
        self.left_alone.push(what);
    }

    pub(crate) fn leave_all(&mut self, problems: &[Problem]) {
        self.left_alone.extend(problems.iter().map(ToString::to_string));
    }

    /// Within one document the last entry of a name wins, as in nmstate: a patch applied twice appends
    /// its interfaces twice. Two documents that disagree have no order, so that is a problem, unless one of them asks for
    /// nothing. One too many is enough to be refused, and more are not gathered.
    pub(crate) fn interface(&mut self, source: Source, entry: Interface, findings: &Findings) {
        let Some((first, known)) = self.interfaces.iter_mut().find(|(_, known)| known.name == entry.name)
        else {
            if self.interfaces.len() <= MOST {
                self.interfaces.push((source, entry));
            }
            return;
        };
        if *known == entry {
            return;
        }
        if first.document == source.document {
            let text = "named again further down, where the last entry is taken";
            self.left_alone.push(format!("{}: {} is {text}", first.path, entry.name));
            (*first, *known) = (source, entry);
        } else if known.state == State::Ignore {
            (*first, *known) = (source, entry);
        } else if entry.state != State::Ignore {
            findings
                .invalid(source.path, format!("{} is declared differently by {}", entry.name, first.path));
        }
    }

    pub(crate) fn route(&mut self, source: Source, entry: Route) {
        if self.routes.len() <= MOST && !self.routes.iter().any(|(_, known)| *known == entry) {
            self.routes.push((source, entry));
        }
    }

    pub(crate) fn finish(self, findings: &Findings) -> Self {
        if self.documents == 0 && findings.count() == 0 {
            let reasons = self.left_alone.join("; ");
            let reasons = if reasons.is_empty() { "it is empty".to_owned() } else { reasons };
            findings.invalid("desired state", format!("nothing in it is for this node: {reasons}"));
        }
        self
    }
}

impl From<Merge> for Desired {
    fn from(merge: Merge) -> Self {
        Self {
            interfaces: merge.interfaces.into_iter().map(|(_, entry)| entry).collect(),
            routes: merge.routes.into_iter().map(|(_, entry)| entry).collect(),
            left_alone: merge.left_alone,
            ..Self::default()
        }
    }
}
