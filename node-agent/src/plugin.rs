//! The plugin in the directory where the container runtime looks for it.
//!
//! Each name is a file of its own, so that a directory without hard links serves as well. A file is the agent's if the record of
//! what was installed says so by its content, or if it is byte for byte the plugin to be installed. Any other belongs
//! to a distribution's package or an administrator, and is never written over.

mod daemon;
mod error;
mod file;
mod options;
mod record;
mod removal;
mod versions;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use octavia_bridge_ipam::causes::chain;
use rustix::process::geteuid;

pub(crate) use daemon::start;
pub(crate) use error::Error;
use error::io_error;
pub(crate) use file::write_text;
use file::{Content, PROGRAM, PUT_ASIDE, Stamp};
use options::ON_REQUEST;
pub(crate) use options::Plugin;
pub(crate) use record::{FileState, installed};
use record::{Installed, Record};
pub(crate) use removal::uninstall;
pub(crate) use versions::versions;

/// The plugin's name, and that of its IPAM-only face.
const NAMES: [&str; 2] = ["octavia-bridge", "octavia-ipam"];

/// What to install, and where.
#[derive(Debug, Clone)]
pub(crate) struct Installation {
    bin_dir: PathBuf,
    source: PathBuf,
    asked_for: BTreeSet<String>,
    /// Where the record is.
    directory: PathBuf,
}

/// How the files of one look stand.
#[derive(Debug, Default)]
pub(crate) struct Look {
    /// Files that were written, with what they were before in words.
    written: Vec<(PathBuf, &'static str)>,
    /// Names that stand for this plugin.
    stands: Vec<String>,
    /// Those that do not, and why.
    lacks: Vec<(String, Error)>,
    /// What is worth knowing.
    notes: Vec<String>,
    /// What each place was like before anything was done.
    seen: Vec<(PathBuf, Stamp)>,
}

/// What is in a place.
#[derive(Debug, PartialEq, Eq)]
enum There {
    Nothing,
    /// The plugin to be installed, as a runtime can start it.
    Right,
    /// Some version of the plugin that was installed, or this one with another mode or owner.
    Ours(Content),
    /// Another program's.
    Foreign(&'static str),
}

impl Installation {
    /// What the command line asks for. `directory` is the agent's own, below the state directory.
    ///
    /// # Errors
    /// This program's own path cannot be found, beside which the plugin is.
    pub(crate) fn new(bin_dir: &Path, plugin: &Plugin, directory: &Path) -> io::Result<Self> {
        let source = match &plugin.file {
            Some(file) => file.clone(),
            None => std::env::current_exe()?.with_file_name(NAMES[0]),
        };
        let names = NAMES.iter().map(ToString::to_string);
        Ok(Self {
            bin_dir: std::path::absolute(bin_dir)?,
            source,
            asked_for: names.chain(plugin.also_as.0.iter().cloned()).collect(),
            directory: directory.to_owned(),
        })
    }

    /// Puts into the directory what is missing or of another version. Writes nothing if all is as it should be.
    ///
    /// # Errors
    /// What concerns all files; what concerns one is in the look.
    pub(crate) fn reconcile(&self) -> Result<Look, Error> {
        self.usable()?;
        let (source, wanted) = self.source()?;
        let before = Record::recover(&self.directory);
        let mut record = before.clone();
        let mut look = Look::default();
        let moved = before.bin_dir != self.bin_dir;
        if moved && !before.files.is_empty() {
            look.notes.push(format!(
                "the plugin was installed in {} before; the agent no longer touches the files there",
                before.bin_dir.display()
            ));
        }
        record.bin_dir.clone_from(&self.bin_dir);
        let mut to_write = Vec::new();
        for name in self.names(&before) {
            let target = self.bin_dir.join(&name);
            look.seen.push((target.clone(), file::stamp(&target)));
            let known = before.files.get(&name);
            let mut installs = |now: Option<&Content>| {
                let previous = now.filter(|now| **now != wanted).cloned();
                let previous = previous.or_else(|| known?.previous.clone());
                record.files.insert(name.clone(), Installed { content: wanted.clone(), previous });
            };
            match there(&target, &wanted, known) {
                Err(cause) => {
                    look.lacks.push((name, io_error(format!("look at {}", target.display()), cause)));
                }
                Ok(There::Foreign(what)) => {
                    let foreign = Error::Foreign { path: target, what, instead: instead(&name) };
                    look.lacks.push((name, foreign));
                }
                Ok(There::Right) => {
                    installs(None);
                    look.stands.push(name);
                }
                Ok(There::Nothing) => {
                    installs(None);
                    to_write.push((name, target, None));
                }
                Ok(There::Ours(now)) => {
                    installs(Some(&now));
                    to_write.push((name, target, Some(now)));
                }
            }
        }
        look.notes.extend(self.unasked(&record));
        if record != before {
            record.write(&self.directory)?;
        }
        for (name, target, now) in to_write {
            match write(&source, &wanted, &target, now.as_ref()) {
                Ok(()) => {
                    let known = !moved && before.files.contains_key(&name);
                    let was = match now {
                        Some(now) if now != wanted => "in the place of another version",
                        Some(_) => "with its mode and owner",
                        None if known => "again, since it was removed",
                        None => "where nothing was",
                    };
                    look.written.push((target, was));
                    look.stands.push(name);
                }
                Err(cause) => {
                    look.lacks.push((name, io_error(format!("install {}", target.display()), cause)));
                }
            }
        }
        Ok(look)
    }

