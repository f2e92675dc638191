//! Which contents this release gave to the files that an older release writes as well.
//!
//! The journal lies elsewhere than an older release has it. After a kill half-way, a rollback and an upgrade it speaks of
//! links that the older release has kept since. File times cannot show that: clocks step, and archives restore old times. The
//! contents can: what is there, and was not written by this release, is another one's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use octavia_bridge_cluster::lock;
use serde::de::IgnoredAny;

use super::{Error, Kept, State, aside, read};
use crate::sha256;

const NAME: &str = "written.json";

/// Of each file, by its name, the digests of what may be there: of what was there before the last change and after it. `None`
/// is for no file.
pub(super) type Written = BTreeMap<String, BTreeSet<Option<String>>>;

/// A file that cannot be understood is set aside, and counts as none.
pub(super) fn load(journal: &Path) -> Written {
    aside::load(&journal.join(NAME), "a rollback may go unnoticed")
}

impl State {
    /// Whether an older release, which knows no journal but its own beside the kept policy, has been at work since this one
    /// was. A file that no release can have written proves nothing.
    pub(crate) fn was_left_to_older_release(&self) -> bool {
        let written = lock(&self.written);
        let [kept, told] = self.shared();
        let (Some(of_kept), Some(of_told)) = (written.get(name(&kept)), written.get(name(&told))) else {
            return false;
        };
        let (Ok(kept), Ok(told)) = (read(&kept), read(&told)) else { return false };
        let is_policy = |text: &Vec<u8>| serde_json::from_slice::<Kept>(text).is_ok();
        let is_object = |text: &Vec<u8>| serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(text).is_ok();
        if kept.is_none() && told.is_none() {
            // Its `remove` was the last.
            return !(of_kept.contains(&None) && of_told.contains(&None));
        }
        kept.is_some_and(|text| is_policy(&text) && !of_kept.contains(&Some(sha256::hex(&text))))
            || told.is_some_and(|text| is_object(&text) && !of_told.contains(&Some(sha256::hex(&text))))
    }

    /// Takes what is there now for this release's own: nothing is left that an older one would have had to be asked about.
    pub(crate) fn adopt(&self) {
        let mut written = lock(&self.written);
        for path in self.shared() {
            if let Ok(text) = read(&path) {
                let known = written.entry(name(&path).to_owned()).or_default();
                known.insert(text.as_deref().map(sha256::hex));
            }
        }
        self.save(&written);
    }

    /// Has `change` give the file the content with this digest, or remove it, and notes that before and after: a process that is
    /// killed in between leaves one or the other.
    pub(super) fn changing(
        &self,
        path: &Path,
        next: Option<String>,
        change: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let after = BTreeSet::from([next.clone()]);
        let mut before = BTreeSet::from([next]);
        if lock(&self.written).get(name(path)) == Some(&after) {
            return change();
        }
        if let Ok(text) = read(path) {
            before.insert(text.as_deref().map(sha256::hex));
        }
        self.note(path, before);
        change()?;
        self.note(path, after);
        Ok(())
    }

    fn note(&self, path: &Path, contents: BTreeSet<Option<String>>) {
        let mut written = lock(&self.written);
        written.insert(name(path).to_owned(), contents);
        self.save(&written);
    }

    /// The files that both releases write.
    fn shared(&self) -> [PathBuf; 2] {
        [self.kept_path(), self.promise_path()]
    }

