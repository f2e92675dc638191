//! Opens a log file that a network names: root's own file in a folder of logs, whatever has been put there meanwhile.

use std::fs::File;
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
pub(super) fn append_to(path: &Path) -> io::Result<File> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    let folder = open_folder(folder)?;
    let flags = OFlag::O_WRONLY
        | OFlag::O_APPEND
        | OFlag::O_CREAT
        | OFlag::O_NOFOLLOW
        // Should it be a FIFO, nobody waits for its reader.
        | OFlag::O_NONBLOCK
        | OFlag::O_CLOEXEC;
    let file = File::from(openat(&folder, name, flags, Mode::from_bits_truncate(0o640)).map_err(no_link)?);
    let there = file.metadata()?;
    match there.is_file() {
        false => Err(io::Error::new(ErrorKind::InvalidData, "it is not a regular file")),
        true if there.nlink() > 1 => {
            Err(io::Error::new(ErrorKind::InvalidData, "it has another name elsewhere, by a hard link"))
        }
        true => Ok(file),
    }
}

fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let ours = Path::new(places::LOG_DIR);
    let mut folder = open("/", flags, Mode::empty())?;
    for component in path.components() {
        let Component::Normal(name) = component else { continue };
        let mut opened = openat(&folder, name, flags, Mode::empty());
        if matches!(opened, Err(Errno::ENOENT)) && path == ours && ours.ends_with(name) {
            match mkdirat(&folder, name, Mode::from_bits_truncate(0o750)) {
                Ok(()) | Err(Errno::EEXIST) => opened = openat(&folder, name, flags, Mode::empty()),
                Err(errno) => return Err(errno.into()),
            }
        }
        folder = opened.map_err(no_link)?;
    }
    Ok(folder)
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
