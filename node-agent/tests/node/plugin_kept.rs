//! run: the plugin is put into its folder and kept there.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::plugin_folder::{folder, plugin};
use crate::scene::{Daemon, Node, POLICY, on_a_node, until};

/// For a busy machine. The daemon looks every 2 s, and tries again after 5 s.
const SOON: Duration = Duration::from_secs(30);

fn start(node: &Node, mark: &str) -> Daemon {
    let (plugin, bin) = (plugin(node, mark), node.path("bin"));
    node.start(&format!("{} --cni-bin-dir {} --plugin {plugin}", run(node), bin.display()))
}

/// The daemon has something to keep.
fn run(node: &Node) -> String {
    fs::write(node.path("policy.yaml"), POLICY).unwrap();
    format!("run -f {}", node.path("policy.yaml").display())
}

fn page(path: &str) -> String {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, 29808)) else { return String::new() };
    write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[track_caller]
fn says(path: &str, status: u16, what: &str) {
    until(SOON, what, || {
        let answer = page(path);
        answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(what)
    });
}

fn mark(node: &Node, name: &str) -> Option<String> {
    let text = fs::read_to_string(node.path("bin").join(name)).ok()?;
    Some(text.lines().nth(1)?.trim_start_matches("# ").to_owned())
}

#[test]
fn what_is_removed_or_of_another_version_is_put_back() {
    on_a_node(|node| {
        folder(node);
        let mut daemon = start(node, "v1");
        let well =
            format!("ok    plugin   in {}: octavia-bridge, octavia-ipam\n", node.path("bin").display());
        says("/readyz", 200, &well);
        assert_eq!(daemon.stop(), Some(0));
        assert_eq!(
            mark(node, "octavia-ipam").as_deref(),
            Some("v1"),
            "an agent that ends takes nothing away"
        );

        let _daemon = start(node, "v2");
        until(SOON, "the new version", || mark(node, "octavia-ipam").as_deref() == Some("v2"));
        says("/metrics", 200, "octavia_bridge_plugin_writes_total 2\n");
        // Its own folder, and nobody else's business meanwhile.
        let busy = node.run(&format!("uninstall --cni-bin-dir {}", node.path("bin").display()), "");
        assert!(busy.status == 1 && busy.stderr.contains("stop it first"), "{}", busy.stderr);
        fs::remove_file(node.path("bin/octavia-bridge")).unwrap();
        until(SOON, "put back", || mark(node, "octavia-bridge").as_deref() == Some("v2"));
        fs::copy(node.path("bin/.octavia-bridge.previous"), node.path("bin/octavia-ipam")).unwrap();
        until(SOON, "its own earlier version is replaced", || {
            mark(node, "octavia-ipam").as_deref() == Some("v2")
        });
        says("/metrics", 200, "octavia_bridge_plugin_writes_total 4\n");
        says("/readyz", 200, &well);
    });
}

/// Nobody could mend it in the agent's image, which has no shell.
#[test]
fn a_record_with_a_bad_byte_keeps_no_agent_from_being_ready() {
    on_a_node(|node| {
        let installs = format!("--cni-bin-dir {} --plugin {}", folder(node), plugin(node, "v1"));
        node.ok(&format!("install {installs}"), "");
        fs::write(node.path("state/agent/installed.json"), b"\xff{").unwrap();
        let _daemon = node.start(&format!("{} --interval 1 {installs}", run(node)));
        says("/readyz", 200, "ok    plugin");
        says("/readyz", 200, "agent/installed.json.bad; the log says why");
    });
}

#[test]
fn a_stranger_in_its_place_is_told_and_left_until_it_goes() {
    on_a_node(|node| {
        folder(node);
        let _daemon = start(node, "v1");
        says("/readyz", 200, "ok    plugin");
        fs::remove_file(node.path("bin/octavia-bridge")).unwrap();
        fs::write(node.path("bin/octavia-bridge"), "another's").unwrap();
        says(
            "/readyz",
            503,
            "bin/octavia-bridge is not octavia-bridge-agent's (another program has replaced",
        );
        says("/metrics", 200, "octavia_bridge_plugin_installed{name=\"octavia-bridge\"} 0\n");
        says("/metrics", 200, "octavia_bridge_plugin_installed{name=\"octavia-ipam\"} 1\n");
        assert!(node.log().contains("octavia-bridge is not octavia-bridge-agent's"), "{}", node.log());
        assert_eq!(fs::read(node.path("bin/octavia-bridge")).unwrap(), b"another's");
        fs::remove_file(node.path("bin/octavia-bridge")).unwrap();
        says("/readyz", 200, "octavia-bridge, octavia-ipam\n");
        says("/metrics", 200, "octavia_bridge_plugin_installed{name=\"octavia-bridge\"} 1\n");
    });
}

#[test]
fn a_folder_that_comes_late_is_waited_for() {
    on_a_node(|node| {
        // Variables of a pod, one of them empty.
        let mut agent = node.agent(&run(node));
        agent.env("CNI_BIN_DIR", node.path("bin")).env("PLUGIN_FILE", plugin(node, "v1")).env("ALSO_AS", "");
        let _daemon = Daemon(agent.spawn().unwrap());
        says("/readyz", 503, "wait  plugin   cannot use the CNI directory");
        says("/metrics", 200, "octavia_bridge_plugin_installed{name=\"octavia-bridge\"} 0\n");
        folder(node);
        says("/readyz", 200, "octavia-bridge, octavia-ipam\n");
    });
}

#[test]
fn without_a_folder_nothing_is_said_of_it() {
    on_a_node(|node| {
        let _daemon = node.start(&run(node));
        says("/readyz", 200, "ok    policy");
        assert!(!page("/readyz").contains("plugin"));
        assert!(!page("/metrics").contains("plugin"));
    });
}

#[test]
fn a_read_only_directory_is_logged_once_and_once_more_when_that_changes() {
    on_a_node(|node| {
        folder(node);
        let bin = node.path("bin").display().to_string();
        let mount = |options: &str| {
            let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs", &bin]).status();
            assert!(mounted.unwrap().success(), "mount needs the sandbox");
        };
        mount("ro");
        let _daemon = start(node, "v1");
        says("/readyz", 503, "Read-only file system");
        // A few tries, each after 5 s.
        std::thread::sleep(Duration::from_secs(12));
        let said = |log: &str| log.lines().filter(|line| line.contains("Read-only")).count();
        assert_eq!(said(&node.log()), 2, "one for each file\n{}", node.log());
        mount("remount,rw");
        says("/readyz", 200, "ok    plugin");
        assert_eq!(said(&node.log()), 2, "{}", node.log());
        assert!(Command::new("umount").arg("-l").arg(&bin).status().unwrap().success());
    });
}
