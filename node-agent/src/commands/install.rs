//! What is put on the host for others: the plugin into the directory where the container runtime looks for it; for systemd a
//! unit that brings the kept desired state about before kubelet starts, so that after a reboot pods find their bridge with
//! its uplink, whether or not an API server can be reached; for NetworkManager and systemd-networkd which links are not theirs.

mod leftovers;

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use octavia_bridge_ipam::visible::lines;

use super::cli::{Cli, Places};
use super::output::{print, print_text, tell};
use crate::node::state::State;
use crate::others::{self, Other};
use crate::plugin::{self, Installation, Plugin};

const NAME: &str = "octavia-bridge-agent.service";
/// Whom it is started for. kubelet is named by `Before=` only, so that a host without it works too.
const TARGET: &str = "multi-user.target.wants";

/// Writes what was asked for: the plugin, the unit, enabled for the next boot, and the files for other programs. With
/// `only_print` it prints unit and files.
///
/// # Errors
/// Those of writing; a file of another program in the plugin's place; paths that systemd, and names that NetworkManager
/// could misread; nothing kept to tell NetworkManager.
pub(crate) fn install(
    cli: &Cli,
    places: &Places,
    plugin: &Plugin,
    only_print: bool,
) -> anyhow::Result<ExitCode> {
    if let Some(bin_dir) = &places.cni_bin_dir {
        let state = State::lock(&cli.state_dir)?;
        let look = Installation::new(bin_dir, plugin, state.directory())?.reconcile()?;
        for line in look.done() {
            tell(&line);
        }
        let complaints = look.complaints();
        anyhow::ensure!(complaints.is_empty(), "{}", lines(&complaints));
        if look.done().is_empty() {
            tell("nothing to do");
        }
    }
    if places.systemd {
        let program = std::env::current_exe().context("find this program's own path")?;
        let path = places.unit_dir.join(NAME);
        let unit = text(word(&program)?, word(&cli.state_dir)?);
        if only_print {
            show(&path, &unit)?;
        } else {
            put(&path, &unit)?;
            enable(places, &path).with_context(|| format!("enable the unit {}", path.display()))?;
            tracing::info!(
                "{} takes effect at the next boot, or after systemctl daemon-reload",
                path.display()
            );
        }
    }
    for (other, path) in asked_for(places) {
        let text = other.text(&others::made_last(&cli.state_dir)?)?;
        if only_print {
            show(&path, &text)?;
        } else {
            put(&path, &text)?;
            tracing::info!("{} takes effect {}", path.display(), other.when());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Removes what was asked for; what is not there is removed already.
///
/// # Errors
/// Those of removing; a state directory that is still needed.
pub(crate) fn uninstall(cli: &Cli, places: &Places, with_state: bool) -> anyhow::Result<ExitCode> {
    if with_state || places.cni_bin_dir.is_some() {
        let state = State::lock(&cli.state_dir)?;
        let shown = cli.state_dir.display();
        let needed = match leftovers::needed(&cli.state_dir) {
            Err(error) if with_state => return Err(error),
            needed => needed.unwrap_or_else(|error| vec![format!("{error:#}")]),
        };
        anyhow::ensure!(
            !with_state || needed.is_empty(),
            "the state in {shown} is still needed, and nothing was removed: {}",
            needed.join("; ")
        );
        if let Some(bin_dir) = &places.cni_bin_dir {
            for line in plugin::uninstall(bin_dir, &state)? {
                tell(&line);
            }
        }
        if with_state {
            tell(&leftovers::remove(&cli.state_dir)?);
        } else {
            tell(&format!("{shown}: kept; the plugin needs it to detach pods"));
            for what in needed {
                tracing::warn!("{what}");
            }
        }
    }
    let mut paths = Vec::new();
    if places.systemd {
        paths.extend([wanted(places), places.unit_dir.join(NAME)]);
    }
    paths.extend(asked_for(places).into_iter().map(|(_, path)| path));
    for path in paths {
        remove(&path).with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Other programs that are to be told, and where.
fn asked_for(places: &Places) -> Vec<(Other, PathBuf)> {
    let mut others = Vec::new();
    if places.network_manager {
        others.push((Other::NetworkManager, Other::NetworkManager.path(&places.network_manager_dir)));
    }
    if places.networkd {
        others.push((Other::Networkd, Other::Networkd.path(&places.networkd_dir)));
    }
    others
}

/// Prints a file, its name first.
fn show(path: &Path, text: &str) -> anyhow::Result<()> {
    print(&format!("# {}", path.display()))?;
    print_text(text.trim_end())
}

/// Has systemd start the unit at the next boot.
fn enable(places: &Places, unit: &Path) -> io::Result<()> {
    fs::create_dir_all(places.unit_dir.join(TARGET))?;
    remove(&wanted(places))?;
    symlink(unit, wanted(places))?;
    File::open(&places.unit_dir)?.sync_all()
}

fn wanted(places: &Places) -> PathBuf {
    places.unit_dir.join(TARGET).join(NAME)
}

/// Writes a file so that it is there whole or not at all, also after a power cut.
fn put(path: &Path, text: &str) -> anyhow::Result<()> {
    plugin::write_text(path, text).with_context(|| format!("write {}", path.display()))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => Err(cause),
        _ => Ok(()),
    }
}

/// A path as one word of a command line; systemd expands `%` and `$` and splits at blanks.
fn word(path: &Path) -> anyhow::Result<&str> {
    path.to_str()
        .filter(|text| !text.contains(|c: char| c.is_whitespace() || "%$\"'\\;".contains(c)))
        .with_context(|| format!("{} holds a character that systemd gives a meaning", path.display()))
}

fn text(program: &str, state: &str) -> String {
    // A NIC whose driver is late lets the program fail and be started again, without end. kubelet, ordered
    // after it, waits for the first attempt alone, TimeoutStartSec at most: a start that failed is over for
    // units that wait, also while Restart= prepares the next one.
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
