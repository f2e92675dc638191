//! What the host brings along: the kernel's modules, filters on the way, and others that keep links.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use octavia_bridge_netlink::{Link, LinkKind};

use super::Finding;
use crate::commands::cli::{Cli, Doctor};
use crate::node::desired::{Desired, Interface, Kind, State};
use crate::node::nmstate_lock;

const KERNEL: &str = "kernel";
const FILTERS: &str = "filters";
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

/// What could drop frames between a pod and the uplink, or packets to the node's own addresses.
pub(super) fn filters(desired: &Desired, links: &[Link]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let everywhere = is_on("bridge/bridge-nf-call-iptables");
    for entry in up(desired) {
        let Some(link) = links.iter().find(|link| link.name == entry.name) else { continue };
        if let LinkKind::Bridge(options) = &link.kind {
            let called = everywhere || options.nf_call_iptables == Some(true);
            findings.push(bridged(&entry.name, called, forward_policy));
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
fn is_on(key: &str) -> bool {
    let value = fs::read_to_string(Path::new("/proc/sys/net").join(key));
    value.is_ok_and(|value| value.trim() == "1")
}

/// Frames between ports of a bridge are the bridge's own affair, unless `br_netfilter` passes them through iptables,
/// as kube-proxy wants it. Then a policy of DROP there, as Docker sets it, drops them all.
fn bridged(bridge: &str, called: bool, forward: impl FnOnce() -> Result<String, String>) -> Finding {
    if !called {
        return Finding::ok(FILTERS, format!("frames within {bridge} do not pass iptables"));
    }
    let remedy = format!("iptables -I FORWARD -i {bridge} -o {bridge} -j ACCEPT");
    match forward() {
        Ok(policy) if policy == "ACCEPT" => Finding::ok(
            FILTERS,
            format!("frames within {bridge} pass iptables, where FORWARD has the policy ACCEPT"),
        ),
        Ok(policy) => Finding::warn(
            FILTERS,
            format!(
                "frames within {bridge} pass iptables (bridge-nf-call-iptables), where FORWARD has the policy {policy}"
            ),
            remedy,
        ),
        Err(why) => Finding::warn(
            FILTERS,
            format!(
                "frames within {bridge} pass iptables (bridge-nf-call-iptables), whose FORWARD policy cannot be read: {why}"
            ),
            format!("see `iptables -S FORWARD` on the host; where that says DROP: {remedy}"),
        ),
    }
}

/// The policy of the chain FORWARD, as the host's own program reports it.
fn forward_policy() -> Result<String, String> {
    // It waits at most two seconds for its lock.
    let output = Command::new("iptables").args(["-w", "2", "-S", "FORWARD"]).stdin(Stdio::null()).output();
    let output = output.map_err(|cause| format!("iptables: {cause}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let policy = text.lines().find_map(|line| line.strip_prefix("-P FORWARD "));
    policy.map(|policy| policy.trim().to_owned()).ok_or_else(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!("iptables ends with {}: {}", output.status, said.lines().next().unwrap_or_default())
    })
}

/// Who else keeps the links of the policy.
pub(super) fn rivals(cli: &Cli, options: &Doctor, desired: &Desired, links: &[Link]) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(running) = nmstate_lock::stand_down(&cli.nmstate_lock) {
        let remedy =
            "remove kubernetes-nmstate or this agent from this node; otherwise they undo each other's work";
        findings.push(Finding::fail(RIVALS, running.to_string(), remedy));
    }
    let virtual_ones = up(desired).filter(|entry| entry.kind.as_ref().is_some_and(Kind::is_made));
    for entry in virtual_ones {
        let Some(link) = links.iter().find(|link| link.name == entry.name) else { continue };
        let state = fs::read_to_string(options.network_manager_devices.join(link.index.to_string()));
        if state.is_ok_and(|state| state.lines().any(|line| line.trim() == "managed=true")) {
            let text = format!("NetworkManager manages {}, and may change it", entry.name);
            let remedy = "`octavia-bridge-agent install --network-manager`, then restart NetworkManager";
            findings.push(Finding::warn(RIVALS, text, remedy));
        }
    }
    if findings.is_empty() {
        findings
            .push(Finding::ok(RIVALS, "neither kubernetes-nmstate nor NetworkManager manages these links"));
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

    #[test]
    fn iptables_matters_where_frames_pass_it() {
        let never = || -> Result<String, String> { panic!("iptables is not asked") };
        assert_eq!(bridged("octbr", false, never).level, Level::Ok);
        let says = |policy: &str| bridged("octbr", true, || Ok(policy.to_owned()));
        assert_eq!(says("ACCEPT").level, Level::Ok);
        let drops = says("DROP");
        assert_eq!(drops.level, Level::Warn);
        assert!(drops.remedy.unwrap().contains("-i octbr -o octbr"), "{}", drops.text);
        assert_eq!(bridged("octbr", true, || Err("not installed".into())).level, Level::Warn);
    }
}
