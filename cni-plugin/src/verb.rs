//! From a checked environment to a verb, and from its outcome to the reply.

use std::ffi::OsStr;
use std::io::BufRead;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use octavia_bridge_ipam::conf::SERVED_TYPES;

use crate::config::Document;
use crate::protocol::reply::{self, Reply};
use crate::protocol::{Code, Environment, Error, Verb, Version};
use crate::{add, check, del, delegate, gc, ipam_face, log, status};

/// Which of its two plugins this program was started as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Face {
    /// Attaches interfaces to a bridge.
    Bridge,
    /// Hands out addresses only, to whichever interface plugin calls.
    Ipam,
}

impl Face {
    /// Runtimes start plugins by the file name they know, so that name, `argv[0]`, decides.
    pub(crate) fn of_program() -> Self {
        Self::of_name(std::env::args_os().next().as_deref())
    }

    fn of_name(name: Option<&OsStr>) -> Self {
        match name.map(Path::new).and_then(Path::file_name).and_then(OsStr::to_str) {
            Some(name) if SERVED_TYPES.contains(&name) => Self::Ipam,
            _ => Self::Bridge,
        }
    }
}

/// Runs the verb and prints what comes of it.
pub(crate) fn answer(face: Face, environment: &Environment) -> ExitCode {
    if environment.verb == Verb::Version {
        // Answered without stdin: the configuration's version is what the runtime is about to find out.
        return reply::write(Ok(Reply::Versions), Version::NEWEST);
    }
    log::start();
    let started = Instant::now();
    let mut version = Version::NEWEST;
    let outcome = read_stdin().and_then(|document| {
        log::also_to_file_of(&document);
        version = match document.version() {
            // A pod must end whatever is wrong with its network's version.
            Err(_) if environment.verb == Verb::Del => Version::NEWEST,
            version => version?,
        };
        require_version(environment.verb, version)?;
        if let Some(why) = &environment.impossible {
            tracing::warn!("nothing to remove: {why}");
            return Ok(Reply::Nothing);
        }
        if face == Face::Bridge && delegate::called_by_itself() {
            if environment.verb == Verb::Del {
                tracing::warn!(
                    "nothing to release: an interface plugin assigns no addresses for another one"
                );
                return Ok(Reply::Nothing);
            }
            return Err(Error::new(
                Code::InvalidConfig,
                "ipam.type names an interface plugin, this one; write \"whereabouts\" or \"octavia-ipam\"",
            ));
        }
        run(face, environment, &document)
    });
    let Environment { verb, container_id, ifname, .. } = environment;
    match &outcome {
        Ok(_) => tracing::info!("{} {container_id} {ifname}: done in {:?}", verb.as_str(), started.elapsed()),
        Err(error) => tracing::error!("{} {container_id} {ifname}: {error}", verb.as_str()),
    }
    let status = reply::write(outcome, version);
    log::finish();
    status
}

/// A runtime writes the configuration and closes; one that forgets to must not leave a process behind for ever.
const STDIN_DEADLINE: Duration = Duration::from_secs(10);
/// In bytes. A real configuration with its `prevResult` has a few thousand.
const LONGEST_CONFIG: usize = 1 << 20;

fn read_stdin() -> Result<Document, Error> {
    let undecodable =
        |why: String| Error::new(Code::Decode, format!("network configuration on stdin: {why}"));
    let failed = |cause: &std::io::Error| Error::io("read the network configuration from stdin", cause);
    let deadline = Instant::now() + STDIN_DEADLINE;
    let mut stdin = std::io::stdin().lock();
    let mut raw = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut waiting = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO)) {
            Ok(0) => return Err(undecodable(format!("not closed within {} s", STDIN_DEADLINE.as_secs()))),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(failed(&errno.into())),
        }
        let part = stdin.fill_buf().map_err(|cause| failed(&cause))?;
        if part.is_empty() {
            return Document::decode(raw);
        }
        let length = part.len();
        raw.extend_from_slice(part);
        stdin.consume(length);
        if raw.len() > LONGEST_CONFIG {
            let seen = raw.len();
            return Err(undecodable(format!("has {seen} bytes or more; {LONGEST_CONFIG} are the most")));
        }
    }
}

/// Verbs came with versions; a runtime that uses one too early gets the reference library's words.
fn require_version(verb: Verb, version: Version) -> Result<(), Error> {
    let since = match verb {
        Verb::Check => Version::V0_4_0,
        Verb::Gc | Verb::Status => Version::V1_1_0,
        Verb::Add | Verb::Del | Verb::Version => return Ok(()),
    };
    if version >= since {
        return Ok(());
    }
    Err(Error::new(Code::IncompatibleVersion, format!("config version does not allow {}", verb.as_str()))
        .with_details(format!(
            "cniVersion {:?}; {} exists since {:?}",
            version.as_str(),
            verb.as_str(),
            since.as_str()
        )))
}

fn run(face: Face, environment: &Environment, document: &Document) -> Result<Reply, Error> {
    // One thread: an attachment is a sequence, and a process per pod should stay small.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|cause| Error::io("start the event loop", &cause))?;
    let outcome = runtime.block_on(async {
        match (face, environment.verb) {
            (_, Verb::Version) => Ok(Reply::Versions),
            (Face::Bridge, Verb::Add) => add::add(environment, document).await,
            (Face::Bridge, Verb::Del) => del::del(environment, document).await,
            (Face::Bridge, Verb::Check) => check::check(environment, document).await,
            (Face::Bridge, Verb::Status) => status::status(environment, document).await,
            (_, Verb::Gc) => gc::gc(environment, document).await,
            (Face::Ipam, Verb::Add) => ipam_face::add(environment, document),
            (Face::Ipam, Verb::Del) => ipam_face::del(environment, document),
            (Face::Ipam, Verb::Check) => ipam_face::check(environment, document),
            (Face::Ipam, Verb::Status) => ipam_face::status(environment, document),
        }
    });
    // The process is about to end and takes everything along; taking the event loop apart first is wasted time.
    std::mem::forget(runtime);
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_name_chooses_the_face() {
        for (name, face) in [
            ("/opt/cni/bin/octavia-bridge", Face::Bridge),
            ("/opt/cni/bin/octavia-ipam", Face::Ipam),
            ("whereabouts", Face::Ipam),
            ("bridge", Face::Bridge),
        ] {
            assert_eq!(Face::of_name(Some(OsStr::new(name))), face, "{name}");
        }
        assert_eq!(Face::of_name(None), Face::Bridge);
    }

    #[test]
    fn verbs_have_their_first_version() {
        assert!(require_version(Verb::Check, Version::V0_3_1).is_err());
        assert!(require_version(Verb::Check, Version::V0_4_0).is_ok());
        let error = require_version(Verb::Gc, Version::V1_0_0).unwrap_err();
        assert_eq!(error.msg, "config version does not allow GC");
    }
}
