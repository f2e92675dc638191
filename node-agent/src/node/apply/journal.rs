//! The journal: what an `apply` has begun, so that the next start of the program can take it back if
//! this one is killed; and that it has reached its end, so that the next start can keep what was reached.
//!
//! One JSON line before each step, appended, and one after the last. It speaks of links, which die with the power as
//! well, so it is not synced to disk and does not count after a reboot; a torn last line is a step not yet begun, or an
//! end not yet reached.
//!
//! A journal must not keep the program from starting. One that cannot be read is set aside, and so is one whose recovery
//! did not end: it is marked before the recovery begins, so that a panic, a kill for want of memory and a kill by hand
//! count alike. The mark is a torn line, which earlier releases pass over.

use std::fmt::Display;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::node::plan::Planned;
use crate::node::state::{self, Kept, boot_id};

/// Behind the last line while what it says is recovered from.
const MARK: &[u8] = b"recovering";

/// What an `apply` is for, once all its steps are done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Goal {
    /// This state is to be kept.
    Keep(Kept),
    /// Nothing is to be kept any more.
    Forget,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line<T> {
    Step(T),
    Reached(Goal),
}

/// An open journal; it exists as a file until [`Journal::end`].
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    /// Bytes up to the last step.
    before: u64,
}

fn path(state: &Path) -> PathBuf {
    state.join("journal.jsonl")
}

impl Journal {
    /// Begins a new journal in `directory`.
    ///
    /// # Errors
    /// The attempt and its cause, in words.
    pub(crate) fn begin(directory: &Path) -> Result<Self, String> {
        let path = path(directory);
        let failed = |cause| format!("write the journal {}: {cause}", path.display());
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
        let boot = boot_id()? + "\n";
        // In one piece, or it would be two requests.
        let begun = File::create(&path).and_then(|mut file| file.write_all(boot.as_bytes()).map(|()| file));
        match begun {
            Ok(file) => Ok(Self { path, file, before: 0 }),
            Err(cause) => {
                // What is there is torn, or of earlier steps, and says nothing of those that are done without a journal.
                drop(fs::remove_file(&path));
                Err(failed(cause))
            }
        }
    }

    /// Notes a step that is about to be done.
    ///
    /// # Errors
    /// The attempt and its cause, in words.
    pub(crate) fn about_to(&mut self, planned: &Planned) -> Result<(), String> {
        self.before = self.file.metadata().map_err(|cause| self.failed(&cause))?.len();
        self.append(&Line::Step(planned))
    }

    /// Takes the last step out, which was not done: the kernel refused it, or somebody else had done it. An earlier release
    /// would not understand another line.
    ///
    /// # Errors
    /// The attempt and its cause, in words.
    pub(crate) fn not_done(&mut self) -> Result<(), String> {
        let cut = self.file.set_len(self.before).and_then(|()| self.file.seek(SeekFrom::End(0)));
        cut.map(drop).map_err(|cause| self.failed(&cause))
    }

    /// Notes that all steps were done: from here on they are not taken back any more, and `goal` is what is to follow.
    ///
    /// # Errors
    /// The attempt and its cause, in words.
    pub(crate) fn reached(&mut self, goal: &Goal) -> Result<(), String> {
        self.append(&Line::<Planned>::Reached(goal.clone()))
    }

    fn append(&mut self, line: &impl Serialize) -> Result<(), String> {
        let mut line = serde_json::to_vec(line).map_err(|cause| self.failed(&cause.into()))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(|cause| self.failed(&cause))
    }

    fn failed(&self, cause: &io::Error) -> String {
        format!("write the journal {}: {cause}", self.path.display())
    }

    /// Everything was done, or taken back.
    ///
    /// # Errors
    /// The attempt and its cause, in words.
    pub(crate) fn end(self) -> Result<(), String> {
        fs::remove_file(&self.path)
            .map_err(|cause| format!("remove the journal {}: {cause}", self.path.display()))
    }

    /// What a process that was killed has left, if it was since the last boot. What cannot be recovered from is set
    /// aside, and counts as nothing.
    pub(crate) fn left_behind(state: &Path) -> Option<LeftBehind> {
        let path = path(state);
        match read(&path) {
            Ok(left) => left,
            Err(why) => {
                let consequence =
                    "what an earlier process left half done stays, unless the policy says otherwise";
                state::set_aside(&path, &why, consequence);
                None
            }
        }
    }
}

fn read(path: &Path) -> Result<Option<LeftBehind>, String> {
    let failed = |cause: &dyn Display| format!("read the journal {}: {cause}", path.display());
    let Some(text) = state::read(path)? else { return Ok(None) };
    let file = OpenOptions::new().append(true).open(path).map_err(|cause| failed(&cause))?;
    let mut lines = text.split_inclusive(|byte| *byte == b'\n');
    let mut begun = Vec::new();
    let mut reached = None;
    // What is of an earlier boot need not be understood: its links are gone.
    if lines.next() == Some((boot_id()? + "\n").as_bytes()) {
        if text.ends_with(MARK) {
            let shown = path.display();
            return Err(format!("a recovery by the journal {shown} did not end, and is not tried again"));
        }
        for line in lines.filter_map(|line| line.strip_suffix(b"\n")) {
            match serde_json::from_slice(line).map_err(|cause| failed(&cause))? {
                Line::Step(planned) => begun.push(planned),
                Line::Reached(goal) => reached = Some(goal),
            }
        }
    }
    let journal = Journal { path: path.to_owned(), file, before: 0 };
    Ok(Some(LeftBehind { journal, begun, reached }))
}