    fn save(&self, written: &Written) {
        // An older release has its journal at the same place.
        if self.journal == self.directory {
            return;
        }
        let path = self.journal.join(NAME);
        let draft = path.with_extension("json.tmp");
        let save = || {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.journal)?;
            fs::write(&draft, serde_json::to_vec(written)?)?;
            fs::rename(&draft, &path)
        };
        if let Err(cause) = save() {
            // What it says is not so any more.
            drop(fs::remove_file(&path));
            tracing::warn!("write {}: {cause}; a rollback may go unnoticed", path.display());
        }
    }
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::thread;

    use tempfile::TempDir;

    use super::*;
    use crate::node::desired::Text;
    use crate::node::state::Draft;

    const TOLD: &[u8] = br#"{"version": 1, "bridges": {"octbr": []}, "links": ["octbr"]}"#;

    struct Folders {
        disk: TempDir,
        run: TempDir,
    }

    impl Folders {
        /// As a process that starts finds it.
        fn state(&self) -> State {
            let mut state = loop {
                match State::lock(self.disk.path()) {
                    // A program that another test has just started has the lock as well, until it executes.
                    Err(Error::Busy(_)) => thread::yield_now(),
                    locked => break locked.unwrap(),
                }
            };
            state.journal = self.run.path().join("agent");
            state.written = Mutex::new(load(&state.journal));
            state
        }
    }

    fn kept(yaml: &str) -> Kept {
        Kept { texts: vec![Text { origin: "-".into(), yaml: yaml.into() }], ..Kept::default() }
    }

    fn draft(state: &State, yaml: &str) -> Option<Draft> {
        state.draft(&kept(yaml)).unwrap()
    }

    #[test]
    fn each_write_of_this_release_is_known_whenever_it_is_killed() {
        let folders = Folders { disk: TempDir::new().unwrap(), run: TempDir::new().unwrap() };
        let state = folders.state();
        assert!(!state.was_left_to_older_release(), "nothing is known yet");
        state.adopt();
        state.promise_text(Some(TOLD)).unwrap();
        state.publish(draft(&state, "a")).unwrap();
        drop(state);
        // Killed before it renames, or removes.
        let state = folders.state();
        for (path, next) in state.shared().iter().zip([Some("never written".into()), None]) {
            let killed = || Err(Error::Panicked("killed".into()));
            state.changing(path, next, killed).unwrap_err();
        }
        drop(state);
        let state = folders.state();
        assert!(!state.was_left_to_older_release());
        // Told of one policy while the one before is still on its way to the disk.
        let late = draft(&state, "b");
        state.promise_text(Some(b"{}")).unwrap();
        drop(state);
        let state = folders.state();
        assert!(!state.was_left_to_older_release());
        state.publish(late).unwrap();
        assert!(!folders_after(state, &folders).was_left_to_older_release());
        let state = folders.state();
        state.forget().unwrap();
        assert!(!folders_after(state, &folders).was_left_to_older_release());
    }

    /// The process ended, and another one began.
    fn folders_after(state: State, folders: &Folders) -> State {
        drop(state);
        folders.state()
    }

    #[test]
    fn what_an_older_release_wrote_or_removed_tells_and_a_damaged_file_does_not() {
        let as_kept = serde_json::to_vec(&kept("a")).unwrap();
        for (kept_now, told_now, is_older) in [
            (Some(as_kept.as_slice()), None, true),
            (None, Some(br#"{"version": 1}"#.as_slice()), true),
            (None, None, true),
            (Some(b"\xff".as_slice()), Some(TOLD), false),
            (None, Some(TOLD), false),
            (None, Some(b"{".as_slice()), false),
        ] {
            let folders = Folders { disk: TempDir::new().unwrap(), run: TempDir::new().unwrap() };
            let state = folders.state();
            state.adopt();
            state.promise_text(Some(TOLD)).unwrap();
            state.publish(draft(&state, "a")).unwrap();
            for (path, now) in state.shared().iter().zip([kept_now, told_now]) {
                fs::remove_file(path).unwrap();
                if let Some(now) = now {
                    fs::write(path, now).unwrap();
                }
            }
            let state = folders_after(state, &folders);
            assert_eq!(state.was_left_to_older_release(), is_older, "{kept_now:?} {told_now:?}");
            state.adopt();
            assert!(!folders_after(state, &folders).was_left_to_older_release(), "it is ours from now on");
        }
    }
}
