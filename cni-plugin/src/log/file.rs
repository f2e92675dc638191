//! Opens a log file that a network names: root's own file in a folder of logs, whatever has been put there meanwhile.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};
use octavia_bridge_ipam::conf::places;

/// Opens a file below `/var/log` to append to it, and makes it if it is missing; our own folder, too.
///
/// No link is followed, neither at the end nor on the way, since what lies there need not be root's: on Debian's descendants a group may write in
/// `/var/log`. Each component is opened from the one before, as `openat2(2)` with `RESOLVE_NO_SYMLINKS` would from Linux
/// 5.6 on. A second name of a file elsewhere is not a log file either.
pub(crate) fn append_to(path: &Path) -> io::Result<File> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    let folder = reach_folder(folder, true)?.ok_or(ErrorKind::NotFound)?;
    let flags = OFlag::O_WRONLY
        | OFlag::O_APPEND
        | OFlag::O_CREAT
        | OFlag::O_NOFOLLOW
        // Should it be a FIFO, nobody waits for its reader.
        | OFlag::O_NONBLOCK
        | OFlag::O_CLOEXEC;
    let file = File::from(openat(&folder, name, flags, Mode::from_bits_truncate(0o640)).map_err(no_link)?);
    suits(&file.metadata()?)?;
    Ok(file)
}

/// Whether [`append_to`] may open the file, without opening it: that alone may wait for its disk.
pub(super) fn examine(path: &Path) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let Some(folder) = reach_folder(folder, false)? else { return Ok(()) };
    match openat(&folder, name, flags, Mode::empty()) {
        Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(no_link(errno)),
        Ok(file) => {
            let there = File::from(file).metadata()?;
            match there.file_type() {
                kind if kind.is_symlink() => Err(no_link(Errno::ELOOP)),
                kind if kind.is_dir() => Err(Errno::EISDIR.into()),
                _ => suits(&there),
            }
        }
    }
}

fn suits(there: &Metadata) -> io::Result<()> {
    match there.is_file() {
        false => Err(io::Error::new(ErrorKind::InvalidData, "it is not a regular file")),
        true if there.nlink() > 1 => {
            Err(io::Error::new(ErrorKind::InvalidData, "it has another name elsewhere, by a hard link"))
        }
        true => Ok(()),
    }
}

/// The folder of logs. Our own is made if it is missing and `make` says so.
fn reach_folder(path: &Path, make: bool) -> io::Result<Option<OwnedFd>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let ours = Path::new(places::LOG_DIR);
    let mut folder = open("/", flags, Mode::empty())?;
    for component in path.components() {
        let Component::Normal(name) = component else { continue };
        let mut opened = openat(&folder, name, flags, Mode::empty());
        if matches!(opened, Err(Errno::ENOENT)) && path == ours && ours.ends_with(name) {
            if !make {
                return Ok(None);
            }
            match mkdirat(&folder, name, Mode::from_bits_truncate(0o750)) {
                Ok(()) | Err(Errno::EEXIST) => opened = openat(&folder, name, flags, Mode::empty()),
                Err(errno) => return Err(errno.into()),
            }
        }
        folder = opened.map_err(no_link)?;
    }
    Ok(Some(folder))
}

/// The kernel's words for a link that was not to be followed do not say so.
fn no_link(errno: Errno) -> io::Error {
    let why = match errno {
        Errno::ELOOP => "it is a symbolic link",
        // A link where a folder should be, too.
        Errno::ENOTDIR => "a symbolic link or a file is in place of one of its directories",
        Errno::ENXIO => "it is a FIFO, a socket or a device",
        other => return other.into(),
    };
    io::Error::new(ErrorKind::InvalidData, why)
}
