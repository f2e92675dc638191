//! The record of an attachment: what DEL needs to know when nobody tells it.
//!
//! For the configurations in the field (`cniVersion` 0.3.1) DEL gets no `prevResult`, its configuration may be
//! stripped, and the namespace may be gone; so ADD writes down what it is about to do before it does it.
//!
//! A record is a file `<container id>@<interface>.jsonl` of at most two lines: the intent, written before the
//! first side effect, and the outcome, written after the last. It is only ever appended to, so a process killed
//! while writing leaves either a torn first line, and then nothing was done yet, or a torn second one, and then
//! the attachment counts as unfinished. The same file carries the lock that keeps ADD and DEL of one attachment
//! apart. It is not synced to disk: the links it speaks of die with the power as well.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use octavia_bridge_ipam::flock::{self, Mode};
use octavia_bridge_netlink::Namespace;
use serde::{Deserialize, Serialize};

use crate::protocol::result::Route;
use crate::protocol::{Code, Error};

/// First line: everything that may exist from now on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Intent {
    /// Format of the record.
    pub(crate) version: u32,
    pub(crate) network: String,
    pub(crate) container_id: String,
    pub(crate) ifname: String,
    /// Namespace, for the attachments of the bridge plugin; the IPAM-only face makes no links.
    pub(crate) link: Option<LinkIntent>,
    pub(crate) addressing: AddressingIntent,
}

/// The links about to be made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LinkIntent {
    /// Path as the runtime gave it, device and inode of the namespace behind it: paths are used again.
    pub(crate) netns: String,
    pub(crate) netns_device: u64,
    pub(crate) netns_inode: u64,
    pub(crate) bridge: String,
    pub(crate) bridge_before: BridgeBefore,
    /// The MAC a bridge will have that this ADD makes, so that no other bridge is taken for it.
    pub(crate) bridge_mac: String,
    /// IPv6 was switched off on the pod's loopback, and this ADD switches it on.
    pub(crate) loopback_ipv6_off: bool,
}

impl LinkIntent {
    /// Whether `netns` is the namespace that was meant, not only one at the same path.
    pub(crate) fn is_in(&self, netns: &Namespace) -> bool {
        let identity = netns.identity();
        (self.netns_device, self.netns_inode) == (identity.device, identity.inode)
    }
}

/// The bridge as this ADD found it, so that a failed one can leave it so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum BridgeBefore {
    Absent,
    Down,
    Up,
}

/// Who gave the addresses, and so who takes them back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum AddressingIntent {
    None,
    /// The pools of the `file` store under the same data directory.
    Pool,
    /// A program in `CNI_PATH`; it gets its configuration again, since DEL's own may be stripped.
    Delegated {
        program: String,
        config: String,
    },
}

/// Second line: the attachment is complete.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Outcome {
    pub(crate) addresses: Vec<ipnet::IpNet>,
    /// The routes as installed, gateways filled in.
    pub(crate) routes: Vec<Route>,
    /// MTUs of the pod's and of the host's end, in bytes.
    pub(crate) mtu: u32,
    pub(crate) host_mtu: u32,
    /// `disableContainerInterface`: the pod's end was left down on purpose.
    pub(crate) left_down: bool,
}

/// What a record's file says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    pub(crate) intent: Intent,
    pub(crate) outcome: Option<Outcome>,
}

/// The directory of records.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    directory: PathBuf,
}

/// One attachment's record, locked against every other process until dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    path: PathBuf,
    file: File,
    pub(crate) record: Option<Record>,
}

/// How long ADD and DEL wait for each other.
pub(crate) const LOCK_WAIT: Duration = Duration::from_secs(30);

impl Records {
    pub(crate) fn new(data_dir: &Path) -> Self {
        Self { directory: data_dir.join("attachments") }
    }

    fn path(&self, container_id: &str, ifname: &str) -> PathBuf {
        self.directory.join(format!("{container_id}@{ifname}.jsonl"))
    }

