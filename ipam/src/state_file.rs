//! Files of the node that a program running as root reads or writes: never through a symbolic link, never a FIFO or a
//! device, never without end.
//!
//! A record, a pool, a lock: each lies at a path whose last component another user might have put there, if the folder
//! around it were theirs. Who may write in the folder is judged before; this is the second fence. A link
//! would lead a write to any file of the node, a FIFO would keep its opener waiting for the other end, and a file that
//! grows while it is read would take all memory.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::libc::{ELOOP, ENXIO, O_NOFOLLOW, O_NONBLOCK};

/// Of the largest file that is kept, a pool's document, in bytes. 100,000 entries with the longest names have half of it.
pub const LONGEST: u64 = 64 << 20;

/// Opens `path`, which must be a regular file or, with the options to make one, nothing yet. The flags of
/// [`OpenOptionsExt::custom_flags`] are this function's.
///
/// # Errors
/// [`ErrorKind::InvalidData`] says that it is something else: a symbolic link, a directory, a FIFO, a socket or a device. All
/// others are the system's.
pub fn open(path: &Path, options: &OpenOptions) -> io::Result<File> {
    let opened = options.clone().custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path);
    let file = opened.map_err(|cause| match cause.raw_os_error() {
        Some(ELOOP) => not_regular("symbolic link"),
        // What open(2) answers for a FIFO without a reader and for a socket.
        Some(ENXIO) => not_regular("FIFO, socket or device"),
        _ if cause.kind() == ErrorKind::IsADirectory => not_regular("directory"),
        _ => cause,
    })?;
    let kind = file.metadata()?.file_type();
    match () {
        () if kind.is_file() => Ok(file),
        () if kind.is_dir() => Err(not_regular("directory")),
        () if kind.is_fifo() => Err(not_regular("FIFO")),
        () => Err(not_regular("device")),
    }
}

/// Reads a regular file of at most `limit` bytes.
///
/// # Errors
/// As [`open`]; [`ErrorKind::InvalidData`] also says that the file is longer.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_from(&open(path, OpenOptions::new().read(true))?, limit)
}

/// Opens a regular file of at most `limit` bytes, to be read piece by piece.
///
/// # Errors
/// As [`read`].
pub fn reader(path: &Path, limit: u64) -> io::Result<impl Read + use<>> {
    let file = open(path, OpenOptions::new().read(true))?;
    if file.metadata()?.len() > limit {
        return Err(longer_than(limit));
    }
    Ok(BufReader::new(file.take(limit)))
}

/// Reads the rest of an open file, at most `limit` bytes.
///
/// # Errors
/// [`ErrorKind::InvalidData`] if there is more; others are the system's.
pub fn read_from(file: &File, limit: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut text)?;
    if text.len() as u64 > limit {
        return Err(longer_than(limit));
    }
    Ok(text)
}

fn longer_than(limit: u64) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("it has more than {limit} bytes"))
}

fn not_regular(kind: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("it is a {kind}, not a regular file"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    fn why(path: &Path) -> String {
        let error = read(path, 10).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
        error.to_string()
    }

    #[test]
    fn only_a_regular_file_is_read_and_no_more_of_it_than_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "0123456789").unwrap();
        assert_eq!(read(&at("file"), 10).unwrap(), b"0123456789");
        assert_eq!(read(&at("none"), 10).unwrap_err().kind(), ErrorKind::NotFound);
        fs::write(at("long"), "0123456789a").unwrap();
        assert_eq!(why(&at("long")), "it has more than 10 bytes");
        symlink(at("file"), at("link")).unwrap();
        assert_eq!(why(&at("link")), "it is a symbolic link, not a regular file");
        mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();
        assert_eq!(why(&at("fifo")), "it is a FIFO, not a regular file");
        assert_eq!(why(dir.path()), "it is a directory, not a regular file");
        let _listener = UnixListener::bind(at("socket")).unwrap();
        assert_eq!(why(&at("socket")), "it is a FIFO, socket or device, not a regular file");
    }

    #[test]
    fn nothing_is_made_or_cut_off_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (link, target) = (dir.path().join("link"), dir.path().join("target"));
        symlink(&target, &link).unwrap();
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        assert!(open(&link, &options).is_err());
        assert!(!target.exists());
        fs::write(&target, "kept").unwrap();
        assert!(open(&link, OpenOptions::new().write(true).truncate(true)).is_err());
        assert_eq!(fs::read(&target).unwrap(), b"kept");
        assert!(open(&dir.path().join("new"), &options).is_ok());
    }
}
