//! Releases that could not be done, kept until they can be.
//!
//! A tombstone is an empty file; its name says everything: `<container id>@<interface>` for every pool,
//! or `<container id>@<interface>@<pool>` for the one pool that could not be read. With nothing in the
//! file there is nothing to be torn, and writing one twice is the same as once, so no lock is needed.
//!
//! The second form matters when the same container is attached again: only what is still undone may be
//! replayed, or a later replay would free the new attachment's addresses in the other pools.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::error::StoreError;

use super::disk::{create_dir, entries, io_error, sync_dir};

/// A release still to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// Container id of the attachment that is gone.
    pub id: String,
    /// Its interface.
    pub ifname: String,
    /// The pool to release it from; `None` is every pool.
    pub pool: Option<String>,
}

impl Tombstone {
    fn file_name(&self) -> String {
        let mut name = format!("{}@{}", escape(&self.id), escape(&self.ifname));
        if let Some(pool) = &self.pool {
            name.push('@');
            name.push_str(&escape(pool));
        }
        name
    }

    fn from_file_name(name: &str) -> Option<Self> {
        let mut parts = name.split('@').map(unescape);
        let (id, ifname) = (parts.next()??, parts.next()??);
        let pool = match parts.next() {
            Some(pool) => Some(pool?),
            None => None,
        };
        parts.next().is_none().then_some(Self { id, ifname, pool })
    }
}

/// All tombstones in `dir`; a missing directory has none.
pub(super) fn list(dir: &Path) -> Result<Vec<Tombstone>, StoreError> {
    Ok(entries(dir)?.iter().filter_map(|name| Tombstone::from_file_name(name)).collect())
}

/// Writes a tombstone; it will survive a power cut when this returns.
pub(super) fn write(dir: &Path, tombstone: &Tombstone) -> Result<(), StoreError> {
    create_dir(dir)?;
    let path = dir.join(tombstone.file_name());
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    file.map_err(io_error("write tombstone", &path))?;
    sync_dir(dir)
}

/// Removes a tombstone whose release is done. Not synced: replayed once more, it finds nothing, unless
/// its container was attached again in between, and that attachment's own write comes after this.
pub(super) fn remove(dir: &Path, tombstone: &Tombstone) -> Result<(), StoreError> {
    let path = dir.join(tombstone.file_name());
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io_error("remove tombstone", &path)(error)),
        _ => Ok(()),
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
        for (id, ifname, pool) in [
            ("3f2a", "net1", None),
            ("a_b.c-d", "eth0.24@if3", None),
            ("3f2a", "ü%", Some("blue-10.0.0.0-8".to_owned())),
        ] {
            let tombstone = Tombstone { id: id.to_owned(), ifname: ifname.to_owned(), pool };
            let name = tombstone.file_name();
            assert!(!name.contains('/'));
            assert_eq!(Tombstone::from_file_name(&name), Some(tombstone));
        }
    }

    #[test]
    fn other_files_are_no_tombstones() {
        for name in ["", "a", "@", "a@", "@b", "a@b@", "a@b@c@d", "a@%zz", "a@%f"] {
            assert_eq!(Tombstone::from_file_name(name), None, "{name}");
        }
    }
}
