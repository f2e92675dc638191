//! What is missing, in words.
//!
//! One line for each matter, as `doctor` prints them: `ok`, `note` for what is worth knowing, `wait` for what keeps the
//! agent from serving pods, `warn` for links that are not as wanted. In a cluster these do not make the agent unready: a
//! policy is a user's, and must not stop the roll-out of the agent.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use octavia_bridge_cluster::lock;
use octavia_bridge_ipam::visible::visible;

/// How one part of the agent stands in one matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// Nothing is missing.
    Well(String),
    /// Nothing is missing; what there is to know nevertheless.
    Note(String),
    /// What is missing.
    Missing(String),
    /// A link, or what keeps one, is not as it is wanted.
    Amiss(String),
}

/// How one part stands, asked each time.
type Ask = Box<dyn Fn() -> Vec<Line> + Send + Sync>;

/// The parts of the agent that were started, in that order.
#[derive(Default)]
pub(crate) struct Readiness {
    parts: Mutex<Vec<(&'static str, Ask)>>,
    /// The agent is there for pods, and not for links alone.
    serves_pods: AtomicBool,
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(lock(&self.parts).iter().map(|(name, _)| name)).finish()
    }
}

impl Readiness {
    /// Adds a part that says by itself when something has changed, until then that it `begins` with something.
    pub(crate) fn part(&self, name: &'static str, begins: &str) -> Report {
        self.add(name, vec![Line::Missing(begins.to_owned())])
    }

    /// The same for a part without which the agent does all it should: it has nothing to say until it notes something.
    pub(crate) fn side_part(&self, name: &'static str) -> Report {
        self.add(name, Vec::new())
    }

    fn add(&self, name: &'static str, begins: Vec<Line>) -> Report {
        let report = Report(Arc::new(Mutex::new(begins)));
        let lines = report.0.clone();
        self.ask(name, move || lock(&lines).clone());
        report
    }

    /// From now on links are not all that the agent is there for.
    pub(crate) fn serves_pods(&self) {
        self.serves_pods.store(true, Ordering::Relaxed);
    }

    /// Adds a part that is asked. It must not block.
    pub(crate) fn ask(&self, name: &'static str, ask: impl Fn() -> Vec<Line> + Send + Sync + 'static) {
        lock(&self.parts).push((name, Box::new(ask)));
    }

    /// All lines, each with its part.
    pub(crate) fn lines(&self) -> Vec<Told> {
        let serves_pods = self.serves_pods.load(Ordering::Relaxed);
        let mut lines = Vec::new();
        for (part, ask) in lock(&self.parts).iter() {
            for line in ask() {
                let (word, what) = match line {
                    Line::Well(what) => (Word::Ok, what),
                    Line::Note(what) => (Word::Note, what),
                    Line::Amiss(what) if serves_pods => (Word::Warn, what),
                    Line::Missing(what) | Line::Amiss(what) => (Word::Wait, what),
                };
                // Causes may have lines of their own.
                let what = what.lines().collect::<Vec<_>>().join("; ");
                lines.push(Told { word, part, text: visible(&what).into_owned() });
            }
        }
        lines
    }

    /// Whether nothing is missing without which the agent is not ready, and all lines as text.
    pub(crate) fn report(&self) -> (bool, String) {
        let lines = self.lines();
        let mut text = String::new();
        for line in &lines {
            text.push_str(&format!("{line}\n"));
        }
        (lines.iter().all(|line| line.word != Word::Wait), text)
    }
}

/// A line for those who ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) word: Word,
    /// Of the agent.
    pub(crate) part: &'static str,
    /// On one line, and visible.
    pub(crate) text: String,
}

/// The first word of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    Ok,
    Note,
    Warn,
    Wait,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.word {
            Word::Ok => "ok",
            Word::Note => "note",
            Word::Warn => "warn",
            Word::Wait => "wait",
        };
        write!(f, "{word:<5} {:<8} {}", self.part, self.text)
    }
}

/// By which a part says how it stands.
#[derive(Debug, Clone)]
pub(crate) struct Report(Arc<Mutex<Vec<Line>>>);

impl Report {
    /// From now on.
    pub(crate) fn set(&self, lines: Vec<Line>) {
        *lock(&self.0) = lines;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_to_be_well() {
        let readiness = Readiness::default();
        let policy = readiness.part("policy", "not looked at yet");
        readiness.ask("pools", || vec![Line::Well("2 pools".into())]);
        assert_eq!(
            readiness.report(),
            (false, "wait  policy   not looked at yet\nok    pools    2 pools\n".into())
        );
        policy.set(vec![Line::Well("in force".into()), Line::Missing("octbr:\nno enp6s0".into())]);
        let (ready, text) = readiness.report();
        assert!(!ready);
        assert_eq!(
            text,
            "ok    policy   in force\nwait  policy   octbr:; no enp6s0\nok    pools    2 pools\n"
        );
        policy.set(vec![Line::Amiss("octbr: no enp6s0".into())]);
        assert!(!readiness.report().0, "links are all that there is to do");
        readiness.serves_pods();
        let amiss = "warn  policy   octbr: no enp6s0\nok    pools    2 pools\n";
        assert_eq!(readiness.report(), (true, amiss.into()));
        policy.set(vec![Line::Note("kept by another agent".into())]);
        assert!(readiness.report().0);
    }
}
