//! install and uninstall of the plugin in the folder where a container runtime looks for it.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::scene::{AGENT, Answer, Node, POLICY, answer, on_a_node};

/// A plugin as far as installing goes: it answers VERSION. `mark` tells one version from another.
pub(crate) fn plugin(node: &Node, mark: &str) -> String {
    let path = node.path(mark);
    fs::write(&path, format!("#!/bin/sh\n# {mark}\necho '{{\"supportedVersions\":[\"1.1.0\"]}}'\n")).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

/// An empty CNI folder.
pub(crate) fn folder(node: &Node) -> String {
    fs::create_dir(node.path("bin")).unwrap();
    node.path("bin").display().to_string()
}

/// Every file of a folder: its mode and its content.
fn files(folder: &Path) -> BTreeMap<String, (u32, String)> {
    let describe = |entry: fs::DirEntry| {
        let mode = entry.metadata().unwrap().mode() & 0o7777;
        let text = String::from_utf8(fs::read(entry.path()).unwrap()).unwrap();
        (entry.file_name().into_string().unwrap(), (mode, text))
    };
    fs::read_dir(folder).unwrap().map(|entry| describe(entry.unwrap())).collect()
}

/// The mark of the plugin in a place, and its mode.
fn there(node: &Node, name: &str) -> (u32, String) {
    let (mode, text) = files(&node.path("bin")).remove(name).unwrap_or_default();
    (mode, text.lines().nth(1).unwrap_or_default().trim_start_matches("# ").to_owned())
}

fn install(node: &Node, mark: &str, more: &str) -> Answer {
    let (plugin, bin) = (plugin(node, mark), node.path("bin"));
    node.run(&format!("install --cni-bin-dir {} --plugin {plugin} {more}", bin.display()), "")
}

fn uninstall(node: &Node, more: &str) -> Answer {
    node.run(&format!("uninstall --cni-bin-dir {} {more}", node.path("bin").display()), "")
}

#[track_caller]
fn done(answer: &Answer) -> &str {
    assert_eq!(answer.status, 0, "{}{}", answer.stdout, answer.stderr);
    &answer.stdout
}

#[track_caller]
fn refused(answer: &Answer, words: &[&str]) {
    assert_eq!(answer.status, 1, "{}{}", answer.stdout, answer.stderr);
    for word in words {
        assert!(answer.stderr.contains(word), "{word:?} is not in {}", answer.stderr);
    }
}

#[test]
fn it_is_installed_upgraded_rolled_back_and_removed_and_nothing_else_is_touched() {
    on_a_node(|node| {
        let bin = folder(node);
        fs::write(node.path("bin/loopback"), "another's").unwrap();
        let before = files(&node.path("bin"));
        let said = install(node, "v1", "");
        assert_eq!(done(&said).lines().count(), 2, "{}", said.stdout);
        for name in ["octavia-bridge", "octavia-ipam"] {
            assert_eq!(there(node, name), (0o755, "v1".into()));
        }
        assert_eq!(files(&node.path("bin")).len(), 3, "nothing but these is written");
        let inode = || fs::metadata(node.path("bin/octavia-bridge")).unwrap().ino();
        let first = inode();
        assert_eq!(done(&install(node, "v1", "")), "nothing to do\n");
        assert_eq!(inode(), first);

        done(&install(node, "v2", ""));
        assert_ne!(inode(), first, "those that run keep theirs");
        assert_eq!(there(node, "octavia-ipam"), (0o755, "v2".into()));
        // Kept, but not for a network that names it as its type.
        assert_eq!(there(node, ".octavia-bridge.previous"), (0o600, "v1".into()));
        let refused = Command::new(node.path("bin/.octavia-bridge.previous")).output();
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::PermissionDenied);
        let back = format!("install --cni-bin-dir {bin} --plugin {bin}/.octavia-bridge.previous");
        node.ok(&back, "");
        for name in ["octavia-bridge", "octavia-ipam"] {
            assert_eq!(there(node, name), (0o755, "v1".into()));
        }
        assert_eq!(there(node, ".octavia-bridge.previous"), (0o600, "v2".into()));
        assert!(!node.path("state/agent/plugin-on-trial").exists());

        // A mode that somebody has changed.
        fs::set_permissions(node.path("bin/octavia-ipam"), Permissions::from_mode(0o644)).unwrap();
        assert!(done(&install(node, "v1", "")).contains("octavia-ipam with its mode"));
        assert_eq!(there(node, "octavia-ipam"), (0o755, "v1".into()));

        assert!(done(&uninstall(node, "")).contains("/bin/octavia-ipam: removed"));
        assert_eq!(files(&node.path("bin")), before);
        assert!(done(&uninstall(node, "")).contains("nothing was installed"));
        assert!(node.path("state").exists());
    });
}

