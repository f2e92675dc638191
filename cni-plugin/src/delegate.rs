//! Other IPAM plugins, executed as section 4 of the specification says: same environment, same stdin, found in
//! `CNI_PATH`.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;

use crate::config::IpamKind;
use crate::patience;
use crate::protocol::{CniResult, Code, Error, Verb, Version};

/// Longer than any address service should take, shorter than the four minutes after which kubelet gives up on a pod.
const DEADLINE: Duration = Duration::from_secs(60);
/// What a plugin that has ended left in its pipe is there at once; what a child of it still holds open is not waited for.
const REST_OF_OUTPUT: Duration = Duration::from_secs(1);
/// The longest answer that is read, in bytes. Results have a few hundred.
const LONGEST_OUTPUT: usize = 1 << 20;
/// Between two looks whether a plugin has ended whose output is still open, or is closed already.
const LOOK: Duration = Duration::from_millis(10);
const CLOSE_LOOK: Duration = Duration::from_micros(200);
/// Set for delegated plugins, so that this program notices when it is called as one by itself.
const MARK: &str = "OCTAVIA_BRIDGE_DELEGATES";

/// An IPAM plugin that was found.
#[derive(Debug)]
pub(crate) struct Delegate<'a> {
    program: PathBuf,
    config: &'a [u8],
}

/// Why a call came to nothing.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    /// The plugin was never started, so it has done nothing that would have to be undone.
    pub(crate) never_started: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, never_started: false }
    }
}

/// Whether this process was started as a delegated plugin by another one of this program. An interface plugin in the
/// place of an IPAM plugin would delegate to itself again, and so on for ever.
pub(crate) fn called_by_itself() -> bool {
    std::env::var_os(MARK).is_some()
}

impl<'a> Delegate<'a> {
    /// Looks `name` up in `path`, first match first. As in the reference library only regular files count; relative
    /// directories do not, since a runtime's working directory is nobody's promise.
    ///
    /// The name is checked here, at the one place where a program is chosen, whether it came from a configuration or from a record.
    pub(crate) fn find(name: &str, path: &[PathBuf], config: &'a [u8]) -> Result<Self, Error> {
        if !matches!(IpamKind::of(name)?, IpamKind::Delegated(_)) {
            let why = format!("ipam.type: {name:?} is not the name of an IPAM plugin in CNI_PATH");
            return Err(Error::new(Code::InvalidConfig, why));
        }
        let absolute = path.iter().filter(|directory| directory.is_absolute());
        let program = absolute.map(|directory| directory.join(name)).find(|file| file.is_file());
        let program = program.ok_or_else(|| {
            let looked: Vec<_> = path.iter().map(|directory| directory.display().to_string()).collect();
            Error::new(
                Code::InvalidConfig,
                format!("ipam.type: no IPAM plugin {name:?} in CNI_PATH [{}]", looked.join(" ")),
            )
            .with_details("\"whereabouts\" and \"octavia-ipam\" are built in and need no program")
        })?;
        if is_this_program(&program) {
            return Err(Error::new(
                Code::InvalidConfig,
                format!(
                    "ipam.type: {name:?} is this plugin itself; write \"whereabouts\" or \"octavia-ipam\""
                ),
            ));
        }
        Ok(Self { program, config })
    }

    pub(crate) fn add(&self, version: Version) -> Result<CniResult, Failure> {
        let stdout = self.run(Verb::Add)?;
        let broken = |why: String| {
            Error::new(Code::Delegate, format!("IPAM plugin {}: result is {why}", self.program.display()))
        };
        let value: Value = serde_json::from_slice(&stdout)
            .map_err(|cause| broken(format!("no JSON ({cause}): {}", excerpt(&stdout))))?;
        let has_addresses = ["ips", "ip4", "ip6"].iter().any(|key| value.get(key).is_some());
        if !has_addresses && let Some(error) = own_error(&stdout) {
            return Err(error.into());
        }
        // A result without a version has the configuration's.
        let version = match value.get("cniVersion").and_then(Value::as_str) {
            None | Some("") => version,
            named => Version::of_config(named).map_err(|_| {
                broken(format!(
                    "of CNI {:?}, the configuration is of {:?}",
                    named.unwrap_or_default(),
                    version.as_str()
                ))
            })?,
        };
        let result = CniResult::parse(&value, version)
            .map_err(|cause| broken(format!("not of CNI {}: {cause}", version.as_str())))?;
        Ok(result)
    }

