//! Other IPAM plugins, executed as section 4 of the specification says: same environment, same stdin, found in
//! `CNI_PATH`.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;

use crate::protocol::{CniResult, Code, Error, Verb, Version};

/// Longer than any address service should take, shorter than the four minutes after which kubelet gives up on a pod.
const DEADLINE: Duration = Duration::from_secs(60);

/// An IPAM plugin that was found.
#[derive(Debug)]
pub(crate) struct Delegate<'a> {
    program: PathBuf,
    config: &'a [u8],
}

impl<'a> Delegate<'a> {
    /// Looks `name` up in `path`, first match first; only regular files count, as in the reference library.
    pub(crate) fn find(name: &str, path: &[PathBuf], config: &'a [u8]) -> Result<Self, Error> {
        let program = path.iter().map(|directory| directory.join(name)).find(|file| file.is_file());
        let program = program.ok_or_else(|| {
            let looked: Vec<_> = path.iter().map(|directory| directory.display().to_string()).collect();
            Error::new(
                Code::InvalidConfig,
                format!("ipam.type: no IPAM plugin {name:?} in CNI_PATH [{}]", looked.join(" ")),
            )
            .with_details("\"whereabouts\" and \"octavia-ipam\" are built in and need no program")
        })?;
        Ok(Self { program, config })
    }

    pub(crate) async fn add(&self, version: Version) -> Result<CniResult, Error> {
        let stdout = self.run(Verb::Add).await?;
        let broken = |why: String| {
            Error::new(Code::Delegate, format!("IPAM plugin {}: result is {why}", self.program.display()))
        };
        let value: Value =
            serde_json::from_slice(&stdout).map_err(|cause| broken(format!("no JSON: {cause}")))?;
        // A result without a version has the configuration's.
        let version = match value.get("cniVersion").and_then(Value::as_str) {
            None | Some("") => version,
            named => Version::of_config(named)?,
        };
        CniResult::parse(&value, version)
            .map_err(|cause| broken(format!("not of CNI {}: {cause}", version.as_str())))
    }

    /// DEL, CHECK, STATUS and GC: the exit code is the answer.
    pub(crate) async fn call(&self, verb: Verb) -> Result<(), Error> {
        self.run(verb).await.map(|_| ())
    }

    async fn run(&self, verb: Verb) -> Result<Vec<u8>, Error> {
        let attempt = || format!("IPAM plugin {} {}", self.program.display(), verb.as_str());
        let mut child =
            self.spawn(verb).await.map_err(|cause| Error::io(format!("start {}", attempt()), &cause))?;
        let mut stdin = child.stdin.take();
        let exchange = async {
            if let Some(stdin) = &mut stdin {
                // A plugin that exits without reading is judged by its answer.
                let _ = stdin.write_all(self.config).await;
            }
            drop(stdin);
            child.wait_with_output().await
        };
        let output = tokio::time::timeout(DEADLINE, exchange)
            .await
            .map_err(|_| {
                Error::new(
                    Code::TryAgainLater,
                    format!("{}: no answer after {} s, ended it", attempt(), DEADLINE.as_secs()),
                )
            })?
            .map_err(|cause| Error::io(format!("wait for {}", attempt()), &cause))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(own_error(&output.stdout).unwrap_or_else(|| {
            Error::new(
                Code::Delegate,
                format!("{} failed ({}) without an error object", attempt(), output.status),
            )
        }))
    }

    /// The plugin may be in the middle of being replaced: "text file busy" is tried again, as the reference
    /// library does.
    async fn spawn(&self, verb: Verb) -> std::io::Result<tokio::process::Child> {
        let mut tries = 0;
        loop {
            let spawned = tokio::process::Command::new(&self.program)
                .env("CNI_COMMAND", verb.as_str())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn();
            match spawned {
                Err(cause) if cause.kind() == std::io::ErrorKind::ExecutableFileBusy && tries < 5 => {
                    tries += 1;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                other => return other,
            }
        }
    }
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
}