#[test]
fn what_others_have_put_there_is_left_alone_and_named() {
    on_a_node(|node| {
        folder(node);
        fs::write(node.path("bin/octavia-ipam"), "a package's").unwrap();
        symlink("/dev/null", node.path("bin/bridge")).unwrap();
        let answer = install(node, "v1", "--also-as bridge,whereabouts");
        refused(
            &answer,
            &["bin/octavia-ipam is not", "was there before", "bin/bridge is not", "not a regular file"],
        );
        refused(&answer, &["remove it, or do without that name in --also-as"]);
        assert_eq!(there(node, "octavia-bridge").1, "v1");
        assert_eq!(there(node, "whereabouts").1, "v1");
        // Put there by somebody after it was installed.
        fs::write(node.path("bin/octavia-bridge"), "an administrator's").unwrap();
        refused(
            &install(node, "v2", ""),
            &["bin/octavia-bridge is not", "another program has replaced the installed plugin"],
        );
        assert!(done(&uninstall(node, "")).contains("bin/octavia-bridge: left alone"));
        assert_eq!(files(&node.path("bin")).len(), 3);
        assert_eq!(fs::read(node.path("bin/octavia-ipam")).unwrap(), b"a package's");
        assert_eq!(fs::read(node.path("bin/octavia-bridge")).unwrap(), b"an administrator's");
        assert_eq!(node.run("install --cni-bin-dir / --also-as macvlan", "").status, 2);
    });
}

#[test]
fn a_name_that_is_not_asked_for_any_more_stays_for_its_pods() {
    on_a_node(|node| {
        folder(node);
        done(&install(node, "v1", "--also-as whereabouts"));
        done(&install(node, "v2", ""));
        assert_eq!(there(node, "whereabouts"), (0o755, "v2".into()));
        done(&uninstall(node, ""));
        assert_eq!(files(&node.path("bin")).len(), 0);
    });
}

#[test]
fn without_its_record_only_the_very_plugin_is_known() {
    on_a_node(|node| {
        folder(node);
        done(&install(node, "v1", ""));
        fs::remove_file(node.path("state/agent/installed.json")).unwrap();
        refused(&install(node, "v2", ""), &["was there before"]);
        assert_eq!(there(node, "octavia-bridge").1, "v1");
        assert_eq!(done(&install(node, "v1", "")), "nothing to do\n");
        done(&install(node, "v2", ""));
        // One that cannot be read is set aside, and the same holds.
        let record = node.path("state/agent/installed.json");
        for torn in [b"{".as_slice(), b"\xff"] {
            fs::write(&record, torn).unwrap();
            refused(&uninstall(node, ""), &["installed.json is not what was written there"]);
            let answer = install(node, "v2", "");
            assert_eq!(done(&answer), "nothing to do\n");
            assert!(answer.stderr.contains("it was set aside as"), "{}", answer.stderr);
            assert_eq!(fs::read(node.path("state/agent/installed.json.bad")).unwrap(), torn);
        }
        done(&install(node, "v3", ""));
        fs::write(&record, "{").unwrap();
        refused(&install(node, "v4", ""), &["was there before"]);
        assert_eq!(there(node, "octavia-bridge").1, "v3");
        let doctor = node.run("doctor", "").stdout;
        assert!(doctor.contains("set aside: ") && doctor.contains("installed.json.bad"), "{doctor}");
    });
}

#[test]
fn a_folder_of_another_name_is_told_from_one_where_nothing_is() {
    on_a_node(|node| {
        let bin = folder(node);
        done(&install(node, "v1", ""));
        fs::create_dir(node.path("other")).unwrap();
        let other = node.run(&format!("uninstall --cni-bin-dir {}", node.path("other").display()), "");
        refused(&other, &["nothing that was installed is in", "/other", &bin]);
        // As a container has another name for it.
        symlink(&bin, node.path("mounted")).unwrap();
        node.ok(&format!("uninstall --cni-bin-dir {}", node.path("mounted").display()), "");
        assert_eq!(files(&node.path("bin")).len(), 0);
    });
}

