//! How the policy stands, for those who ask: the page /readyz and the figures.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::health::{Health, Line, Links, PolicyState, Report};
use crate::node::desired::Desired;
use crate::node::plan::{Missing, Step};
use crate::node::state::NotInForce;

/// What is told of the loop that keeps the links.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    links: Links,
    report: Report,
    /// Of the files in the state directory.
    files: Report,
    /// All of the present policy was in force once: what has to be done from then on is a repair.
    reached: bool,
    /// Why a newer one is not the present one.
    refused: Option<String>,
    /// It was tried, and is right by itself.
    failed: bool,
}

/// What a look has shown.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// What was done.
    pub(super) steps: Vec<Step>,
    /// What has to appear first.
    pub(super) waits: Vec<Missing>,
    /// What people should know.
    pub(super) warnings: Vec<String>,
    /// What stays as it is for now.
    pub(super) failures: Vec<Failure>,
    /// From the first reading of the kernel to the last. Keeping the policy on disk comes after that.
    pub(super) took: Duration,
}

impl Looked {
    /// Both together: what the later one found, after the steps of both.
    pub(super) fn then(mut self, later: Self) -> Self {
        self.steps.extend(later.steps);
        let took = self.took + later.took;
        Self { steps: self.steps, took, ..later }
    }
}

/// A group of links that could not be brought about.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// Of its links, and of its routes as the plan calls them.
    pub(super) names: BTreeSet<String>,
    pub(super) why: String,
    /// It is only left alone for so long: somebody fights over it.
    pub(super) pause: Option<Duration>,
    /// It was in force once, as it is wanted now.
    pub(super) is_old: bool,
    /// It was not begun: nobody answers who could tell afterwards whether it has cut the node off.
    pub(super) is_untestable: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl Standing {
    pub(crate) fn new(health: &Health) -> Self {
        let report = health.readiness.part("policy", "not looked at yet");
        let files = health.readiness.part("state", "");
        files.set(Vec::new());
        Self {
            links: Links::new(&health.metrics),
            report,
            files,
            reached: false,
            refused: None,
            failed: false,
        }
    }

    /// These files could not be used.
    pub(super) fn put_aside(&self, files: &[PathBuf]) {
        let line = |file: &PathBuf| {
            let file = file.display();
            Line::Note(format!(
                "could not be used and was set aside: {file}; the log says why, remove it when read"
            ))
        };
        self.files.set(files.iter().map(line).collect());
    }

    /// From now on something else is to be kept.
    pub(super) fn begins(&mut self) {
        self.reached = false;
        self.report.set(vec![Line::Amiss("a new one is not in force yet".into())]);
    }

    /// A newer one is wrong, and the present one stays.
    pub(super) fn refused(&mut self, why: String) {
        (self.refused, self.failed) = (Some(why), false);
    }

    /// A newer one could not be brought about, and the present one stays.
    pub(super) fn left_out(&mut self, why: String) {
        (self.refused, self.failed) = (Some(why), true);
    }

    /// The newest is right.
    pub(super) fn accepted(&mut self) {
        self.refused = None;
    }

    /// The links are somebody else's for now, as they are while one moves from one program to the other: that is no
    /// reason not to be ready.
    pub(super) fn stood_down(&mut self, why: String) {
        self.reached = false;
        self.report.set(vec![Line::Note(why)]);
        self.links.stands(PolicyState::StoodDown);
    }

    /// These policies of the cluster are not in force, and those were not before.
    pub(super) fn refuses(&self, now: &[NotInForce], before: &[NotInForce]) {
        for policy in now {
            if !before.iter().any(|other| (&other.policy, &other.why) == (&policy.policy, &policy.why)) {
                self.links.failed();
            }
        }
    }

    /// A look, and all that it led to, is over.
    pub(super) fn looked(&mut self, looked: &Looked, desired: &Desired, not_in_force: &[NotInForce]) {
        if looked.steps.is_empty() {
            self.links.checked(looked.took);
        } else {
            self.links.applied(looked.took, self.reached);
        }
        let failing = looked.failures.iter().filter(|failure| failure.pause.is_none()).count();
        if failing > 0 {
            self.links.failed();
        }
        let mut lines: Vec<Line> =
            looked.waits.iter().map(|missing| Line::Amiss(missing.to_string())).collect();
        lines.extend(looked.failures.iter().map(|failure| Line::Amiss(failure.to_string())));
        // There is nothing to fall back to.
        let left_out = self.refused.as_ref().filter(|_| self.failed && desired.is_empty());
        lines.extend(left_out.map(|why| Line::Amiss(format!("not in force: {why}"))));
        let is_well = lines.is_empty();
        self.reached |= is_well;
        // Pods wait for the bridge of one of them.
        for policy in not_in_force {
            let waited_for = !policy.bridges.is_empty();
            let text = policy.to_string();
            lines.push(if waited_for { Line::Amiss(text) } else { Line::Note(text) });
        }
        self.links.stands(match () {
            () if failing > 0 || left_out.is_some() || !not_in_force.is_empty() => PolicyState::Failed,
            () if !is_well => PolicyState::Waiting,
            () if desired.is_empty() => PolicyState::None,
            () => PolicyState::InForce,
        });
        let well = well(looked, desired);
        if !well.is_empty() {
            lines.push(Line::Well(format!("in force: {}", well.join(", "))));
        } else if is_well && desired.is_empty() && not_in_force.is_empty() {
            lines.push(Line::Well("no policy applies, so the agent keeps no links".into()));
        } else if is_well && !desired.is_empty() {
            lines.push(Line::Well(format!("in force: {} routes", desired.routes.len())));
        }
        lines.extend(looked.warnings.iter().cloned().map(Line::Note));
        lines.extend(self.refused.iter().map(|why| Line::Note(format!("a newer one has no effect: {why}"))));
        self.report.set(lines);
    }

    /// It could not be brought about.
    pub(super) fn failed(&self, why: String) {
        self.fails(Line::Amiss(why));
    }

    /// The loop ended: a defect, which a roll-out must not spread.
    pub(super) fn ended(&self, why: String) {
        self.fails(Line::Missing(why));
    }

    fn fails(&self, line: Line) {
        self.links.failed();
        self.links.stands(PolicyState::Failed);
        self.report.set(vec![line]);
    }
}

/// Names of the interfaces that nothing is missing of.
fn well<'a>(looked: &Looked, desired: &'a Desired) -> Vec<&'a str> {
    let mut names = Vec::new();
    for interface in &desired.interfaces {
        let name = interface.name.as_str();
        let fails = looked.failures.iter().any(|failure| failure.names.contains(name));
        if !fails && !looked.waits.iter().any(|missing| missing.of == name) {
            names.push(name);
        }
    }
    names
}
