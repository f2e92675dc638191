//! A process of its own that writes where a disk may not answer.
//!
//! A write to a frozen or dying disk waits in the kernel and cannot be ended, and a process with such a thread does not end
//! either: the runtime would wait for it. So this program starts itself once more, gives the work to that process, and waits for a
//! limited time. The process stays behind, holds nothing of the runtime's, and ends when the disk answers. Only one stays for all
//! log files, and one for each `dataDir`: while it waits for the disk, later ones give up. Tombstones are the exception, since each
//! is owed.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use octavia_bridge_ipam::causes::chain;
use octavia_bridge_ipam::conf::places::{RUN_DIR, is_log_file, run_dir};
use octavia_bridge_ipam::file::{Tombstone, Tombstones};
use octavia_bridge_ipam::flock::{self, Mode};
use octavia_bridge_ipam::state_file;

use crate::{log, takeover};

/// Says what this process is for. Runtimes do not set it.
const WORK: &str = "OCTAVIA_BRIDGE_WRITE";
const LOG: &str = "log";
const TOMBSTONE: &str = "tombstone";
const DIRECTORY: &str = "directory";
const CLOSE: &str = "close";
/// Of a log, and so of what a killed or stuck process loses, in bytes: what a pipe holds without a reader.
pub(crate) const LOG_MOST: usize = 60 << 10;
/// How long such a process waits for another of its kind, which the disk may hold up. Longer than anybody waits for this one.
const TURN: Duration = Duration::from_secs(10);

/// Appends `text`, of at most [`LOG_MOST`] bytes, to a log file.
///
/// # Errors
/// It was not done, or not within `limit`.
pub(crate) fn append(path: &Path, text: &[u8], limit: Duration) -> io::Result<()> {
    let mut process = start(LOG, &[path.as_os_str()])?;
    if let Some(mut stdin) = process.stdin.take() {
        stdin.write_all(text)?;
    }
    await_end(process, limit)
}

/// Leaves a tombstone in `directory`, synced. A process that is late does it when the disk answers: a pod must not wait for that.
/// Should the node lose its power first, the agents reclaim the address.
///
/// # Errors
/// It cannot be done.
pub(crate) fn entomb(directory: &Path, tombstone: &Tombstone, limit: Duration) -> io::Result<()> {
    let (id, ifname) = (OsStr::new(&tombstone.id), OsStr::new(&tombstone.ifname));
    match run(TOMBSTONE, &[directory.as_os_str(), id, ifname], limit) {
        Err(late) if late.kind() == io::ErrorKind::TimedOut => {
            tracing::warn!("write tombstone in {}: {late}; a process waits for it", directory.display());
            Ok(())
        }
        written => written,
    }
}

/// Makes a directory of tombstones, synced.
///
/// # Errors
/// It cannot be done, or not within `limit` ([`io::ErrorKind::TimedOut`]): then the process goes on.
pub(crate) fn prepare(directory: &Path, limit: Duration) -> io::Result<()> {
    run(DIRECTORY, &[directory.as_os_str()], limit)
}

/// Does [`takeover::close`] for a `dataDir`. The process ends with this one, unless it waits for the disk.
///
/// # Errors
/// It cannot be done, or not within `limit` ([`io::ErrorKind::TimedOut`]).
pub(crate) fn close(data_dir: &Path, limit: Duration) -> io::Result<()> {
    run(CLOSE, &[data_dir.as_os_str()], limit)
}

/// What to do if this process is such a one.
pub(crate) fn asked() -> Option<ExitCode> {
    let work = std::env::var_os(WORK)?;
    if work == CLOSE {
        // Nobody needs it any more then, and the next claim does it.
        let _ = prctl::set_pdeathsig(Signal::SIGKILL);
    }
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    Some(match carry_out(&work, &arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // The one that waits for it tells.
            let _ = write!(io::stderr(), "{why}");
            ExitCode::FAILURE
        }
    })
}

