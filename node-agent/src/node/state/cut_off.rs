//! Changes that cut the node off and were taken back. Each try is an outage, so the agent does not try one again by itself,
//! not even after a restart.

use std::fs;

use serde::{Deserialize, Serialize};

use super::{Error, State, aside, failed, write_synced};
use crate::node::observed::DefaultRoute;

const NAME: &str = "cut-off.json";
/// How many are remembered; the oldest goes first.
const MOST: usize = 64;

/// What is not tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CutOffs(Vec<CutOff>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct CutOff {
    /// What exactly was wanted.
    what: String,
    /// How it ended.
    why: String,
    /// Default routes that did not come back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    defaults: Vec<DefaultRoute>,
}

impl CutOffs {
    pub(crate) fn why(&self, what: &str) -> Option<&str> {
        self.0.iter().find(|one| one.what == what).map(|one| one.why.as_str())
    }

    /// Whether one of them ended so.
    pub(crate) fn has(&self, why: &str) -> bool {
        self.0.iter().any(|one| one.why == why)
    }

    pub(crate) fn add(&mut self, what: String, why: String) {
        self.put(CutOff { what, why, defaults: Vec::new() });
    }

    fn put(&mut self, one: CutOff) {
        self.0.retain(|other| other.what != one.what);
        self.0.push(one);
        let surplus = self.0.len().saturating_sub(MOST);
        self.0.drain(..surplus);
    }

    /// Whether there are any whose name begins so.
    pub(crate) fn any(&self, prefix: &str) -> bool {
        self.0.iter().any(|one| one.what.starts_with(prefix))
    }

    /// A change has cost the node these default routes. It is remembered until the next boot.
    pub(crate) fn lose(&mut self, defaults: &[DefaultRoute]) {
        let why = "default routes that could not be put back".to_owned();
        self.put(CutOff { what: lost_at(), why, defaults: defaults.to_vec() });
    }

    /// What a change has cost since the last boot.
    pub(crate) fn lost(&self) -> Vec<DefaultRoute> {
        let what = lost_at();
        let one = self.0.iter().find(|one| one.what == what);
        one.map(|one| one.defaults.clone()).unwrap_or_default()
    }

    /// Forgets those whose name begins so; whether there were any.
    pub(crate) fn forget(&mut self, prefix: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|one| !one.what.starts_with(prefix));
        before != self.0.len()
    }
}

/// Under what lost default routes are kept: those of an earlier boot are none.
fn lost_at() -> String {
    // Without procfs there is one boot only.
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    format!("default routes, boot {}", boot.trim())
}

impl State {
    /// What earlier processes remembered. A file that cannot be understood is set aside, and counts as none.
    pub(crate) fn cut_offs(&self) -> CutOffs {
        aside::load(&self.directory.join(NAME), "changes that cut the node off are tried once more")
    }

    /// Remembers them on disk.
    ///
    /// # Errors
    /// Those of writing; then only this process knows.
    pub(crate) fn write_cut_offs(&self, cut_offs: &CutOffs) -> Result<(), Error> {
        let path = self.directory.join(NAME);
        let attempt = format!("write {}", path.display());
        let text = serde_json::to_vec_pretty(cut_offs).map_err(|cause| failed(&attempt)(cause.into()))?;
        write_synced(&path, &text).map_err(failed(attempt))
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn what_was_cut_off_is_known_to_the_next_process_and_a_torn_file_is_set_aside() {
        let folder = TempDir::new().unwrap();
        let state = State::lock(folder.path()).unwrap();
        let mut cut_offs = state.cut_offs();
        for number in 0..=MOST {
            cut_offs.add(format!("policy p{number}"), "silence".into());
        }
        cut_offs.add("state 1".into(), "silence".into());
        state.write_cut_offs(&cut_offs).unwrap();
        let mut known = state.cut_offs();
        assert_eq!(known, cut_offs);
        assert_eq!((known.why("policy p1"), known.why("policy p2")), (None, Some("silence")));
        assert!(known.forget("state ") && !known.forget("state "));
        fs::write(state.directory().join(NAME), "{").unwrap();
        assert_eq!(state.cut_offs(), CutOffs::default());
        assert!(state.directory().join("cut-off.json.bad").exists());
    }
}