    /// DEL, CHECK, STATUS and GC: the exit code is the answer.
    pub(crate) fn call(&self, verb: Verb) -> Result<(), Error> {
        self.run(verb).map(|_| ()).map_err(|failure| failure.error)
    }

    fn run(&self, verb: Verb) -> Result<Vec<u8>, Failure> {
        let attempt = format!("IPAM plugin {} {}", self.program.display(), verb.as_str());
        let mut child = self.spawn(verb).map_err(|cause| Failure {
            error: Error::io(format!("start {attempt}"), &cause),
            never_started: true,
        })?;
        let answered = exchange(&mut child, self.config, patience::until(DEADLINE));
        if !matches!(answered, Ok(Some(_))) {
            end(&child);
        }
        let (status, stdout) = answered
            .map_err(|cause| Error::new(Code::Delegate, format!("{attempt}: {cause}")))?
            .ok_or_else(|| {
                Error::new(
                    Code::TryAgainLater,
                    format!("{attempt}: no answer in time ({} s at most), ended it", DEADLINE.as_secs()),
                )
            })?;
        if status.success() {
            return Ok(stdout);
        }
        let error = own_error(&stdout).unwrap_or_else(|| {
            Error::new(Code::Delegate, format!("{attempt} failed ({status}) without an error object"))
                .with_details(format!("it wrote: {}", excerpt(&stdout)))
        });
        Err(error.into())
    }

    /// The plugin may be in the middle of being replaced: "text file busy" is tried again, as the reference
    /// library does.
    fn spawn(&self, verb: Verb) -> io::Result<Child> {
        let mut tries = 0;
        loop {
            let spawned = Command::new(&self.program)
                .env("CNI_COMMAND", verb.as_str())
                .env(MARK, "1")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                // A group of its own, so that it can be ended with whatever it has started.
                .process_group(0)
                .spawn();
            match spawned {
                Err(cause) if cause.kind() == io::ErrorKind::ExecutableFileBusy && tries < 5 => {
                    tries += 1;
                    thread::sleep(Duration::from_secs(1));
                }
                other => return other,
            }
        }
    }
}

/// Gives the plugin its configuration and takes its answer; `None` if there is none by the deadline.
fn exchange(
    child: &mut Child,
    config: &[u8],
    deadline: Instant,
) -> io::Result<Option<(ExitStatus, Vec<u8>)>> {
    let (stdin, mut stdout) = (child.stdin.take(), child.stdout.take());
    if let Some(mut stdin) = stdin {
        let config = config.to_vec();
        // Beside: a plugin may answer before it has read everything. One that exits without reading is judged by its answer.
        thread::Builder::new().name("stdin".into()).spawn(move || drop(stdin.write_all(&config)))?;
    }
    let (mut text, mut rest) = (Vec::new(), None);
    loop {
        let (now, ended) = (Instant::now(), child.try_wait()?);
        match (ended, &mut stdout) {
            (Some(status), None) => return Ok(Some((status, text))),
            (Some(_), Some(_)) if now >= *rest.get_or_insert(now + REST_OF_OUTPUT) => {
                return Err(io::Error::other(
                    "it ended, but left a process behind that holds its output open",
                ));
            }
            _ if now >= deadline => return Ok(None),
            (_, Some(open)) => {
                if !read_some(open, &mut text)? {
                    stdout = None;
                }
            }
            (None, None) => thread::sleep(CLOSE_LOOK),
        }
        if text.len() > LONGEST_OUTPUT {
            return Err(io::Error::other(format!("it wrote more than {LONGEST_OUTPUT} bytes")));
        }
    }
}

