//! A network namespace bound to a path, and ways to act inside it.

use std::fs::{self, File};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::Value;

/// A network namespace, alive as long as this value: dropped, also by a panic, it is unmounted and its file removed.
///
/// No file descriptor is kept: a namespace whose path is unmounted really dies, as a real pod's does.
#[derive(Debug)]
pub struct Namespace {
    path: PathBuf,
}

impl Namespace {
    /// Creates a namespace and binds it to `path`, which must not exist.
    pub(crate) fn create(path: PathBuf) -> Self {
        File::create_new(&path).unwrap_or_else(|e| panic!("create {}: {e}", path.display()));
        // A new thread enters the namespace and ends, so the caller never leaves its namespace.
        on_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("create a network namespace");
            bind(Path::new("/proc/thread-self/ns/net"), &path);
        });
        Self { path }
    }

    /// The file that `CNI_NETNS` names.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `story` on a thread inside the namespace; a panic in it is a panic of the caller.
    pub fn run<T: Send>(&self, story: impl FnOnce() -> T + Send) -> T {
        on_own_thread(|| {
            self.enter();
            story()
        })
    }

    /// Moves the calling thread into the namespace for good.
    pub(crate) fn enter(&self) {
        let file = File::open(&self.path).unwrap_or_else(|e| panic!("open {}: {e}", self.path.display()));
        setns(file, CloneFlags::CLONE_NEWNET)
            .unwrap_or_else(|e| panic!("enter {}: {e}", self.path.display()));
    }

    /// Starts a program inside the namespace. The caller ends it.
    pub fn spawn(&self, command: &mut Command) -> Child {
        // A child starts in the namespace of the thread that starts it.
        self.run(|| command.spawn().unwrap_or_else(|e| panic!("start {command:?}: {e}")))
    }

    /// Runs a program inside the namespace to its end.
    pub fn output(&self, command: &mut Command) -> Output {
        command.stdin(Stdio::null());
        self.run(|| command.output().unwrap_or_else(|e| panic!("run {command:?}: {e}")))
    }

    /// Runs `ip` with words separated by spaces, for example `ip("link set octbr up")`, and returns what it printed.
    pub fn ip(&self, words: &str) -> String {
        let output = self.output(Command::new("ip").args(words.split_whitespace()));
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "`ip {words}` in {}: {}",
            self.path.display(),
            text(&output.stderr).trim()
        );
        text(&output.stdout)
    }

    /// As [`ip`](Self::ip), with `-j -d`, parsed. `ip` prints nothing at all when there is nothing to list.
    pub fn ip_json(&self, words: &str) -> Vec<Value> {
        let text = self.ip(&format!("-j -d {words}"));
        if text.trim().is_empty() {
            return Vec::new();
        }
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("output of `ip -j -d {words}`: {e}\n{text}"))
    }

    /// A value below `/proc/sys/net`, for example `sysctl("ipv6/conf/net1/accept_ra")`; `None` if there is no such file.
    pub fn sysctl(&self, key: &str) -> Option<String> {
        // /proc/sys/net shows the namespace of the thread that opens the file.
        self.run(|| fs::read_to_string(Path::new("/proc/sys/net").join(key)).ok())
            .map(|value| value.trim().to_owned())
    }

    /// Writes a value below `/proc/sys/net`.
    pub fn set_sysctl(&self, key: &str, value: &str) {
        let file = Path::new("/proc/sys/net").join(key);
        self.run(|| fs::write(&file, value)).unwrap_or_else(|e| panic!("write {}: {e}", file.display()));
    }

    /// A file of `/sys/class/net/<link>`, as seen from inside.
    pub fn link_attribute(&self, link: &str, attribute: &str) -> String {
        self.run(|| {
            // sysfs shows the namespace in which it was mounted. So the thread mounts one, which goes when the thread ends.
            unshare(CloneFlags::CLONE_NEWNS).expect("create a mount namespace");
            let none: Option<&Path> = None;
            mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none).expect("mount sysfs");
            let file = format!("/sys/class/net/{link}/{attribute}");
            let value = fs::read_to_string(&file).unwrap_or_else(|e| panic!("read {file}: {e}"));
            value.trim().to_owned()
        })
    }

    /// Removes the namespace, as a runtime does before a late DEL: the path is gone and the kernel discards the links.
    pub fn remove(&self) {
        umount2(&self.path, MntFlags::MNT_DETACH)
            .unwrap_or_else(|e| panic!("unmount {}: {e}", self.path.display()));
        fs::remove_file(&self.path).unwrap_or_else(|e| panic!("remove {}: {e}", self.path.display()));
    }

    /// Removes the namespace and binds a new one to the same path, as a runtime may for a later pod.
    pub fn replace(&self) {
        self.remove();
        // The new value would remove the namespace when dropped; `self` does that.
        std::mem::forget(Self::create(self.path.clone()));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Gone already after `remove`. A panic here would hide the test's own.
        if self.path.exists() && !thread::panicking() {
            self.remove();
        } else if self.path.exists() {
            let _: Result<(), _> = umount2(&self.path, MntFlags::MNT_DETACH);
            let _: Result<(), _> = fs::remove_file(&self.path);
        }
    }
}

/// Runs `story` on a new thread, whose namespaces it may change; a panic in it is a panic of the caller.
pub(crate) fn on_own_thread<T: Send>(story: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(story).join()).unwrap_or_else(|panic| resume_unwind(panic))
}

/// Makes `target` show what `source` shows, in the mount namespace of the calling thread.
pub(crate) fn bind(source: &Path, target: &Path) {
    let none: Option<&Path> = None;
    mount(Some(source), target, none, MsFlags::MS_BIND, none)
        .unwrap_or_else(|e| panic!("bind {} to {}: {e}", source.display(), target.display()));
}
