//! One file of the CNI directory: what distinguishes it from others, and how it is put there.
//!
//! A runtime may start the plugin at any moment. So a file is never written in place, which would give it half a program,
//! and is answered with "text file busy" while the old one runs. It is written beside its place, brought to the disk, and
//! renamed: a runtime that starts the plugin gets the old one or the new one, and those that run keep theirs.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};
use rustix::fs::{CWD, RenameFlags, XattrFlags, fgetxattr, fsetxattr, lgetxattr, renameat_with};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::sha256;

/// Mode of a program that a runtime shall find.
pub(super) const PROGRAM: u32 = 0o755;
/// Mode of one that is put aside, so that root can install it again. Not a program's: the author of a network could name it
/// as `type`, and have the holes of the version before.
pub(super) const PUT_ASIDE: u32 = 0o600;
/// Mode of a copy that only this program starts.
const TRIAL: u32 = 0o700;
/// Mode of what is not whole yet.
const DRAFT: u32 = 0o600;
/// Extended attribute of the `SELinux` label.
const LABEL: &str = "security.selinux";
/// The kernel's longest label is a page (`SIMPLE_TRANSACTION_LIMIT` of selinuxfs).
const LONGEST_LABEL: usize = 4096;
/// Bytes read at once.
const PIECE: usize = 1 << 16;

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Content {
    /// In bytes.
    size: u64,
    /// As `sha256sum` prints it.
    sha256: String,
}

impl Content {
    /// What the file holds now.
    pub(super) fn of(mut file: &File) -> io::Result<Self> {
        copy(&mut file, &mut io::sink())
    }
}

/// What distinguishes one state of a place from another without reading it: device, inode, size, and the moment of the last change.
pub(super) type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// The state of a place; `None` where nothing is.
pub(super) fn stamp(path: &Path) -> Stamp {
    let file = fs::symlink_metadata(path).ok()?;
    Some((file.dev(), file.ino(), file.size(), file.ctime(), file.ctime_nsec()))
}

/// Where a file is written before it is renamed. A runtime starts the file whose name is the `type` in a configuration; until
/// this one is whole, it cannot be started.
pub(super) fn draft(target: &Path) -> PathBuf {
    beside(target, "new")
}

/// Where the file is kept that was replaced last.
pub(super) fn previous(target: &Path) -> PathBuf {
    beside(target, "previous")
}

fn beside(target: &Path, ending: &str) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.{ending}"))
}

/// Puts a copy of `source`, which holds `content`, in the place of `target`, on disk for good when this returns. With
/// `fresh` there must be nothing yet. The source is open already, since it may be what is put aside.
///
/// # Errors
/// Those of reading and writing, after which `target` is as it was; `AlreadyExists` where there is something after all.
pub(super) fn put(source: &File, content: &Content, target: &Path, mode: u32, fresh: bool) -> io::Result<()> {
    let draft = draft(target);
    let result = write(source, content, target, &draft, mode).and_then(|()| rename(&draft, target, fresh));
    if let Err(cause) = result {
        // Said with the cause, which is logged once and not at each try.
        return Err(match remove(&draft) {
            Ok(_) => cause,
            Err(left) => {
                io::Error::new(cause.kind(), format!("{cause}; and {} stays: {left}", draft.display()))
            }
        });
    }
    sync_directory(target)
}

/// Writes a text so that it is there whole or not at all, also after a power cut.
///
/// # Errors
/// Those of writing.
pub(crate) fn write_text(path: &Path, text: &str) -> io::Result<()> {
    // Neither systemd nor NetworkManager reads a file with this ending.
    let mut draft = path.as_os_str().to_owned();
    draft.push(".tmp");
    let mut file = File::create(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    sync_directory(path)
}

/// Has `examine` look at a copy that can be started, in a directory of the agent's own.
///
/// # Errors
/// Those of copying.
pub(super) fn try_out<T>(
    source: &File,
    content: &Content,
    directory: &Path,
    examine: impl FnOnce(&Path) -> T,
) -> io::Result<T> {
    let copy = directory.join("plugin-on-trial");
    let examined = write(source, content, &copy, &copy, TRIAL).map(|()| examine(&copy));
    remove(&copy)?;
    examined
}

/// Removes a file. One that is not there is removed already.
///
/// # Errors
/// Those of removing.
pub(super) fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(false),
        // A read-only file system refuses before it looks.
        Err(_) if fs::symlink_metadata(path).is_err_and(|none| none.kind() == ErrorKind::NotFound) => {
            Ok(false)
        }
        Err(cause) => Err(cause),
    }
}

