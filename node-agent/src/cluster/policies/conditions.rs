//! Conditions in the order, with the reasons and in the words of kubernetes-nmstate, whose users wait for them:
//! `oc wait nncp … --for jsonpath='{.status.conditions[0].reason}'=SuccessfullyConfigured`.

use std::borrow::Cow;

use k8s_openapi::jiff::Timestamp;
use octavia_bridge_ipam::visible::visible;
use serde::{Deserialize, Serialize};

use crate::health::{Told, Word};

const AVAILABLE: &str = "Available";
const DEGRADED: &str = "Degraded";
const PROGRESSING: &str = "Progressing";

/// Longest message, in bytes. The server has no bound; people who read a table have.
const MAX_MESSAGE: usize = 4096;

/// One entry of `status.conditions`. Not of the usual type of Kubernetes: it has a heartbeat and no generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Condition {
    pub(super) r#type: String,
    /// `True`, `False` or `Unknown`.
    pub(super) status: String,
    #[serde(default)]
    pub(super) reason: String,
    #[serde(default)]
    pub(super) message: String,
    /// When this was written.
    #[serde(default)]
    pub(super) last_heartbeat_time: String,
    /// When `status` became what it is.
    #[serde(default)]
    pub(super) last_transition_time: String,
}

impl Condition {
    /// Whether it says the same, whenever it was written.
    fn says_as(&self, other: &Self) -> bool {
        self.r#type == other.r#type
            && (&self.status, &self.reason, &self.message) == (&other.status, &other.reason, &other.message)
    }
}

/// How something stands, in one word for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Done,
    Failed,
    Progressing,
    /// The policy selects no node.
    NoNode,
}

impl Stage {
    /// The reason of all conditions. Programs that wait look at the first one, whichever that is.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Done => "SuccessfullyConfigured",
            Self::Failed => "FailedToConfigure",
            Self::Progressing => "ConfigurationProgressing",
            Self::NoNode => "NoMatchingNode",
        }
    }

    /// The status of the condition that says whether `result` was reached: unknown until it is decided.
    fn decides(self, result: Self) -> &'static str {
        match self {
            Self::Progressing => "Unknown",
            _ if self == result => "True",
            _ => "False",
        }
    }

    /// What `conditions` say; `None` if they say nothing of the kind.
    pub(super) fn of(conditions: &[Condition]) -> Option<Self> {
        let is_true = |name| conditions.iter().any(|one| one.r#type == name && one.status == "True");
        [
            (AVAILABLE, Self::Done),
            ("Failing", Self::Failed),
            (DEGRADED, Self::Failed),
            (PROGRESSING, Self::Progressing),
            ("Ignored", Self::NoNode),
        ]
        .into_iter()
        .find_map(|(name, stage)| is_true(name).then_some(stage))
    }
}

/// Those of a policy.
pub(super) fn of_policy(stage: Stage, message: &str) -> Vec<Condition> {
    conditions(
        stage,
        message,
        [
            (AVAILABLE, stage.decides(Stage::Done)),
            (DEGRADED, stage.decides(Stage::Failed)),
            (PROGRESSING, if stage == Stage::Progressing { "True" } else { "False" }),
            ("Ignored", if stage == Stage::NoNode { "True" } else { "False" }),
        ],
    )
}

/// Those of an enactment. Of an enactment nothing is ever pending or aborted here: each node acts on its own.
pub(super) fn of_enactment(stage: Stage, message: &str) -> Vec<Condition> {
    conditions(
        stage,
        message,
        [
            (AVAILABLE, stage.decides(Stage::Done)),
            ("Failing", stage.decides(Stage::Failed)),
            (PROGRESSING, if stage == Stage::Progressing { "True" } else { "False" }),
            ("Pending", "False"),
            ("Aborted", "False"),
        ],
    )
}

/// Those of a node's state: available as long as /readyz has no line with `wait`, and degraded as long as it has one, or one with
/// `warn`. The message of each that is true has these lines and those with `note`.
pub(super) fn of_node(lines: &[Told]) -> Vec<Condition> {
    let has = |word| lines.iter().any(|line| line.word == word);
    let (waits, warns) = (has(Word::Wait), has(Word::Warn));
    let reason = match (waits, warns) {
        (true, _) => "AgentNotReady",
        (false, true) => "LinksNotAsWanted",
        (false, false) => "AgentReady",
    };
    let mut texts = Vec::new();
    for line in lines.iter().filter(|line| line.word != Word::Ok) {
        texts.push(format!("{}: {}", line.part, line.text));
    }
    let message = shortened(&texts.join("; "));
    let mut all = Vec::new();
    for (name, so) in [(AVAILABLE, !waits), (DEGRADED, waits || warns)] {
        all.push(Condition {
            r#type: name.to_owned(),
            status: if so { "True" } else { "False" }.to_owned(),
            reason: reason.to_owned(),
            message: if so { message.clone() } else { String::new() },
            last_heartbeat_time: String::new(),
            last_transition_time: String::new(),
        });
    }
    all
}

