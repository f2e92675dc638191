//! A wall clock that is set while a program runs, by libfaketime. Its monotonic clocks go on as they are.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

/// A wall clock for one program or several.
#[derive(Debug)]
pub struct WallClock {
    folder: TempDir,
}

impl WallClock {
    /// One that is right.
    #[expect(clippy::new_without_default, reason = "it makes a folder; a default should not")]
    pub fn new() -> Self {
        let clock =
            Self { folder: TempDir::with_prefix_in("clock-", "/run").expect("create the clock's folder") };
        clock.set(0);
        clock
    }

    /// Sets it to so many days after the right time.
    ///
    /// # Panics
    /// When its file cannot be written.
    pub fn set(&self, days: i32) {
        // Renamed: programs read it at any moment.
        let new = self.folder.path().join("new");
        fs::write(&new, format!("{days:+}d\n")).expect("write the time");
        fs::rename(new, self.file()).expect("set the clock");
    }

    /// What a program needs in its environment.
    ///
    /// # Panics
    /// When libfaketime is not installed.
    pub(crate) fn environment(&self) -> Vec<(&'static str, OsString)> {
        let library = fs::read_dir("/usr/lib").expect("list /usr/lib").find_map(|folder| {
            let library = folder.ok()?.path().join("faketime/libfaketimeMT.so.1");
            library.exists().then_some(library)
        });
        let library =
            library.expect("no libfaketime in /usr/lib: use scripts/test-cluster, which installs it");
        vec![
            ("LD_PRELOAD", library.into()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().into()),
            // Read at each look at the clock.
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("time")
    }
}
