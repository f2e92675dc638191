//! Documents: reading them, and replacing each as a whole, so that a killed writer leaves the old or the new one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::StoreError;
use crate::pool::{Pool, PoolError};
use crate::state_file;

use super::lock::Lock;

const SUFFIX: &str = ".json";
const TEMPORARY: &str = ".tmp";

/// Turns an [`io::Error`] into a [`StoreError`] about `path`.
pub(super) fn io_error(attempt: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { attempt, path, source }
}

/// Where the document of pool `name` lies.
pub(super) fn path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}{SUFFIX}"))
}

/// Where it is written before it replaces the old one. One name per pool is enough under the lock, and
/// what a killed writer leaves is removed by the next.
pub(super) fn temporary(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!(".{name}{TEMPORARY}"))
}

/// The pool called `name`, `None` if there is no document.
pub(super) fn read(dir: &Path, name: &str) -> Result<Option<Pool>, StoreError> {
    let path = path(dir, name);
    let document = match state_file::reader(&path, state_file::LONGEST) {
        Ok(document) => document,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        // No document at all; whoever put it there has to take it away.
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            return Err(StoreError::Corrupt { path, why: error.to_string() });
        }
        Err(error) => return Err(io_error("read pool document", &path)(error)),
    };
    match Pool::read(name, document) {
        Ok(pool) => Ok(Some(pool)),
        Err(PoolError::Json(error)) if error.is_io() => {
            Err(io_error("read pool document", &path)(error.into()))
        }
        Err(error) => Err(StoreError::Corrupt { path, why: error.to_string() }),
    }
}

/// Names of all pools that have a document; a missing directory has none.
pub(super) fn names(dir: &Path) -> Result<Vec<String>, StoreError> {
    let pool = |name: &str| Some(name.strip_suffix(SUFFIX)?.to_owned()).filter(|name| !name.starts_with('.'));
    Ok(entries(dir)?.iter().filter_map(|name| pool(name)).collect())
}

/// Names in `dir`, sorted, so that what happens does not depend on the file system's order. Names that
/// are not UTF-8 were never written by us.
pub(super) fn entries(dir: &Path) -> Result<Vec<String>, StoreError> {
    let list = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort_unstable();
        Ok(names)
    };
    match list() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        result => result.map_err(io_error("list directory", dir)),
    }
}

/// Removes a file; that there is none is as good.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes what killed writers left half-written. Under the lock, nobody else is writing.
///
/// What cannot be listed or removed is left to the next writer of that pool, who names it: it must not stop
/// those who have nothing to write there. Claims leave it to releases: listing the directory once more is a hundredth of
/// an ADD.
pub(super) fn remove_leftovers(dir: &Path, _held: &Lock) {
    for name in entries(dir).unwrap_or_default() {
        if name.starts_with('.') && name.ends_with(TEMPORARY) {
            remove(&dir.join(name)).ok();
        }
    }
}

/// Replaces the documents of `pools` in `dir`.
pub(super) fn write<'a>(
    dir: &Path,
    pools: impl Iterator<Item = &'a Pool>,
    held: &Lock,
) -> Result<(), StoreError> {
    prepare(dir, pools, held)?.put_in_place(held)
}

/// Writes new documents of `pools` beside those in `dir`. Nothing takes effect yet.
pub(super) fn prepare<'a>(
    dir: &Path,
    pools: impl Iterator<Item = &'a Pool>,
    _held: &Lock,
) -> Result<Prepared, StoreError> {
    let mut ready = Prepared(Vec::new());
    for pool in pools {
        let beside = temporary(dir, pool.name());
        match write_anew(&beside, pool) {
            Ok(()) => ready.0.push(Text { beside, target: path(dir, pool.name()) }),
            Err(error) => {
                fs::remove_file(&beside).ok();
                ready.discard(0);
                return Err(error);
            }
        }
    }
    Ok(ready)
}

/// Documents that are written but not in place.
#[derive(Debug)]
pub(super) struct Prepared(Vec<Text>);

#[derive(Debug)]
struct Text {
    beside: PathBuf,
    target: PathBuf,
}

impl Prepared {
    /// Replaces the documents. All texts are written before the first takes effect, so a full file system changes nothing.
    pub(super) fn put_in_place(self, _held: &Lock) -> Result<(), StoreError> {
        for (i, Text { beside, target }) in self.0.iter().enumerate() {
            if let Err(error) = fs::rename(beside, target) {
                self.discard(i);
                return Err(io_error("replace pool document", target)(error));
            }
        }
        Ok(())
    }

    /// Removes texts that will not take effect, from the `first` on. The error that led here is the one to report; what
    /// cannot be removed now is removed by the next writer.
    fn discard(&self, first: usize) {
        for text in &self.0[first..] {
            fs::remove_file(&text.beside).ok();
        }
    }
}

fn write_anew(path: &Path, pool: &Pool) -> Result<(), StoreError> {
    let write = || {
        // A leftover may be anything, also a FIFO, which would be waited for when opened.
        remove(path)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        // Piece by piece: a large pool is not in memory twice.
        let mut file = BufWriter::new(file);
        pool.write(&mut file)?;
        file.flush()
    };
    write().map_err(io_error("write", path))
}

/// Makes names created, replaced or removed in `dir` survive a power cut.
pub(super) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_error("sync directory", dir))
}

/// Makes `dir` and what is missing above it, for its owner only.
pub(super) fn create_dir(dir: &Path) -> Result<(), StoreError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_error("create directory", dir))
}

/// The same, and syncs the names made.
pub(super) fn create_lasting_dir(dir: &Path) -> Result<(), StoreError> {
    if dir.is_dir() {
        return Ok(());
    }
    let missing: Vec<&Path> = dir.ancestors().take_while(|path| !path.exists()).collect();
    create_dir(dir)?;
    for parent in missing.iter().filter_map(|path| path.parent()) {
        // The parent of a relative path may be the empty one, which is the working directory.
        sync_dir(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })?;
    }
    Ok(())
}