/// Whether they say the same, whenever they were written.
pub(super) fn say_as(before: &[Condition], new: &[Condition]) -> bool {
    before.len() == new.len() && before.iter().zip(new).all(|(old, new)| old.says_as(new))
}

/// Whether they differ in more than numbers, such as seconds that a message counts.
pub(super) fn differ_in_words(before: &[Condition], new: &[Condition]) -> bool {
    let same = |old: &Condition, new: &Condition| {
        let without = |text: &str| text.replace(|letter: char| letter.is_ascii_digit(), "");
        (&old.r#type, &old.status) == (&new.r#type, &new.status)
            && without(&old.message) == without(&new.message)
    };
    before.len() != new.len() || before.iter().zip(new).any(|(old, new)| !same(old, new))
}

/// The message stands with the condition that is true.
fn conditions<const N: usize>(stage: Stage, message: &str, all: [(&str, &str); N]) -> Vec<Condition> {
    let message = shortened(&on_one_line(message));
    all.into_iter()
        .map(|(name, status)| Condition {
            r#type: name.to_owned(),
            status: status.to_owned(),
            reason: stage.reason().to_owned(),
            message: if status == "True" { message.clone() } else { String::new() },
            last_heartbeat_time: String::new(),
            last_transition_time: String::new(),
        })
        .collect()
}

/// A message in which nothing of a policy's text, or of an error's, begins a line or moves the cursor of a reader's terminal.
pub(super) fn on_one_line(message: &str) -> String {
    let lines: Vec<Cow<'_, str>> = message.lines().map(visible).collect();
    lines.join("; ")
}

fn shortened(message: &str) -> String {
    if message.len() <= MAX_MESSAGE {
        return message.to_owned();
    }
    let end = (0..=MAX_MESSAGE - 3).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
    format!("{}...", &message[..end])
}

/// The message of the condition that is true.
pub(super) fn message(conditions: &[Condition]) -> &str {
    conditions.iter().find(|one| one.status == "True").map_or("", |one| one.message.as_str())
}

/// `new` with the times that follow from what was written `before`; `None` if there is nothing new to write.
pub(super) fn renewed(before: &[Condition], new: Vec<Condition>, now: &str) -> Option<Vec<Condition>> {
    (!say_as(before, &new)).then(|| dated(before, new, now))
}

/// `new`, written `now`, with the times of its changes.
pub(super) fn dated(before: &[Condition], new: Vec<Condition>, now: &str) -> Vec<Condition> {
    let mut dated = new;
    for one in &mut dated {
        let unchanged = before.iter().find(|old| old.r#type == one.r#type && old.status == one.status);
        let since = unchanged.map(|old| old.last_transition_time.clone()).filter(|since| !since.is_empty());
        one.last_transition_time = since.unwrap_or_else(|| now.to_owned());
        now.clone_into(&mut one.last_heartbeat_time);
    }
    dated
}

/// The present moment as the API writes it, in whole seconds.
pub(super) fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(conditions: &[Condition]) -> Vec<(&str, &str, &str, &str)> {
        conditions
            .iter()
            .map(|one| (one.r#type.as_str(), one.status.as_str(), one.reason.as_str(), one.message.as_str()))
            .collect()
    }

    #[test]
    fn the_first_condition_and_all_others_tell_success() {
        let reason = "SuccessfullyConfigured";
        assert_eq!(
            table(&of_policy(Stage::Done, "2/2 nodes successfully configured")),
            [
                ("Available", "True", reason, "2/2 nodes successfully configured"),
                (DEGRADED, "False", reason, ""),
                ("Progressing", "False", reason, ""),
                ("Ignored", "False", reason, ""),
            ]
        );
    }

    #[test]
    fn no_condition_reports_success_before_it_is_reached() {
        let rows = |stage| -> Vec<String> {
            of_policy(stage, "")
                .iter()
                .map(|one| format!("{}={} {}", one.r#type, one.status, one.reason))
                .collect()
        };
        assert_eq!(
            rows(Stage::Progressing),
            [
                "Available=Unknown ConfigurationProgressing",
                "Degraded=Unknown ConfigurationProgressing",
                "Progressing=True ConfigurationProgressing",
                "Ignored=False ConfigurationProgressing",
            ]
        );
        assert_eq!(
            rows(Stage::Failed),
            [
                "Available=False FailedToConfigure",
                "Degraded=True FailedToConfigure",
                "Progressing=False FailedToConfigure",
                "Ignored=False FailedToConfigure",
            ]
        );
        assert_eq!(
            rows(Stage::NoNode),
            [
                "Available=False NoMatchingNode",
                "Degraded=False NoMatchingNode",
                "Progressing=False NoMatchingNode",
                "Ignored=True NoMatchingNode",
            ]
        );
    }

    #[test]
    fn a_node_is_available_while_nothing_waits_and_degraded_while_a_line_warns() {
        let line = |word, text: &str| Told { word, part: "policy", text: text.to_owned() };
        let ok = line(Word::Ok, "in force");
        let note = line(Word::Note, "left alone");
        let warn = line(Word::Warn, "octbr: enp6s0 does not exist");
        let wait = line(Word::Wait, "stuck: 12 s late");
        let well = of_node(&[ok.clone(), note.clone()]);
        assert_eq!(
            table(&well),
            [
                ("Available", "True", "AgentReady", "policy: left alone"),
                ("Degraded", "False", "AgentReady", "")
            ]
        );
        let both = "policy: left alone; policy: octbr: enp6s0 does not exist";
        let reason = "LinksNotAsWanted";
        let degraded = of_node(&[ok.clone(), note, warn]);
        assert_eq!(
            table(&degraded),
            [("Available", "True", reason, both), ("Degraded", "True", reason, both)]
        );
        let reason = "AgentNotReady";
        let not_ready = of_node(&[ok.clone(), wait]);
        let text = "policy: stuck: 12 s late";
        assert_eq!(
            table(&not_ready),
            [("Available", "False", reason, ""), ("Degraded", "True", reason, text)]
        );
        let later = of_node(&[ok, line(Word::Wait, "stuck: 130 s late")]);
        assert!(!differ_in_words(&not_ready, &later) && !say_as(&not_ready, &later));
        assert!(differ_in_words(&well, &degraded) && differ_in_words(&degraded, &not_ready));
    }

    #[test]
    fn what_was_written_is_understood() {
        for stage in [Stage::Done, Stage::Failed, Stage::Progressing, Stage::NoNode] {
            assert_eq!(Stage::of(&of_policy(stage, "")), Some(stage));
        }
        for stage in [Stage::Done, Stage::Failed, Stage::Progressing] {
            assert_eq!(Stage::of(&of_enactment(stage, "")), Some(stage));
        }
        assert_eq!(Stage::of(&[]), None);
    }

    #[test]
    fn times_move_only_with_what_they_are_of() {
        let first = renewed(&[], of_policy(Stage::Progressing, "0/2"), "1").unwrap();
        assert!(
            first.iter().all(
                |one| (one.last_heartbeat_time.as_str(), one.last_transition_time.as_str()) == ("1", "1")
            )
        );
        assert_eq!(renewed(&first, of_policy(Stage::Progressing, "0/2"), "2"), None, "nothing is new");
        let second = renewed(&first, of_policy(Stage::Progressing, "1/2"), "2").unwrap();
        assert!(
            second.iter().all(
                |one| (one.last_heartbeat_time.as_str(), one.last_transition_time.as_str()) == ("2", "1")
            )
        );
        let third = renewed(&second, of_policy(Stage::Done, "2/2"), "3").unwrap();
        let since: Vec<&str> = third.iter().map(|one| one.last_transition_time.as_str()).collect();
        assert_eq!(since, ["3", "3", "3", "1"], "Ignored was False all the time");
    }

    #[test]
    fn what_a_policy_says_stays_on_its_line_and_is_seen() {
        let told = of_policy(Stage::Failed, "worker-0: br\u{1b}[2J\rok\nworker-1: \u{202e}fine\t");
        assert_eq!(message(&told), r"worker-0: br\u{1b}[2J\rok; worker-1: \u{202e}fine\t");
        // Summed up from enactments, it is written once more.
        assert_eq!(message(&of_policy(Stage::Failed, message(&told))), message(&told));
    }

    #[test]
    fn a_message_without_end_has_one() {
        let told = of_enactment(Stage::Failed, &"ä".repeat(MAX_MESSAGE));
        let message = message(&told);
        assert!(message.len() <= MAX_MESSAGE && message.ends_with("ä..."), "{}", message.len());
    }
}
