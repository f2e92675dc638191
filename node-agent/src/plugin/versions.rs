//! Whether a program is a CNI plugin, and one for this machine.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// It answers within milliseconds.
const DEADLINE: Duration = Duration::from_secs(5);

/// Asks a plugin as a runtime does for the versions of CNI that it speaks; or says why it is none, or none for this machine.
pub(crate) fn versions(program: &Path) -> Result<String, String> {
    let mut command = Command::new(program);
    command.env_clear().env("CNI_COMMAND", "VERSION");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|cause| cause.to_string())?;
    let deadline = Instant::now() + DEADLINE;
    let status = loop {
        match child.try_wait().map_err(|cause| cause.to_string())? {
            Some(status) => break status,
            None if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
            None => {
                let ended = child.kill().and_then(|()| child.wait());
                let ended = ended.map_or_else(|cause| format!(", nor ended: {cause}"), |_| String::new());
                return Err(format!("VERSION was not answered within {} s{ended}", DEADLINE.as_secs()));
            }
        }
    };
    let mut text = String::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(1 << 16).read_to_string(&mut text).map_err(|cause| cause.to_string())?;
    }
    let answer: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let versions: Vec<&str> = answer["supportedVersions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|value| value.as_str())
        .collect();
    if !status.success() || versions.is_empty() {
        return Err(format!("is not a CNI plugin: VERSION ends with {status} and says {:?}", text.trim()));
    }
    Ok(versions.join(", "))
}