/// Reads what is there, or comes soon. `false` at the end.
fn read_some(stdout: &mut (impl Read + AsFd), text: &mut Vec<u8>) -> io::Result<bool> {
    let mut waiting = [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)];
    match poll(&mut waiting, PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::ZERO)) {
        Ok(0) | Err(Errno::EINTR) => return Ok(true),
        Err(errno) => return Err(errno.into()),
        Ok(_) => {}
    }
    let mut part = [0; 4096];
    let length = stdout.read(&mut part)?;
    text.extend_from_slice(&part[..length]);
    Ok(length > 0)
}

/// Ends what is left of the plugin's process group.
fn end(child: &Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        // It may be gone already.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
}

fn is_this_program(program: &Path) -> bool {
    let same = |one: &Path, other: &Path| -> io::Result<bool> {
        let (one, other) = (one.metadata()?, other.metadata()?);
        Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
    };
    same(program, Path::new("/proc/self/exe")).unwrap_or(false)
}

/// The plugin's own error object, passed through with its code: it knows best what went wrong.
fn own_error(stdout: &[u8]) -> Option<Error> {
    let value: Value = serde_json::from_slice(stdout).ok()?;
    let code = u32::try_from(value.get("code")?.as_u64()?).ok()?;
    let error = Error::new(Code::Foreign(code), value.get("msg")?.as_str()?);
    Some(match value.get("details").and_then(Value::as_str) {
        None | Some("") => error,
        Some(details) => error.with_details(details),
    })
}

/// The beginning of what a plugin wrote, fit for one line.
fn excerpt(text: &[u8]) -> String {
    let shown: String = String::from_utf8_lossy(&text[..text.len().min(200)])
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if shown.trim().is_empty() { "nothing".into() } else { format!("{:?}", shown.trim()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_object_passes_through_and_anything_else_does_not() {
        let error = own_error(br#"{"code":7,"msg":"no ranges","details":"x"}"#).unwrap();
        assert_eq!(
            (error.code.number(), error.msg.as_str(), error.details.as_deref()),
            (7, "no ranges", Some("x"))
        );
        assert!(own_error(b"panic: runtime error").is_none());
        assert!(own_error(br#"{"msg":"no code"}"#).is_none());
    }

    #[test]
    fn a_missing_program_is_named_with_the_places_looked_at() {
        let error = Delegate::find("dhcp", &["/nonexistent".into()], b"").unwrap_err();
        assert!(error.msg.contains("\"dhcp\"") && error.msg.contains("/nonexistent"), "{}", error.msg);
    }

    #[test]
    fn a_name_is_one_component_of_a_path() {
        let folder = tempfile::tempdir().unwrap();
        let evil = folder.path().join("evil");
        std::fs::write(&evil, "").unwrap();
        let search = [PathBuf::from("/usr/lib/cni"), folder.path().to_owned()];
        for name in [evil.to_str().unwrap(), "../evil", "./evil", "x/../evil", "..", ".", "", "whereabouts"] {
            let error = Delegate::find(name, &search, b"").unwrap_err();
            assert_eq!(error.code, Code::InvalidConfig, "{name:?}: {error}");
        }
        assert!(Delegate::find("evil", &search, b"").is_ok());
    }

    #[test]
    fn a_relative_folder_is_not_looked_into() {
        let here = std::env::current_dir().unwrap();
        let file = tempfile::Builder::new().prefix("ipam").tempfile_in(&here).unwrap();
        let name = file.path().file_name().unwrap().to_str().unwrap();
        assert!(Delegate::find(name, &["".into(), ".".into()], b"").is_err());
        assert!(Delegate::find(name, &[here], b"").is_ok());
    }

    #[test]
    fn this_program_is_no_ipam_plugin_of_its_own() {
        let own = std::env::current_exe().unwrap();
        let (folder, name) = (own.parent().unwrap(), own.file_name().unwrap().to_str().unwrap());
        let error = Delegate::find(name, &[folder.into()], b"").unwrap_err();
        assert!(error.msg.contains("this plugin itself"), "{}", error.msg);
    }
}