#[test]
fn killed_at_any_file_it_leaves_whole_ones_that_the_next_start_knows() {
    on_a_node(|node| {
        let bin = folder(node);
        done(&install(node, "v1", ""));
        let (old, new) = (node.path("v1"), plugin(node, "v2"));
        let mut kills = 0;
        for call in 1.. {
            let mut killed = Command::new("strace");
            let calls = "rename,renameat,renameat2,fsync,fchmod,unlink";
            killed.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
            killed.arg("-e").arg(format!("inject={calls}:signal=KILL:when={call}"));
            killed.arg(AGENT).args(["install", "--cni-bin-dir", &bin, "--plugin", &new, "--state-dir"]);
            let ended = answer(killed.arg(node.path("state")), "");
            for name in ["octavia-bridge", "octavia-ipam"] {
                let (mode, mark) = there(node, name);
                assert!(
                    mode == 0o755 && (mark == "v1" || mark == "v2"),
                    "call {call}: {name} {mode:o} {mark}"
                );
            }
            if ended.status == 0 {
                break;
            }
            kills += usize::from(there(node, "octavia-bridge").1 != there(node, "octavia-ipam").1);
            // Of yet another version: it has to know the one before and the one meant.
            done(&install(node, "v3", ""));
            for name in ["octavia-bridge", "octavia-ipam"] {
                assert_eq!(there(node, name), (0o755, "v3".into()), "call {call}");
            }
            let drafts = files(&node.path("bin")).into_keys().filter(|name| name.ends_with(".new"));
            assert_eq!(drafts.collect::<Vec<_>>(), [""; 0], "call {call}");
            node.ok(&format!("install --cni-bin-dir {bin} --plugin {}", old.display()), "");
        }
        assert!(kills > 0, "no kill came between the two files");
        done(&uninstall(node, ""));
        assert_eq!(files(&node.path("bin")).len(), 0);
    });
}

#[test]
fn a_folder_that_cannot_be_used_and_a_plugin_that_is_none_are_named() {
    on_a_node(|node| {
        let bin = node.path("bin");
        refused(
            &install(node, "v1", ""),
            &["cannot use the CNI directory", "/bin: name the directory", "No such file"],
        );
        fs::write(&bin, "").unwrap();
        refused(&install(node, "v1", ""), &["/bin: name the directory", "not a directory"]);
        fs::remove_file(&bin).unwrap();
        let mount = |options: &str| {
            let mut command = Command::new("mount");
            command.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&bin);
            assert!(command.status().unwrap().success(), "mount needs the sandbox");
        };
        fs::create_dir(&bin).unwrap();
        mount("ro");
        refused(
            &install(node, "v1", ""),
            &["install ", "/bin/octavia-bridge", "Read-only", "must be writable"],
        );
        mount("size=4096");
        fs::write(bin.join("loopback"), [b'x'; 4096]).unwrap();
        refused(
            &install(node, "v1", ""),
            &["install ", "/bin/octavia-bridge", "No space left", "make room there"],
        );
        assert_eq!(files(&bin).len(), 1, "half a file is no use");
        let words = format!("install --cni-bin-dir {} --plugin", bin.display());
        refused(
            &node.run(&format!("{words} /nowhere"), ""),
            &["the plugin /nowhere cannot be read", "--plugin"],
        );
        refused(
            &node.run(&format!("{words} /bin/true"), ""),
            &["/bin/true, which was to be installed", "is not a CNI plugin"],
        );
        for _ in 0..2 {
            assert!(Command::new("umount").arg(&bin).status().unwrap().success());
        }
    });
}

