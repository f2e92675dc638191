//! Files that make NetworkManager and systemd-networkd leave the agent's links alone.
//!
//! Starting, stopping and reloading NetworkManager changes nothing that matters on links that it did not create. But `nmcli
//! networking off` and on again, as around a suspend, makes it take the bridge for its own and release every port of it,
//! those of pods included; and it switches IPv6 on for the VLAN interface (seen with 1.42). systemd-networkd with a
//! configuration for all links (`Name=*`) releases all ports and removes addresses and routes when it starts. Neither
//! does if its configuration says that these links are unmanaged. NICs stay theirs: the node's own network comes from them.

mod keep;

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::node::desired::{Desired, Kind, State as Wanted};
use crate::node::source;
use crate::node::state::State;

pub(crate) use keep::{Places, start};

/// A program that configures links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Other {
    NetworkManager,
    Networkd,
}

/// The names of pods' ports: `veth` and eleven hexadecimal digits. NetworkManager's own udev rule excludes all veths.
const PODS_PORTS: &str =
    "veth[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]";

impl Other {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NetworkManager => "NetworkManager",
            Self::Networkd => "systemd-networkd",
        }
    }

    /// What makes the program read its file.
    pub(crate) fn when(self) -> &'static str {
        match self {
            Self::NetworkManager => "when NetworkManager is started again",
            Self::Networkd => "after networkctl reload",
        }
    }

    /// Where the file is, or would be. Of systemd-networkd's files for a link the first counts, in the order of names.
    pub(crate) fn path(self, directory: &Path) -> PathBuf {
        directory.join(match self {
            Self::NetworkManager => "90-octavia-bridge.conf",
            Self::Networkd => "00-octavia-bridge.network",
        })
    }

    /// The file for these links. For NetworkManager by `unmanaged-devices`, since `managed=0` in a section `device-` counts
    /// for less than what it noted in `/run/NetworkManager/devices` when it saw the link first.
    ///
    /// # Errors
    /// A name that would have a meaning of its own in the file.
    pub(crate) fn text(self, names: &[String]) -> anyhow::Result<String> {
        let mut links = Vec::new();
        for name in names {
            let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "._-:@+".contains(c));
            ensure!(
                plain,
                "{name} holds a character that may have a meaning in the list of links of {}",
                self.name()
            );
            links.push(match self {
                // Without `=` it would be a pattern.
                Self::NetworkManager => format!("interface-name:={name}"),
                Self::Networkd => name.clone(),
            });
        }
        let head = "# Written by octavia-bridge-agent, which keeps these links, pods' ports included.\n";
        Ok(match self {
            Self::NetworkManager => format!("{head}[keyfile]\nunmanaged-devices+={}\n", links.join(",")),
            Self::Networkd => {
                format!("{head}[Match]\nName={} {PODS_PORTS}\n\n[Link]\nUnmanaged=yes\n", links.join(" "))
            }
        })
    }
}

/// Names of the links that the agent creates.
pub(crate) fn made_here(desired: &Desired) -> Vec<String> {
    let mut names = Vec::new();
    for entry in &desired.interfaces {
        let is_made = entry.kind.as_ref().is_some_and(Kind::is_made);
        if is_made && matches!(entry.state, Wanted::Up | Wanted::Down) {
            names.push(entry.name.clone());
        }
    }
    names
}

/// The same of the state that was applied last. Takes no lock.
///
/// # Errors
/// Nothing is kept, or it holds no link that the agent creates.
pub(crate) fn made_last(state_dir: &Path) -> anyhow::Result<Vec<String>> {
    let kept = State::peek(state_dir)?;
    let kept = kept.context("no desired state is kept, so there are no links to exclude: apply one first")?;
    let names = made_here(&source::desired(&kept)?);
    ensure!(!names.is_empty(), "the kept state has no VLAN interface, bridge or VRF to exclude");
    Ok(names)
}

#[cfg(test)]
mod tests {
    use octavia_bridge_ipam::host_end;

    use super::*;

    #[test]
    fn a_name_that_would_be_two_or_a_pattern_is_refused() {
        for other in [Other::NetworkManager, Other::Networkd] {
            assert!(other.text(&["enp6s0.24".into()]).unwrap().contains("enp6s0.24"));
            for name in ["a,b", "a;b", "a\\", "a*", "!a", "a b", "a[0]"] {
                assert!(other.text(&[name.into()]).is_err(), "{name}");
            }
        }
    }

    #[test]
    fn the_pattern_has_as_many_digits_as_the_name_of_a_pods_port() {
        let name = host_end::name("cid1", "net1");
        let digits = name.strip_prefix("veth").unwrap();
        assert!(digits.chars().all(|c| c.is_ascii_hexdigit() && !c.is_ascii_uppercase()), "{name}");
        assert_eq!(PODS_PORTS.matches("[0-9a-f]").count(), digits.len());
    }
}