    /// Those asked for, and those that were once: networks may name them, and pods attached by that name need it for DEL.
    fn names(&self, record: &Record) -> BTreeSet<String> {
        self.asked_for.iter().chain(record.files.keys()).cloned().collect()
    }

    fn unasked(&self, record: &Record) -> Option<String> {
        let names: Vec<&str> =
            record.files.keys().filter(|name| !self.asked_for.contains(*name)).map(String::as_str).collect();
        (!names.is_empty()).then(|| {
            format!(
                "{} is not asked for any more, and is kept for the pods attached by that name; `uninstall` removes it",
                names.join(", ")
            )
        })
    }

    fn usable(&self) -> Result<(), Error> {
        let failed = |source| Error::Directory { path: self.bin_dir.clone(), source };
        match fs::metadata(&self.bin_dir).map_err(failed)?.is_dir() {
            true => Ok(()),
            false => Err(failed(ErrorKind::NotADirectory.into())),
        }
    }

    /// The plugin to install, which has to be one, and one for this machine.
    fn source(&self) -> Result<(File, Content), Error> {
        let failed = |source| Error::Source { path: self.source.clone(), source };
        let file = File::open(&self.source).map_err(failed)?;
        let content = Content::of(&file).map_err(failed)?;
        // As the previous one is kept.
        let examined = match file.metadata().map_err(failed)?.mode() & 0o111 {
            0 => file::try_out(&file, &content, &self.directory, versions).map_err(failed)?,
            _ => versions(&self.source),
        };
        examined.map_err(|why| Error::Unfit { path: self.source.clone(), why })?;
        Ok((file, content))
    }
}

/// Writes one file; `now` is what it takes the place of.
fn write(source: &File, wanted: &Content, target: &Path, now: Option<&Content>) -> io::Result<()> {
    // One is enough: under all names it is the same.
    if let Some(now) = now.filter(|now| *now != wanted && target.ends_with(NAMES[0])) {
        file::put(&File::open(target)?, now, &file::previous(target), PUT_ASIDE, false)?;
    }
    file::put(source, wanted, target, PROGRAM, now.is_none())
}

fn there(target: &Path, wanted: &Content, known: Option<&Installed>) -> io::Result<There> {
    let status = match fs::symlink_metadata(target) {
        Ok(status) => status,
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(There::Nothing),
        Err(cause) => return Err(cause),
    };
    if !status.is_file() {
        return Ok(There::Foreign("not a regular file"));
    }
    let content = Content::of(&File::open(target)?)?;
    if content == *wanted {
        let right = status.mode() & 0o7777 == PROGRAM && status.uid() == geteuid().as_raw();
        return Ok(if right { There::Right } else { There::Ours(content) });
    }
    Ok(match known {
        Some(known) if known.is(&content) => There::Ours(content),
        Some(_) => There::Foreign("another program has replaced the installed plugin"),
        None => There::Foreign("it was there before"),
    })
}

/// What can be done about a file that is in the way, other than removing it.
fn instead(name: &str) -> &'static str {
    if ON_REQUEST.contains(&name) {
        "do without that name in --also-as (ALSO_AS)"
    } else {
        "do without --cni-bin-dir (CNI_BIN_DIR) if the plugin comes from somewhere else"
    }
}

impl Look {
    /// What was done, a line each.
    pub(crate) fn done(&self) -> Vec<String> {
        self.written.iter().map(|(path, was)| format!("installed {} {was}", path.display())).collect()
    }

    /// What keeps the directory from being as it should be.
    pub(crate) fn complaints(&self) -> Vec<String> {
        self.lacks.iter().map(|(_, error)| chain(error)).collect()
    }

    /// Whether trying again may help. A file of another program is seen when it goes.
    fn fails(&self) -> bool {
        self.lacks.iter().any(|(_, error)| !matches!(error, Error::Foreign { .. }))
    }
}