#[test]
fn the_state_goes_when_it_is_told_to_and_nobody_needs_it() {
    on_a_node(|node| {
        folder(node);
        done(&install(node, "v1", ""));
        node.ok("apply -f -", POLICY);
        let state = |name: &str| node.path("state").join(name);
        fs::create_dir(state("attachments")).unwrap();
        // Of the IPAM-only face, of which nobody can tell.
        let record =
            r#"{"version":1,"network":"n","containerId":"3f2a","ifname":"net1","netns":null,"link":null}"#;
        fs::write(state("attachments/3f2a@net1.jsonl"), format!("{record}\n")).unwrap();
        fs::create_dir(state("cluster-tombstones")).unwrap();
        fs::write(state("cluster-tombstones/77aa@net1"), "").unwrap();
        let refusal = uninstall(node, "--state");
        refused(&refusal, &["1 attachments are alive (3f2a@net1)", "1 releases", "a policy is kept"]);
        assert_eq!(there(node, "octavia-bridge").1, "v1", "nothing was removed");
        // The plugin alone may go, and who is left is told.
        let answer = uninstall(node, "");
        assert!(done(&answer).contains("kept; the plugin needs it to detach pods"));
        assert!(answer.stderr.contains("1 attachments are alive"), "{}", answer.stderr);
        for file in ["attachments/3f2a@net1.jsonl", "cluster-tombstones/77aa@net1"] {
            fs::remove_file(state(file)).unwrap();
        }
        node.ok("remove", "");
        fs::write(state("notes"), "an administrator's").unwrap();
        assert!(node.ok("uninstall --state", "").contains("the directory itself stays"));
        assert_eq!(files(&node.path("state")).into_keys().collect::<Vec<_>>(), ["notes"]);
        fs::remove_file(state("notes")).unwrap();
        assert!(node.ok("uninstall --state", "").contains("state: removed"));
        assert!(!node.path("state").exists());
    });
}

/// The node lost its pods without a DEL: nobody would come for their records.
#[test]
fn a_record_keeps_the_state_only_while_its_attachment_lives() {
    on_a_node(|node| {
        fs::create_dir_all(node.path("state/attachments")).unwrap();
        fs::create_dir_all(node.path("state/pools")).unwrap();
        let host_end = octavia_bridge_ipam::host_end::name("3f2a", "net1");
        let alias = octavia_bridge_ipam::host_end::alias("3f2a", "net1", None);
        let pair = || {
            node.ip(&format!("link add {host_end} type veth peer name pod-end"));
            fs::write(node.path("batch"), format!("link set {host_end} alias \"{alias}\"\n")).unwrap();
            node.ip(&format!("-batch {}", node.path("batch").display()));
            node.link(&host_end).unwrap()["ifindex"].clone()
        };
        let index = pair();
        let intent = r#"{"version":1,"network":"n","containerId":"3f2a","ifname":"net1","link":{"bridge":"octbr"},"netns":{"path":"/run/netns/gone","device":4,"inode":7}}"#;
        let outcome = format!(r#"{{"addresses":[],"routes":[],"hostLink":{index},"podLink":2}}"#);
        let record = node.path("state/attachments/3f2a@net1.jsonl");
        fs::write(&record, format!("{intent}\n{outcome}\n")).unwrap();
        let pool = r#"{"apiVersion":"whereabouts.cni.cncf.io/v1alpha1","kind":"IPPool","metadata":{"name":"10.0.0.0-24"},"spec":{"range":"10.0.0.0/24","allocations":{"5":{"id":"3f2a","podref":"d/w","ifname":"net1"}}}}"#;
        fs::write(node.path("state/pools/10.0.0.0-24.json"), pool).unwrap();
        // The namespace's path is gone, and the pair is there: under its name, then under another one.
        refused(&uninstall(node, "--state"), &["1 attachments are alive (3f2a@net1)", "1 addresses of pool"]);
        node.ip(&format!("link set {host_end} name renamed"));
        refused(&uninstall(node, "--state"), &["1 attachments are alive (3f2a@net1)"]);
        node.ip("link del renamed");
        // A plugin is at work on it.
        let plugin = fs::File::open(&record).unwrap();
        plugin.lock().unwrap();
        refused(&uninstall(node, "--state"), &["1 attachments are alive (3f2a@net1)"]);
        drop(plugin);
        // One that cannot be understood, and an address without a record.
        fs::write(node.path("state/attachments/77aa@net1.jsonl"), "nonsense\n").unwrap();
        refused(&uninstall(node, "--state"), &["1 attachments are alive (77aa@net1)"]);
        fs::remove_file(node.path("state/attachments/77aa@net1.jsonl")).unwrap();
        fs::write(node.path("state/pools/10.0.0.0-24.json"), pool.replace("3f2a", "other")).unwrap();
        refused(&uninstall(node, "--state"), &["1 addresses of pool"]);
        fs::write(node.path("state/pools/10.0.0.0-24.json"), pool).unwrap();
        assert!(node.ok("uninstall --state", "").contains("state: removed"));
        assert!(!node.path("state").exists());
    });
}
