//! How the policy stands, for those who ask: the page /readyz and the figures.

use std::time::Duration;

use crate::health::{Health, Line, Links, PolicyState, Report};

/// What is told of the loop that keeps the links.
#[derive(Debug)]
pub(super) struct Standing {
    links: Links,
    report: Report,
    /// All of the present policy was in force once: what has to be done from then on is a repair.
    reached: bool,
}

/// What a look has shown.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// What was done.
    pub(super) steps: Vec<String>,
    /// What has to appear first.
    pub(super) waits: Vec<String>,
    /// What people should know.
    pub(super) warnings: Vec<String>,
}

impl Standing {
    pub(super) fn new(health: &Health) -> Self {
        let report = health.readiness.part("policy", "not looked at yet");
        Self { links: Links::new(&health.metrics), report, reached: false }
    }

    /// There is nothing to keep.
    pub(super) fn nothing(&self) {
        self.report.set(vec![Line::Well("there is none, so no links are kept".into())]);
        self.links.stands(PolicyState::None);
    }

    /// From now on something else is to be kept.
    pub(super) fn begins(&mut self) {
        self.reached = false;
        self.report.set(vec![Line::Missing("a new one is not in force yet".into())]);
    }

    /// The links are somebody else's for now, as they are while one moves from one program to the other: that is no
    /// reason not to be ready.
    pub(super) fn stood_down(&mut self, why: String) {
        self.reached = false;
        self.report.set(vec![Line::Note(why)]);
        self.links.stands(PolicyState::StoodDown);
    }

    /// A look with all that it led to took so long.
    pub(super) fn looked(&mut self, looked: &Looked, took: Duration, interfaces: usize) {
        if !looked.steps.is_empty() {
            self.links.applied(took, self.reached);
        }
        let mut lines: Vec<Line> = looked.waits.iter().cloned().map(Line::Missing).collect();
        if lines.is_empty() {
            self.reached = true;
            self.links.stands(PolicyState::InForce);
            lines.push(Line::Well(format!("{interfaces} interfaces are as it says")));
        } else {
            self.links.stands(PolicyState::Waiting);
        }
        lines.extend(looked.warnings.iter().cloned().map(Line::Note));
        self.report.set(lines);
    }

    /// It could not be brought about.
    pub(super) fn failed(&self, why: String) {
        self.links.failed();
        self.links.stands(PolicyState::Failed);
        self.report.set(vec![Line::Missing(why)]);
    }
}
