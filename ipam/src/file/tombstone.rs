//! Releases that could not be done, kept until they can be.
//!
//! A tombstone is an empty file called `<container id>@<interface>`. With nothing in the file there is
//! nothing to be torn, writing one twice is the same as once, so no lock is needed, and a disk without a
//! free block may still have room for a name. It stands for every pool: those already released hold
//! nothing of the attachment any more, and when the same container is attached again, its tombstone goes.
//!
//! Each store has a directory of its own: a replay in one says nothing about the addresses in another.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::StoreError;
use crate::state_file;

use super::disk::{self, entries, io_error, sync_dir};

/// A release still to be done, in every pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// Container id of the attachment that is gone.
    pub id: String,
    /// Its interface.
    pub ifname: String,
}

impl Tombstone {
    /// The release of an attachment's addresses.
    pub fn of(id: &str, ifname: &str) -> Self {
        Self { id: id.to_owned(), ifname: ifname.to_owned() }
    }

    /// At most 46 bytes longer than a valid `CNI_CONTAINERID`, which needs no escaping: an interface name
    /// has at most 15 bytes.
    fn file_name(&self) -> String {
        format!("{}@{}", escape(&self.id), escape(&self.ifname))
    }

    fn from_file_name(name: &str) -> Option<Self> {
        let (id, ifname) = name.split_once('@')?;
        // '@' is escaped in both parts.
        let ifname = Some(ifname).filter(|ifname| !ifname.contains('@'))?;
        Some(Self { id: unescape(id)?, ifname: unescape(ifname)? })
    }
}

/// A directory of tombstones.
#[derive(Debug, Clone)]
pub struct Tombstones {
    dir: PathBuf,
    /// They are owed to a store that outlives the boot.
    lasting: bool,
}

impl Tombstones {
    /// The tombstones in `dir`, which need not exist: it is made, readable by its owner only, when needed. They survive a
    /// power cut.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, lasting: true }
    }

    /// The same for a store that dies with the boot.
    pub(super) fn passing(dir: PathBuf) -> Self {
        Self { dir, lasting: false }
    }

    /// Where they are.
    pub fn directory(&self) -> &Path {
        &self.dir
    }

    /// Makes the directory. To be called while there is room: a release that finds the disk full needs one more name in
    /// it, not a directory.
    pub fn prepare(&self) -> Result<(), StoreError> {
        if self.lasting { disk::create_lasting_dir(&self.dir) } else { disk::create_dir(&self.dir) }
    }

    /// All tombstones; a missing directory has none.
    pub fn list(&self) -> Result<Vec<Tombstone>, StoreError> {
        Ok(entries(&self.dir)?.iter().filter_map(|name| Tombstone::from_file_name(name)).collect())
    }

    /// Whether a tombstone is there.
    pub fn has(&self, tombstone: &Tombstone) -> Result<bool, StoreError> {
        let path = self.dir.join(tombstone.file_name());
        match path.symlink_metadata() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(io_error("look at tombstone", &path)(error)),
        }
    }

    /// Writes a tombstone. A lasting one will survive a power cut when this returns.
    pub fn write(&self, tombstone: &Tombstone) -> Result<(), StoreError> {
        self.prepare()?;
        let path = self.dir.join(tombstone.file_name());
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        state_file::open(&path, &options).map_err(io_error("write tombstone", &path))?;
        if self.lasting { sync_dir(&self.dir) } else { Ok(()) }
    }

    /// Removes a tombstone if it is there. Not synced: after a power cut it may stand again, but then its
    /// container is gone, and what it names is to be released.
    pub fn remove(&self, tombstone: &Tombstone) -> Result<(), StoreError> {
        let path = self.dir.join(tombstone.file_name());
        // A frozen disk keeps an unlink waiting, also of what is not there.
        if path.symlink_metadata().is_err_and(|cause| cause.kind() == ErrorKind::NotFound) {
            return Ok(());
        }
        disk::remove(&path).map_err(io_error("remove tombstone", &path))
    }
}

/// `text` in letters, digits, '.', '_' and '-', everything else as `%xx` of its bytes. Interface names
/// may hold any byte but '/' and blanks.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'.' | b'_' | b'-' => escaped.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02x}")),
        }
    }
    escaped
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        if *byte == b'%' {
            let (digits, tail) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = tail;
        } else {
            bytes.push(*byte);
        }
    }
    String::from_utf8(bytes).ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        let longest = "f".repeat(200);
        for (id, ifname) in [
            ("3f2a", "net1"),
            ("a_b.c-d", "eth0.24@if3"),
            ("3f2a", "ü%"),
            (longest.as_str(), "@@@@@@@@@@@@@@@"),
        ] {
            let tombstone = Tombstone::of(id, ifname);
            let name = tombstone.file_name();
            assert!(!name.contains('/') && name.len() <= 255, "{name}");
            assert_eq!(Tombstone::from_file_name(&name), Some(tombstone));
        }
    }

    #[test]
    fn other_files_are_no_tombstones() {
        for name in ["", "a", "@", "a@", "@b", "a@b@", "a@b@c", "a@%zz", "a@%f"] {
            assert_eq!(Tombstone::from_file_name(name), None, "{name}");
        }
    }
}