/// Brings to the disk what was renamed or removed in the directory of a file.
///
/// # Errors
/// Those of the disk.
pub(super) fn sync_directory(of: &Path) -> io::Result<()> {
    File::open(of.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn write(mut source: &File, content: &Content, target: &Path, draft: &Path, mode: u32) -> io::Result<()> {
    source.seek(SeekFrom::Start(0))?;
    // What a killed process left.
    remove(draft)?;
    let mut to = OpenOptions::new().write(true).create_new(true).mode(DRAFT).open(draft)?;
    if copy(&mut source, &mut to)? != *content {
        return Err(io::Error::other("what is to be written was changed while it was read"));
    }
    keep_label(target, &to)?;
    // Last, and not by the mode at creation, of which the umask takes some away.
    to.set_permissions(Permissions::from_mode(mode))?;
    to.sync_all()
}

/// Gives a file the `SELinux` label of the one whose place it takes. Where there was none, the kernel has given it the one of its
/// directory's other files already: a new file gets its directory's type.
fn keep_label(target: &Path, file: &File) -> io::Result<()> {
    let read = |result: rustix::io::Result<usize>, label: Vec<u8>| match result {
        Ok(length) => Ok(Some(label[..length].to_vec())),
        // No such file, no label, no kind of file system that has labels.
        Err(Errno::NOENT | Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(cause) => Err(io::Error::from(cause)),
    };
    let mut buffer = vec![0; LONGEST_LABEL];
    let Some(label) = read(lgetxattr(target, LABEL, &mut buffer), buffer)? else { return Ok(()) };
    let mut buffer = vec![0; LONGEST_LABEL];
    if read(fgetxattr(file, LABEL, &mut buffer), buffer)?.as_ref() == Some(&label) {
        return Ok(());
    }
    match fsetxattr(file, LABEL, &label, XattrFlags::empty()) {
        // A label that is left over on a host where SELinux is off can be set by CAP_SYS_ADMIN only, and means nothing.
        Err(cause @ (Errno::PERM | Errno::ACCESS)) => {
            let label = String::from_utf8_lossy(&label);
            tracing::warn!("{} loses its SELinux label {label}: {cause}", target.display());
            Ok(())
        }
        result => Ok(result?),
    }
}

fn rename(draft: &Path, target: &Path, fresh: bool) -> io::Result<()> {
    if fresh {
        match renameat_with(CWD, draft, CWD, target, RenameFlags::NOREPLACE) {
            // This kind of file system cannot promise it; it was looked at a moment ago.
            Err(Errno::INVAL | Errno::NOSYS) => {}
            result => return Ok(result?),
        }
    }
    fs::rename(draft, target)
}

/// Copies all there is to read, and says what it was.
fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<Content> {
    let mut digest = Context::new(&SHA256);
    let mut piece = vec![0; PIECE];
    let mut size = 0;
    loop {
        match from.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => {
                digest.update(&piece[..read]);
                to.write_all(&piece[..read])?;
                size += read as u64;
            }
            Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(Content { size, sha256: sha256::shown(&digest.finish()) })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn written(directory: &TempDir, name: &str, text: &str) -> (File, Content) {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        let file = File::open(&path).unwrap();
        let content = Content::of(&file).unwrap();
        (file, content)
    }

    #[test]
    fn content_is_told_as_sha256sum_does() {
        let directory = TempDir::new().unwrap();
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".to_owned();
        assert_eq!(written(&directory, "file", "abc").1, Content { size: 3, sha256 });
    }

    #[test]
    fn what_came_meanwhile_is_not_written_over_and_what_a_killed_process_left_is() {
        let directory = TempDir::new().unwrap();
        let target = directory.path().join("octavia-bridge");
        let (source, content) = written(&directory, "source", "new");
        fs::write(&target, "another's").unwrap();
        // Written in place it would take the target's contents along.
        fs::hard_link(&target, draft(&target)).unwrap();
        let put = |fresh| put(&source, &content, &target, PROGRAM, fresh);
        assert_eq!(put(true).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&target).unwrap(), b"another's");
        assert!(!draft(&target).exists());
        put(false).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(fs::metadata(&target).unwrap().mode() & 0o7777, PROGRAM);
    }

    #[test]
    fn a_source_that_is_not_what_it_was_is_not_installed() {
        let directory = TempDir::new().unwrap();
        let target = directory.path().join("octavia-bridge");
        let (source, content) = written(&directory, "source", "whole");
        fs::write(directory.path().join("source"), "hal").unwrap();
        let error = put(&source, &content, &target, PROGRAM, true).unwrap_err();
        assert!(error.to_string().contains("changed while it was read"), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_label_of_what_is_replaced_stays() {
        // A tmpfs of the sandbox's own: labels may be set there by its root.
        let directory = TempDir::new_in("/run").unwrap();
        let target = directory.path().join("octavia-bridge");
        let (source, content) = written(&directory, "source", "new");
        let label = |path: &Path| {
            let mut label = vec![0; LONGEST_LABEL];
            lgetxattr(path, LABEL, &mut label).ok().map(|length| label[..length].to_vec())
        };
        put(&source, &content, &target, PROGRAM, true).unwrap();
        let bin = b"system_u:object_r:bin_t:s0".as_slice();
        let old = File::open(&target).unwrap();
        fsetxattr(&old, LABEL, bin, XattrFlags::empty()).unwrap();
        put(&source, &content, &target, PROGRAM, false).unwrap();
        assert_eq!(label(&target).as_deref(), Some(bin));
        assert_ne!(old.metadata().unwrap().ino(), fs::metadata(&target).unwrap().ino());
    }
}