/// A killed process's journal.
#[derive(Debug)]
pub(crate) struct LeftBehind {
    pub(crate) journal: Journal,
    /// In order. The last may have been done in part.
    pub(crate) begun: Vec<Planned>,
    /// All were done, and this was to follow.
    pub(crate) reached: Option<Goal>,
}

impl LeftBehind {
    /// Notes that the recovery begins: should this process not come to its end, no other one tries it.
    pub(crate) fn begins(&mut self) {
        if let Err(cause) = self.journal.file.write_all(MARK) {
            // A full disk is no reason to leave the links half done.
            tracing::warn!("mark the journal {}: {cause}", self.journal.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use octavia_bridge_netlink as nl;
    use tempfile::TempDir;

    use super::*;
    use crate::node::plan::Step;

    fn step() -> Planned {
        let set = |up| Step::SetUp { link: "octbr".into(), up };
        Planned { apply: set(true), undo: set(false), then: Vec::new(), index: None }
    }

    /// What a process killed after its first step leaves.
    fn killed(state: &TempDir) {
        Journal::begin(state.path()).unwrap().about_to(&step()).unwrap();
    }

    fn is_set_aside(state: &TempDir) -> bool {
        !path(state.path()).exists() && state.path().join("journal.jsonl.bad").exists()
    }

    #[test]
    fn a_recovery_that_died_is_not_tried_again() {
        let state = TempDir::new().unwrap();
        killed(&state);
        let mut left = Journal::left_behind(state.path()).unwrap();
        assert_eq!(left.begun, [step()]);
        left.begins();
        assert!(Journal::left_behind(state.path()).is_none());
        assert!(is_set_aside(&state));
        assert!(Journal::left_behind(state.path()).is_none(), "and that is that");
    }

    #[test]
    fn a_step_that_was_not_done_is_none_to_take_back() {
        let state = TempDir::new().unwrap();
        let mut journal = Journal::begin(&state.path().join("made/for/it")).unwrap();
        for _ in 0..2 {
            journal.about_to(&step()).unwrap();
            journal.about_to(&step()).unwrap();
            journal.not_done().unwrap();
        }
        drop(journal);
        let left = Journal::left_behind(&state.path().join("made/for/it")).unwrap();
        assert_eq!(left.begun, [step(), step()]);
        // An earlier release knows no other lines.
        let text = fs::read_to_string(path(&state.path().join("made/for/it"))).unwrap();
        assert!(text.lines().skip(1).all(|line| line.starts_with("{\"step\":")), "{text}");
    }

    #[test]
    fn one_that_cannot_be_begun_leaves_no_earlier_one() {
        let state = TempDir::new().unwrap();
        killed(&state);
        fs::remove_file(path(state.path())).unwrap();
        std::os::unix::fs::symlink(state.path(), path(state.path())).unwrap();
        Journal::begin(state.path()).unwrap_err();
        assert!(path(state.path()).symlink_metadata().is_err());
    }

    #[test]
    fn a_mark_behind_a_torn_line_is_seen_and_passed_over_by_earlier_releases() {
        let state = TempDir::new().unwrap();
        killed(&state);
        let mut file = OpenOptions::new().append(true).open(path(state.path())).unwrap();
        file.write_all(b"{\"step\":{\"app").unwrap();
        Journal::left_behind(state.path()).unwrap().begins();
        let text = fs::read_to_string(path(state.path())).unwrap();
        // They look at whole lines only.
        let whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        assert_eq!(whole.filter(|line| line.contains("recovering")).count(), 0, "{text}");
        assert!(Journal::left_behind(state.path()).is_none());
    }

    #[test]
    fn what_cannot_be_read_is_set_aside_and_of_an_earlier_boot_need_not_be() {
        let boot = boot_id().unwrap();
        let step = serde_json::to_string(&Line::Step(step())).unwrap();
        for (text, usable) in [
            (format!("{boot}\n{step}\n").into_bytes(), true),
            (format!("{boot}\n{}\n", step.replace("set-up", "set-ageing")).into_bytes(), false),
            (format!("{boot}\n{{\n").into_bytes(), false),
            ([boot.as_bytes(), b"\n\xff\xfe\n"].concat(), false),
            (b"another boot\n\xff\xfe\n".to_vec(), true),
            (b"\xff\xfe".to_vec(), true),
            (Vec::new(), true),
        ] {
            let state = TempDir::new().unwrap();
            fs::write(path(state.path()), &text).unwrap();
            let shown = String::from_utf8_lossy(&text).into_owned();
            assert_eq!(Journal::left_behind(state.path()).is_some(), usable, "{shown}");
            assert_eq!(is_set_aside(&state), !usable, "{shown}");
        }
    }

    /// As a release wrote it that did not know how many next hops netlink can express, and died of it.
    #[test]
    fn steps_that_no_request_can_express_are_read_like_others() {
        let hop = |n: u32| crate::node::observed::Hop {
            link: "octbr".into(),
            gateway: Some(std::net::Ipv4Addr::from(0xac17_0000 + n).into()),
            weight: 1,
            onlink: false,
        };
        let route = crate::node::observed::Route {
            destination: "10.0.0.0/8".parse().unwrap(),
            table: 254,
            metric: 0,
            protocol: 79,
            source: None,
            mtu: None,
            hops: (1..=4200).map(hop).collect(),
            detail: None,
        };
        assert!(route.hops.len() > nl::Route::MAX_NEXT_HOPS);
        let state = TempDir::new().unwrap();
        let add = Step::AddRoute(route.clone());
        let planned = Planned { apply: add, undo: Step::RemoveRoute(route), then: Vec::new(), index: None };
        Journal::begin(state.path()).unwrap().about_to(&planned).unwrap();
        assert_eq!(Journal::left_behind(state.path()).unwrap().begun, [planned]);
    }
}
