//! install and uninstall.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::scene::{AGENT, POLICY, on_a_node, until};

#[test]
fn the_units_own_command_brings_the_kept_state_back_after_a_reboot() {
    on_a_node(|node| {
        let units = node.path("units");
        fs::create_dir(&units).unwrap();
        let words = format!("install --systemd --unit-dir {}", units.display());
        node.ok("apply -f -", POLICY);
        node.ok(&words, "");
        node.ok(&words, "");
        let enabled = units.join("multi-user.target.wants/octavia-bridge-agent.service");
        let unit = fs::read_to_string(&enabled).unwrap();
        assert!(unit.contains("Before=kubelet.service"), "{unit}");
        let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)).unwrap().to_owned();
        assert!(fs::exists(value("ConditionPathExists=")).unwrap());

        // What a reboot leaves.
        node.ip("link del octbr");
        let command = value("ExecStart=");
        let mut words = command.split(' ');
        assert_eq!(words.next(), Some(AGENT));
        assert!(Command::new(AGENT).args(words).status().unwrap().success());
        assert_eq!(node.link("enp6s0").unwrap()["master"], "octbr");

        for _ in 0..2 {
            node.ok(&format!("uninstall --systemd --unit-dir {}", units.display()), "");
        }
        assert!(fs::symlink_metadata(&enabled).is_err());
        assert!(node.link("octbr").is_some(), "links stay");
    });
}

#[test]
fn network_manager_is_told_of_what_the_program_makes_and_of_nothing_else() {
    on_a_node(|node| {
        let words = format!("install --network-manager --network-manager-dir {}", node.path("").display());
        let file = node.path("90-octavia-bridge.conf");
        // Nothing kept, nothing to tell.
        let answer = node.run(&words, "");
        assert_eq!(answer.status, 1);
        assert!(answer.stderr.contains("apply one first") && !file.exists(), "{}", answer.stderr);
        node.ok("apply -f -", &format!("{POLICY}- {{name: enp6s0, type: ethernet, state: up}}\n"));
        for _ in 0..2 {
            node.ok(&words, "");
        }
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains("[keyfile]\nunmanaged-devices+=interface-name:=octbr\n"), "{text}");
        for _ in 0..2 {
            node.ok(&format!("un{words}"), "");
            assert!(!file.exists());
        }
        assert_eq!(node.run("install", "").status, 2, "whom to tell has to be said");
    });
}

#[test]
fn what_would_be_written_is_printed_beside_a_running_agent() {
    on_a_node(|node| {
        fs::write(node.path("policy.yaml"), POLICY).unwrap();
        let _daemon =
            node.start(&format!("run --health-bind none -f {}", node.path("policy.yaml").display()));
        until(Duration::from_secs(10), "the policy is kept", || {
            node.path("state/agent/desired.json").exists()
        });
        assert_eq!(node.ok("plan", ""), "nothing to do\n");
        let files = node.path("files");
        let words = format!(
            "--systemd --network-manager --networkd --unit-dir {0} --network-manager-dir {0} --networkd-dir {0}",
            files.display()
        );
        let printed = node.ok(&format!("install --print {words}"), "");
        assert!(!files.exists(), "nothing is written");
        fs::create_dir(&files).unwrap();
        node.ok(&format!("install {words}"), "");
        for file in ["octavia-bridge-agent.service", "90-octavia-bridge.conf", "00-octavia-bridge.network"] {
            let text = fs::read_to_string(files.join(file)).unwrap();
            let block = format!("# {}\n{}\n", files.join(file).display(), text.trim_end());
            assert!(printed.contains(&block), "{file}: {printed}");
        }
        let network = fs::read_to_string(files.join("00-octavia-bridge.network")).unwrap();
        assert!(
            network.contains("[Match]\nName=octbr veth[0-9a-f]")
                && network.contains("[Link]\nUnmanaged=yes\n")
        );
        node.ok(
            &format!(
                "uninstall --network-manager --networkd {}",
                words.split_once("--unit").map(|(_, dirs)| format!("--unit{dirs}")).unwrap()
            ),
            "",
        );
        assert!(!files.join("00-octavia-bridge.network").exists());
        assert_eq!(node.run("install --print --cni-bin-dir /nowhere", "").status, 2);
    });
}

