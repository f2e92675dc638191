//! A file that makes NetworkManager leave the kept links alone.
//!
//! Starting, stopping and reloading it changes nothing that matters on links it did not make. But `nmcli networking off`
//! and on again, as around a suspend, makes it take the bridge for its own and release every port of it, those of pods
//! included; and it switches IPv6 on for the VLAN interface (seen with 1.42). Unless its configuration says that they are unmanaged.
//! After a reload with that file, it lets go of the VLAN interface by setting it down; after a start, it touches nothing.

use std::path::PathBuf;

use anyhow::{Context, ensure};

use crate::commands::cli::{Cli, Places};
use crate::node::desired::{Desired, Kind, State as Wanted};
use crate::node::source;
use crate::node::state::State;

const NAME: &str = "90-octavia-bridge.conf";

/// Where the file is, or would be.
pub(super) fn path(places: &Places) -> PathBuf {
    places.network_manager_dir.join(NAME)
}

/// The file for the state that was applied last. By `unmanaged-devices`, since `managed=0` in a section `device-` counts
/// for less than what NetworkManager noted in `/run/NetworkManager/devices` when it saw the link first.
///
/// # Errors
/// Nothing is kept, or it holds no link that this program makes; a name that cannot stand in the file.
pub(super) fn text(cli: &Cli) -> anyhow::Result<String> {
    let kept = State::lock(&cli.state_dir)?.kept();
    let kept = kept.context(
        "no desired state is kept, so there are no links to exclude from NetworkManager: apply one first",
    )?;
    let names = made_here(&source::desired(&kept)?);
    ensure!(
        !names.is_empty(),
        "the kept state has no VLAN interface, bridge or VRF to exclude from NetworkManager"
    );
    let links = names.iter().map(|name| entry(name)).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(format!(
        "# Written by octavia-bridge-agent install: it keeps these links, pods' ports included.\n\
         [keyfile]\n\
         unmanaged-devices+={}\n",
        links.join(",")
    ))
}

/// NICs stay NetworkManager's: their profiles are what the node's own network comes from.
fn made_here(desired: &Desired) -> Vec<String> {
    let made = desired.interfaces.iter().filter(|interface| {
        let kind = matches!(interface.kind, Some(Kind::Vlan { .. } | Kind::Bridge { .. } | Kind::Vrf { .. }));
        kind && matches!(interface.state, Wanted::Up | Wanted::Down)
    });
    made.map(|interface| interface.name.clone()).collect()
}

/// A link in NetworkManager's device list, taken literally: without `=` it would be a pattern.
fn entry(name: &str) -> anyhow::Result<String> {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-:@+".contains(c));
    plain.then(|| format!("interface-name:={name}")).with_context(|| {
        format!("{name} holds a character that may have a meaning in NetworkManager's list of devices")
    })
}

#[cfg(test)]
mod tests {
    use super::entry;

    #[test]
    fn a_name_that_would_be_two_is_refused() {
        assert_eq!(entry("enp6s0.24").ok().as_deref(), Some("interface-name:=enp6s0.24"));
        for name in ["a,b", "a;b", "a\\", "a*"] {
            assert!(entry(name).is_err(), "{name}");
        }
    }
}