fn carry_out(work: &OsStr, arguments: &[OsString]) -> Result<(), String> {
    match (work.to_str(), arguments) {
        (Some(LOG), [path]) if is_log_file(Path::new(path)) => {
            let mut text = Vec::new();
            io::stdin().read_to_end(&mut text).map_err(|cause| cause.to_string())?;
            let _turn = turn(Path::new(RUN_DIR), LOG)?;
            let written = log::append_to(Path::new(path)).and_then(|mut file| file.write_all(&text));
            written.map_err(|cause| cause.to_string())
        }
        (Some(TOMBSTONE), [directory, id, ifname]) => {
            let (Some(id), Some(ifname)) = (id.to_str(), ifname.to_str()) else {
                return Err("the tombstone's name is not UTF-8".into());
            };
            let written = Tombstones::new(PathBuf::from(directory)).write(&Tombstone::of(id, ifname));
            written.map_err(|cause| chain(&cause))
        }
        (Some(DIRECTORY), [directory]) => {
            // Each `dataDir` may be on a disk of its own.
            let data_dir = Path::new(directory).parent().unwrap_or(Path::new(directory));
            let _turn = turn(&run_dir(data_dir), DIRECTORY)?;
            Tombstones::new(PathBuf::from(directory)).prepare().map_err(|cause| chain(&cause))
        }
        (Some(CLOSE), [data_dir]) => takeover::close(Path::new(data_dir)).map_err(|error| error.to_string()),
        _ => Err(format!("{WORK} is {}, which this program does not know", work.to_string_lossy())),
    }
}

/// Waits until no other process with this run directory does such work, for [`TURN`] at most. The lock lies in memory; where there can
/// be none, nobody waits.
fn turn(run_dir: &Path, work: &str) -> Result<Option<File>, String> {
    let path = run_dir.join(format!("{work}.lock"));
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(run_dir).ok();
    let Ok(file) = state_file::open(&path, &options) else { return Ok(None) };
    match flock::lock(&file, Mode::Exclusive, Instant::now() + TURN) {
        Ok(true) => Ok(Some(file)),
        Ok(false) => Err("another process waits for the disk".into()),
        Err(_) => Ok(None),
    }
}

/// Lets a process do the work. It is done here if there can be none: that may wait, but it is owed.
fn run(work: &str, arguments: &[&OsStr], limit: Duration) -> io::Result<()> {
    match start(work, arguments) {
        Ok(process) => await_end(process, limit),
        Err(cause) => {
            tracing::debug!("cannot start a process to write: {cause}");
            let arguments: Vec<OsString> = arguments.iter().map(Into::into).collect();
            carry_out(OsStr::new(work), &arguments).map_err(io::Error::other)
        }
    }
}

fn start(work: &str, arguments: &[&OsStr]) -> io::Result<Child> {
    // By its path: of a file that was replaced meanwhile, the link in /proc still leads to the old one.
    let program = if fs::exists("/proc/self/exe")? {
        PathBuf::from("/proc/self/exe")
    } else {
        std::env::current_exe()?
    };
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env(WORK, work).current_dir("/").process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()
}

/// Its standard error closes when it ends.
fn await_end(mut process: Child, limit: Duration) -> io::Result<()> {
    drop(process.stdin.take());
    let deadline = Instant::now() + limit;
    let mut why = Vec::new();
    let Some(mut stderr) = process.stderr.take() else { return Err(io::Error::other("it has no stderr")) };
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut waiting = [PollFd::new(stderr.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(0) => {
                let text = format!("not done within {} s; the disk does not answer", limit.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
            Ok(_) => {}
        }
        let mut part = [0; 1024];
        match stderr.read(&mut part)? {
            0 => break,
            length => why.extend_from_slice(&part[..length]),
        }
    }
    match process.wait()? {
        ended if ended.success() => Ok(()),
        ended if why.is_empty() => Err(io::Error::other(format!("the process for it ended with {ended}"))),
        _ => Err(io::Error::other(String::from_utf8_lossy(&why).into_owned())),
    }
}