#[test]
fn a_running_agent_keeps_the_files_of_other_programs_up_to_date() {
    on_a_node(|node| {
        let policy = node.path("policy.yaml");
        fs::write(&policy, POLICY).unwrap();
        for directory in ["manager", "networkd"] {
            fs::create_dir(node.path(directory)).unwrap();
        }
        let lock = fs::File::create(node.path("lock")).unwrap();
        lock.lock().unwrap();
        let mut daemon = node.start(&format!(
            "run --health-bind none -f {} --network-manager-dir {} --networkd-dir {}",
            policy.display(),
            node.path("manager").display(),
            node.path("networkd").display(),
        ));
        let read = |name: &str| fs::read_to_string(node.path(name)).unwrap_or_default();
        let soon = Duration::from_secs(20);
        // As long as it runs, it needs NetworkManager for these links.
        until(soon, "nmstate is seen", || node.log().contains("kubernetes-nmstate is running on this node"));
        std::thread::sleep(Duration::from_secs(1));
        for directory in ["manager", "networkd"] {
            assert_eq!(fs::read_dir(node.path(directory)).unwrap().count(), 0, "{directory}");
        }
        lock.unlock().unwrap();
        until(soon, "NetworkManager's", || {
            read("manager/90-octavia-bridge.conf").ends_with("+=interface-name:=octbr\n")
        });
        until(soon, "networkd's", || read("networkd/00-octavia-bridge.network").contains("Name=octbr veth"));
        // A file that cannot be written is told, and keeps nothing from being done.
        fs::remove_dir_all(node.path("manager")).unwrap();
        fs::write(&policy, format!("{POLICY}- {{name: other, type: linux-bridge, state: up}}\n")).unwrap();
        daemon.signal(Signal::SIGHUP);
        until(soon, "the new link", || {
            read("networkd/00-octavia-bridge.network").contains("Name=octbr other veth")
        });
        until(soon, "told", || {
            let ready = node.run("health ready", "");
            ready.status == 0
                && ready.stdout.contains("note  others   cannot tell NetworkManager which links to leave")
        });
        assert!(node.link("other").is_some());
        assert_eq!(daemon.stop(), Some(0));
        assert!(
            read("networkd/00-octavia-bridge.network").contains("other"),
            "an agent that ends takes nothing away"
        );
    });
}

#[test]
fn a_path_that_systemd_would_misread_is_refused() {
    on_a_node(|node| {
        let answer = crate::scene::answer(
            Command::new(AGENT)
                .args(["install", "--systemd", "--state-dir", "/var/lib/50%", "--unit-dir"])
                .arg(node.path("")),
            "",
        );
        assert_eq!(answer.status, 1);
        assert!(answer.stderr.contains("/var/lib/50% holds a character"), "{}", answer.stderr);
    });
}

#[test]
fn an_output_that_cannot_be_written_changes_neither_install_nor_uninstall() {
    on_a_node(|node| {
        let plugin = crate::plugin_folder::plugin(node, "v1");
        let bin = crate::plugin_folder::folder(node);
        fs::create_dir(node.path("units")).unwrap();
        let places = format!("--cni-bin-dir {bin} --systemd --unit-dir {}", node.path("units").display());
        let install = format!("install {places} --plugin {plugin}");
        let there = || node.path("bin/octavia-bridge").exists();
        let is_enabled = || fs::symlink_metadata(node.path("units/octavia-bridge-agent.service")).is_ok();
        let run = |words: &str| {
            let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
            let output = node.agent(words).stdin(Stdio::null()).stdout(full).output().unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        for (words, installed) in [
            (install.clone(), true),
            // With nothing to do.
            (install.clone(), true),
            (format!("uninstall {places}"), false),
            (install, true),
            (format!("uninstall {places} --state"), false),
        ] {
            let (status, log) = run(&words);
            assert_eq!(status, Some(0), "{words}: {log}");
            assert!(log.contains("write to standard output"), "{words}: {log}");
            assert_eq!((there(), is_enabled()), (installed, installed), "{words}");
        }
        // The output is all that it is for.
        assert_eq!(run("install --print --systemd").0, Some(1));
    });
}
