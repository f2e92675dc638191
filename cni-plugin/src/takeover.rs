//! What an older release left below a `dataDir`: its records and `file` pools, which lie in the run directory now.
//!
//! The first run that finds such files moves what lives, and leaves the old place so that the older release gives no address
//! there any more. After a reboot nothing lives. A fresh node's old place is closed by the first claim, lest an older release that
//! comes later takes the range for free. From then on a run looks whether the old place says so, and whether an older release that came
//! back has made its other directories again: it still ends pods, and attaches those of networks without such pools.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use octavia_bridge_ipam::conf::places::run_dir;
use octavia_bridge_ipam::conf::same::is_in_memory;
use octavia_bridge_ipam::file::Former;
use octavia_bridge_ipam::flock::{self, Mode};
use octavia_bridge_ipam::state_file;

use crate::life;
use crate::patience;
use crate::protocol::{Code, Error};
use crate::record::{AddressingIntent, LOCK_WAIT, Netns, Record, Records, Slot};
use crate::store::Store;
use crate::writer;

/// Excludes other runs that find the same.
const LOCK: &str = "takeover.lock";
/// How long is waited for the disk, and for the older release's lock.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// Moves what an older release left below `data_dir`, if anything. `claims`: this run is about to claim addresses there.
///
/// # Errors
/// What could not be moved; addresses that an older release gave may be in use then.
pub(crate) fn take_over(data_dir: &Path, claims: bool) -> Result<(), Error> {
    let run_dir = run_dir(data_dir);
    let pools = Former::below(data_dir);
    // What is in a directory in memory is in use.
    if pools.is_moved() || is_in_memory(data_dir) {
        return Ok(());
    }
    let records = Records::former(data_dir);
    let found = !records.list()?.is_empty() || pools.has_any()?;
    if !found && (!claims || pools.is_finished()) {
        return Ok(());
    }
    if !found {
        // A disk that cannot be written keeps an older release out as well, as long as that lasts.
        if let Err(cause) = writer::close(data_dir, patience::within(CLOSE_WAIT)) {
            tracing::debug!("{} is not closed to older releases: {cause}", data_dir.display());
            return Ok(());
        }
        if pools.is_moved() {
            return Ok(());
        }
    }
    let deadline = patience::until(LOCK_WAIT);
    let _alone = lock(&run_dir, deadline)?;
    if pools.is_moved() {
        return Ok(());
    }
    if !pools.is_closed() {
        writer::close(data_dir, patience::within(CLOSE_WAIT)).map_err(|cause| unclosed(data_dir, &cause))?;
    }
    let present = Records::new(data_dir);
    move_records(&records, &present).map_err(|cause| failed(data_dir, cause))?;
    let alive = |container_id: &str, ifname: &str| present.is_alive_now(container_id, ifname);
    let moved = pools.move_to(&Store::pools(data_dir), deadline, &alive).and_then(|()| pools.finish());
    moved.map_err(|cause| failed(data_dir, cause.into()))?;
    if found {
        tracing::warn!(
            "moved what an older release kept in {} to {}: records and addresses of pods that live",
            data_dir.display(),
            run_dir.display()
        );
    }
    Ok(())
}

/// Keeps the older release out, and says at once that nothing is left to move if that is so. For a process that may wait for the
/// disk: all else that is done there comes after this.
///
/// # Errors
/// The disk cannot be written, the older release holds its lock, or another process is at it.
pub(crate) fn close(data_dir: &Path) -> Result<(), Error> {
    let deadline = Instant::now() + CLOSE_WAIT;
    let run_dir = run_dir(data_dir);
    let directory = make(&run_dir).and_then(|()| File::open(&run_dir));
    let directory = directory.map_err(|cause| Error::io(format!("open {}", run_dir.display()), &cause))?;
    if directory.try_lock().is_err() {
        return Err(Error::new(Code::TryAgainLater, "another process waits for the disk"));
    }
    let pools = Former::below(data_dir);
    pools.close(deadline)?;
    if Records::former(data_dir).list()?.is_empty() && !pools.has_any()? {
        pools.finish()?;
    }
    Ok(())
}

/// [`take_over`] for a verb that gives no address: it goes on with what is in the run directory.
pub(crate) fn try_to_take_over(data_dir: &Path) {
    if let Err(error) = take_over(data_dir, false) {
        tracing::warn!("{error}; the files in the run directory count, and the name of the link");
    }
}

/// Moves the records that are still needed, and removes the others. An ADD or DEL of the older release is waited for.
fn move_records(from: &Records, to: &Records) -> Result<(), Error> {
    for (container_id, ifname) in from.list()? {
        let Some(slot) = from.lock_existing(&container_id, &ifname)? else { continue };
        if is_needed(&slot) {
            slot.copy_to(to)?;
        }
        slot.remove()?;
    }
    Ok(())
}

/// Whether a DEL, or the liveness of an address, depends on it.
fn is_needed(slot: &Slot) -> bool {
    let Some(Record { intent, outcome }) = &slot.record else { return slot.is_strange };
    // What an unfinished ADD has done to the bridge, and what only the record tells another IPAM plugin.
    let told_nowhere_else =
        outcome.is_none() || matches!(intent.addressing, AddressingIntent::Delegated { .. });
    told_nowhere_else
        || match &intent.link {
            Some(_) => life::pair_is_here(intent, outcome.as_ref()),
            None => intent.netns.as_ref().is_none_or(Netns::may_exist_unseen),
        }
}

fn lock(run_dir: &Path, deadline: Instant) -> Result<File, Error> {
    let path = run_dir.join(LOCK);
    let taken = || {
        make(run_dir)?;
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        let file = state_file::open(&path, &options)?;
        Ok(flock::lock(&file, Mode::Exclusive, deadline)?.then_some(file))
    };
    let taken: Result<_, std::io::Error> = taken();
    let taken = taken.map_err(|cause| Error::io(format!("lock {}", path.display()), &cause))?;
    taken.ok_or_else(|| {
        let waited = LOCK_WAIT.as_secs();
        Error::new(Code::TryAgainLater, format!("lock {}: not acquired within {waited} s", path.display()))
            .with_details("another run moves what an older release left")
    })
}

fn make(run_dir: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(run_dir)
}

fn unclosed(data_dir: &Path, cause: &std::io::Error) -> Error {
    let error = Error::io("keep the older release out", cause);
    match cause.kind() {
        ErrorKind::TimedOut => failed(data_dir, Error { code: Code::TryAgainLater, ..error }),
        _ => failed(data_dir, error),
    }
}

fn failed(data_dir: &Path, cause: Error) -> Error {
    let text = format!(
        "dataDir: cannot take over what an older release left in {}: {}",
        data_dir.display(),
        cause.msg
    );
    Error { msg: text, ..cause }
}
