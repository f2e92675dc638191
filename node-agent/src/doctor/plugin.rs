//! Whether the plugin is where the runtime looks for it, and runs there; and whether what was installed is still there.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::Finding;
use crate::apply::chain;
use crate::install::{self, Standing};

const CHECK: &str = "plugin";
/// It answers within milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// What this program has installed, if anything.
pub(super) fn installed(state_dir: &Path) -> Vec<Finding> {
    let files = match install::installed(state_dir) {
        Ok(files) => files,
        Err(error) => return vec![Finding::fail(CHECK, chain(&error), "repair the file, or remove it")],
    };
    let remedy =
        "`run --cni-bin-dir` restores its files and reports what is in their way; `install` does so once";
    let finding = |(path, standing): (PathBuf, Standing)| {
        let shown = path.display();
        match standing {
            Standing::Right => Finding::ok(CHECK, format!("{shown} is as it was installed")),
            Standing::Changed => Finding::warn(CHECK, format!("{shown} is not what was installed"), remedy),
            Standing::Unseen(cause) => {
                Finding::warn(CHECK, format!("{shown}, which was installed, is not seen: {cause}"), remedy)
            }
        }
    };
    files.into_iter().map(finding).collect()
}

pub(super) fn look(program: &Path) -> Finding {
    match versions(program) {
        Ok(versions) => Finding::ok(CHECK, format!("{} speaks CNI {versions}", program.display())),
        Err(why) => {
            let remedy = "install the plugin there: it is one static file, of mode 0755";
            Finding::fail(CHECK, format!("{}: {why}", program.display()), remedy)
        }
    }
}

/// Asks a plugin as a runtime does for the versions of CNI that it speaks; or says why it is none, or none for this machine.
pub(crate) fn versions(program: &Path) -> Result<String, String> {
    let mut command = Command::new(program);
    command.env_clear().env("CNI_COMMAND", "VERSION");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|cause| cause.to_string())?;
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().map_err(|cause| cause.to_string())? {
            Some(status) => break status,
            None if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
            None => {
                let ended = child.kill().and_then(|()| child.wait());
                let ended = ended.map_or_else(|cause| format!(", nor ended: {cause}"), |_| String::new());
                return Err(format!("VERSION was not answered within {} s{ended}", PATIENCE.as_secs()));
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
