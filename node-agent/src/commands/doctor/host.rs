//! What the host brings along: the kernel's modules, its filter for addresses, and others that keep links.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use octavia_bridge_netlink::{Link, LinkKind};

use super::Finding;
use crate::commands::cli::{Cli, Doctor};
use crate::node::desired::{Desired, Interface, Kind, State};
use crate::node::nmstate_lock;

const KERNEL: &str = "kernel";
pub(super) const FILTERS: &str = "filters";
const RIVALS: &str = "rivals";

/// Whether the kernel can make what the policy wants.
pub(super) fn kernel(desired: &Desired, links: &[Link]) -> Vec<Finding> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let tree = Path::new("/lib/modules").join(release.trim());
    let mut findings = Vec::new();
    if up(desired).any(|entry| matches!(entry.kind, Some(Kind::Vlan { .. }))) {
        // 8021q makes this directory in every namespace when it is loaded.
        findings.push(module("8021q", Path::new("/proc/thread-self/net/vlan").exists(), &tree));
    }
    if up(desired).any(|entry| matches!(entry.kind, Some(Kind::Bridge { .. }))) {
        let has_one = links.iter().any(|link| matches!(link.kind, LinkKind::Bridge(_)));
        findings.push(module("bridge", has_one || Path::new("/sys/module/bridge").exists(), &tree));
    }
    findings
}

/// The kernel loads a module by itself when the first link of its sort is made, if it has it.
fn module(name: &str, loaded: bool, tree: &Path) -> Finding {
    if loaded {
        return Finding::ok(KERNEL, format!("{name} is loaded"));
    }
    let lists: Vec<String> = ["modules.dep", "modules.builtin"]
        .iter()
        .filter_map(|list| fs::read_to_string(tree.join(list)).ok())
        .collect();
    if lists.is_empty() {
        let text = format!(
            "{name} is not loaded, and {} cannot be read to find out whether it is available",
            tree.display()
        );
        return Finding::warn(KERNEL, text, format!("modprobe {name} on the host"));
    }
    let file = format!("/{name}.ko");
    if lists.iter().any(|list| list.contains(&file)) {
        return Finding::ok(KERNEL, format!("{name} is available and loads on demand"));
    }
    let text = format!("{name} is neither loaded nor in {}", tree.display());
    Finding::fail(
        KERNEL,
        text,
        "install all modules of this kernel (kernel-modules-core, linux-modules-extra), or another kernel",
    )
}

/// A strict filter on links with the node's addresses.
pub(super) fn reverse_paths(desired: &Desired, links: &[Link]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for entry in up(desired) {
        if !links.iter().any(|link| link.name == entry.name) {
            continue;
        }
        let addressed =
            entry.ipv4.as_ref().is_some_and(|ip| ip.addresses.as_ref().is_some_and(|list| !list.is_empty()));
        // The kernel takes the stricter of the two (Documentation/networking/ip-sysctl.rst).
        if addressed && ["all", &entry.name].iter().any(|of| is_on(&format!("ipv4/conf/{of}/rp_filter"))) {
            let text = format!(
                "rp_filter is strict on {0}: the kernel drops packets on {0} from senders to which the node would answer through another link",
                entry.name
            );
            let remedy =
                format!("sysctl -w net.ipv4.conf.{}.rp_filter=2, also of `all` if that is 1", entry.name);
            findings.push(Finding::warn(FILTERS, text, remedy));
        }
    }
    findings
}

/// Whether a setting below `net` is 1.
pub(super) fn is_on(key: &str) -> bool {
    let value = fs::read_to_string(Path::new("/proc/sys/net").join(key));
    value.is_ok_and(|value| value.trim() == "1")
}

/// Who else keeps the links of the policy.
pub(super) fn rivals(cli: &Cli, options: &Doctor, desired: &Desired, links: &[Link]) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(running) = nmstate_lock::stand_down(&cli.nmstate_lock) {
        let remedy =
            "remove kubernetes-nmstate or this agent from this node; otherwise they undo each other's work";
        findings.push(Finding::fail(RIVALS, running.to_string(), remedy));
    }
    let devices = &options.network_manager_devices;
    let mut unseen = fs::read_dir(devices).err().map(|cause| (devices.clone(), cause));
    let virtual_ones = up(desired).filter(|entry| entry.kind.as_ref().is_some_and(Kind::is_made));
    for entry in virtual_ones {
        let Some(link) = links.iter().find(|link| link.name == entry.name) else { continue };
        let path = devices.join(link.index.to_string());
        let state = match fs::read_to_string(&path) {
            Ok(state) => state,
            // It writes none for a link that it leaves alone.
            Err(cause) if cause.kind() == ErrorKind::NotFound => continue,
            Err(cause) => {
                unseen.get_or_insert((path, cause));
                continue;
            }
        };
        if state.lines().any(|line| line.trim() == "managed=true") {
            let text = format!("NetworkManager manages {}, and may change it", entry.name);
            let remedy = "`octavia-bridge-agent install --network-manager`, then restart NetworkManager";
            findings.push(Finding::warn(RIVALS, text, remedy));
        }
    }
    match unseen {
        // As on a host without it.
        Some((path, cause)) if cause.kind() == ErrorKind::NotFound && findings.is_empty() => {
            let text = format!(
                "kubernetes-nmstate does not manage these links; whether NetworkManager does cannot be seen without {}",
                path.display()
            );
            findings.push(Finding::ok(RIVALS, text));
        }
        Some((path, cause)) if cause.kind() != ErrorKind::NotFound => {
            let text = format!(
                "whether NetworkManager manages these links cannot be seen: read {}: {cause}",
                path.display()
            );
            findings.push(Finding::warn(RIVALS, text, "run doctor on the host"));
        }
        None if findings.is_empty() => {
            findings.push(Finding::ok(
                RIVALS,
                "neither kubernetes-nmstate nor NetworkManager manages these links",
            ));
        }
        _ => {}
    }
    findings
}

fn up(desired: &Desired) -> impl Iterator<Item = &Interface> {
    desired.interfaces.iter().filter(|entry| entry.state == State::Up)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::Level;

    #[test]
    fn a_module_is_there_or_can_be_loaded_or_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path();
        let level = |loaded| module("8021q", loaded, tree).level;
        assert_eq!((level(true), level(false)), (Level::Ok, Level::Warn));
        fs::write(tree.join("modules.dep"), "kernel/net/bridge/bridge.ko.xz: kernel/net/llc/llc.ko.xz\n")
            .unwrap();
        assert_eq!(level(false), Level::Fail);
        fs::write(tree.join("modules.builtin"), "kernel/net/8021q/8021q.ko\n").unwrap();
        assert_eq!(level(false), Level::Ok);
    }
}
