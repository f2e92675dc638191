//! A unit of systemd that brings the kept desired state about before kubelet starts: after a reboot pods
//! find their bridge with its uplink, whether or not an API server can be reached.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use crate::cli::{Cli, Unit};

const NAME: &str = "octavia-bridge-agent.service";
/// Whom it is started for. kubelet is named by `Before=` only, so that a host without it works too.
const TARGET: &str = "multi-user.target.wants";

/// Writes the unit and enables it for the next boot.
///
/// # Errors
/// Those of writing, and paths that systemd could misread.
pub(crate) fn install(cli: &Cli, unit: &Unit) -> anyhow::Result<ExitCode> {
    let program = std::env::current_exe().context("find this program's own path")?;
    let state = std::path::absolute(&cli.state_dir).context("make the state directory's path absolute")?;
    let text = text(word(&program)?, word(&state)?);
    let path = unit.unit_dir.join(NAME);
    let draft = unit.unit_dir.join(format!(".{NAME}.tmp"));
    let write = || {
        let mut file = File::create(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        fs::create_dir_all(unit.unit_dir.join(TARGET))?;
        remove(&wanted(unit))?;
        symlink(&path, wanted(unit))?;
        File::open(&unit.unit_dir)?.sync_all()
    };
    write().with_context(|| format!("write the unit {}", path.display()))?;
    tracing::info!("{} takes effect at the next boot, or after systemctl daemon-reload", path.display());
    Ok(ExitCode::SUCCESS)
}

/// Removes the unit; one that is not there is removed already.
///
/// # Errors
/// Those of removing.
pub(crate) fn uninstall(unit: &Unit) -> anyhow::Result<ExitCode> {
    for path in [wanted(unit), unit.unit_dir.join(NAME)] {
        remove(&path).with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn wanted(unit: &Unit) -> PathBuf {
    unit.unit_dir.join(TARGET).join(NAME)
}

fn remove(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => Err(cause),
        _ => Ok(()),
    }
}

/// A path as one word of a command line; systemd expands `%` and `$` and splits at blanks.
fn word(path: &Path) -> anyhow::Result<&str> {
    let plain = |text: &&str| !text.contains(|c: char| c.is_whitespace() || "%$\"'\\;".contains(c));
    path.to_str()
        .filter(plain)
        .with_context(|| format!("{} holds a character that systemd gives a meaning", path.display()))
}

fn text(program: &str, state: &str) -> String {
    // A NIC whose driver is late lets the program fail and be started again, without end. kubelet, ordered
    // after it, waits for the first attempt alone, TimeoutStartSec at most: a start that failed is over for
    // whoever waits, also while Restart= prepares the next one.
    format!(
        "[Unit]\n\
         Description=Octavia management network (VLAN interface and bridge)\n\
         After=network-pre.target\n\
         Before=kubelet.service\n\
         StartLimitIntervalSec=0\n\
         ConditionPathExists={state}/agent/desired.json\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         ExecStart={program} apply --state-dir {state}\n\
         Restart=on-failure\n\
         RestartSec=2\n\
         TimeoutStartSec=60\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    )
}