    /// Locks the attachment's record, making the file if there is none.
    pub(crate) fn lock(&self, container_id: &str, ifname: &str) -> Result<Slot, Error> {
        make_directory(&self.directory)?;
        let path = self.path(container_id, ifname);
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600);
        loop {
            if let Some(slot) = Self::open(&path, &options)? {
                return Ok(slot);
            }
        }
    }

    /// Whether an ADD has ever worked here; where not, there is nothing to lock.
    pub(crate) fn exist(&self) -> bool {
        self.directory.is_dir()
    }

    /// Locks the attachment's record if there is one.
    pub(crate) fn lock_existing(&self, container_id: &str, ifname: &str) -> Result<Option<Slot>, Error> {
        let path = self.path(container_id, ifname);
        let mut options = OpenOptions::new();
        options.read(true).append(true);
        loop {
            if !path.try_exists().unwrap_or(true) {
                return Ok(None);
            }
            if let Some(slot) = Self::open(&path, &options)? {
                return Ok(Some(slot));
            }
        }
    }

    /// One try. `None` when the file vanished or was replaced between opening and locking it: its last holder
    /// removed it, so what we locked is nobody's record any more.
    fn open(path: &Path, options: &OpenOptions) -> Result<Option<Slot>, Error> {
        let file = match options.open(path) {
            Ok(file) => file,
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(Error::io(format!("open the record {}", path.display()), &cause)),
        };
        lock(&file, path, Mode::Exclusive)?;
        let held = file.metadata().map_err(|cause| Error::io(format!("read {}", path.display()), &cause))?;
        match std::fs::metadata(path) {
            Ok(named) if (named.dev(), named.ino()) == (held.dev(), held.ino()) => {}
            _ => return Ok(None),
        }
        let mut slot = Slot { path: path.to_owned(), file, record: None };
        slot.record = slot.read()?;
        Ok(Some(slot))
    }

    /// Container id and interface name of every record, in no order. A missing directory holds none.
    pub(crate) fn list(&self) -> Result<Vec<(String, String)>, Error> {
        let failed = |cause| Error::io(format!("list the records in {}", self.directory.display()), &cause);
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(cause) => return Err(failed(cause)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            // A container id has no '@', an interface name may.
            if let Some((id, ifname)) = name
                .to_str()
                .and_then(|name| name.strip_suffix(".jsonl"))
                .and_then(|name| name.split_once('@'))
            {
                found.push((id.to_owned(), ifname.to_owned()));
            }
        }
        Ok(found)
    }

    /// A lock on the bridges of this node, held as `Shared` while a port is added and as `Exclusive` while a
    /// bridge is made or removed: a bridge must not vanish between being seen and being given a port.
    ///
    /// The directory itself carries it; a directory can be locked, and is never replaced.
    pub(crate) fn lock_bridges(&self, mode: Mode) -> Result<File, Error> {
        make_directory(&self.directory)?;
        let directory = File::open(&self.directory)
            .map_err(|cause| Error::io(format!("open {}", self.directory.display()), &cause))?;
        lock(&directory, &self.directory, mode)?;
        Ok(directory)
    }
}

impl Slot {
    fn read(&mut self) -> Result<Option<Record>, Error> {
        let mut text = Vec::new();
        let failed = |cause| Error::io(format!("read the record {}", self.path.display()), &cause);
        self.file.seek(SeekFrom::Start(0)).map_err(failed)?;
        self.file.read_to_end(&mut text).map_err(failed)?;
        let mut lines = text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
        let intent = lines.next().and_then(|line| serde_json::from_slice::<Intent>(line).ok());
        let outcome = lines.next().and_then(|line| serde_json::from_slice(line).ok());
        // Torn or empty: the writer was killed before its first side effect.
        Ok(intent.map(|intent| Record { intent, outcome }))
    }

    /// Writes down what is about to be done, replacing what stood there.
    pub(crate) fn begin(&mut self, intent: Intent) -> Result<(), Error> {
        self.file
            .set_len(0)
            .and_then(|()| self.append(&intent))
            .map_err(|cause| Error::io(format!("write the record {}", self.path.display()), &cause))?;
        self.record = Some(Record { intent, outcome: None });
        Ok(())
    }

    /// Drops the addresses from what a teardown will do. Only in memory: the record is about to go.
    pub(crate) fn forget_addresses(&mut self) {
        if let Some(record) = &mut self.record {
            record.intent.addressing = AddressingIntent::None;
        }
    }

    /// Writes down that it was done.
    pub(crate) fn complete(&mut self, outcome: &Outcome) -> Result<(), Error> {
        self.append(outcome)
            .map_err(|cause| Error::io(format!("write the record {}", self.path.display()), &cause))
    }

    fn append(&self, line: &impl Serialize) -> std::io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        (&self.file).write_all(&text)
    }

    /// Removes the record, while holding its lock: whoever waited for it will find the name gone and start over.
    pub(crate) fn remove(self) -> Result<(), Error> {
        match std::fs::remove_file(&self.path) {
            Err(cause) if cause.kind() != ErrorKind::NotFound => {
                Err(Error::io(format!("remove the record {}", self.path.display()), &cause))
            }
            _ => Ok(()),
        }
    }
}

/// Takes a lock, waiting for at most [`LOCK_WAIT`].
fn lock(file: &File, path: &Path, mode: Mode) -> Result<(), Error> {
    let locked = flock::lock(file, mode, Instant::now() + LOCK_WAIT)
        .map_err(|cause| Error::io(format!("lock {}", path.display()), &cause))?;
    if locked {
        return Ok(());
    }
    Err(Error::new(
        Code::TryAgainLater,
        format!("lock {}: held by another process for {} s", path.display(), LOCK_WAIT.as_secs()),
    )
    .with_details("another ADD or DEL is still at work, or stuck"))
}

fn make_directory(path: &Path) -> Result<(), Error> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|cause| Error::io(format!("make the directory {}", path.display()), &cause))
}
