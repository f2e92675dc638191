//! One run of the plugin, as a container runtime makes it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

use crate::namespace::bind;
use crate::{Node, Outcome};

/// No run may take longer: the plugin's own longest wait is 30 s.
const DEADLINE: Duration = Duration::from_secs(60);

/// Where networks may keep the plugin's files besides its own places, as the node's administrator says in the environment.
pub const DIRECTORIES: &str = "OCTAVIA_BRIDGE_DIRECTORIES";

/// A run that is being described; [`run`](Self::run) does it.
#[derive(Debug, Clone)]
pub struct Call {
    node: Node,
    plugin: String,
    wrapper: Vec<String>,
    env: BTreeMap<String, String>,
    stdin: Vec<u8>,
    read_only: Option<&'static str>,
    etc: Option<PathBuf>,
    log: Option<PathBuf>,
}

impl Call {
    pub(crate) fn new(node: &Node, command: &str) -> Self {
        // What the specification names, and no PATH or HOME of the caller's. A test's agents and disks have folders in /run,
        // which the administrator of its nodes lets networks name.
        let env = [
            ("CNI_COMMAND", command.to_owned()),
            ("CNI_PATH", node.cni_path()),
            (DIRECTORIES, "/run".to_owned()),
        ];
        Self {
            node: node.clone(),
            plugin: "octavia-bridge".to_owned(),
            wrapper: Vec::new(),
            env: env.map(|(name, value)| (name.to_owned(), value)).into(),
            stdin: Vec::new(),
            read_only: None,
            etc: None,
            log: None,
        }
    }

    /// The container it is about; empty for verbs without one.
    #[must_use]
    pub fn container_id(&self) -> &str {
        self.env.get("CNI_CONTAINERID").map_or("", String::as_str)
    }

    /// The network configuration for stdin.
    #[must_use]
    pub fn conf(self, conf: &Value) -> Self {
        self.stdin(conf.to_string())
    }

    /// Any bytes for stdin.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Runs another plugin of `CNI_PATH`: `octavia-ipam`, or one of Debian's.
    #[must_use]
    pub fn plugin(mut self, name: &str) -> Self {
        name.clone_into(&mut self.plugin);
        self
    }

    /// Sets a variable of the plugin's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Takes a variable out of the plugin's environment.
    #[must_use]
    pub fn without_env(mut self, name: &str) -> Self {
        self.env.remove(name);
        self
    }

    /// `CNI_IFNAME`.
    #[must_use]
    pub fn ifname(self, name: &str) -> Self {
        self.env("CNI_IFNAME", name)
    }

    /// `CNI_ARGS`.
    #[must_use]
    pub fn args(self, args: &str) -> Self {
        self.env("CNI_ARGS", args)
    }

    /// Puts a program before the plugin, for example strace with its options.
    #[must_use]
    pub fn under(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Lets the plugin see `/var/lib` as read-only.
    #[must_use]
    pub fn on_read_only_disk(mut self) -> Self {
        self.read_only = Some("/var/lib");
        self
    }

    /// Lets the plugin see `/run/octavia-bridge` as read-only.
    #[must_use]
    pub fn on_read_only_memory(mut self) -> Self {
        self.read_only = Some("/run/octavia-bridge");
        self
    }

    /// Lets the plugin see this folder as `/etc`.
    #[must_use]
    pub fn with_etc(mut self, folder: &Path) -> Self {
        self.etc = Some(folder.to_owned());
        self
    }

    /// Lets the plugin write its log, which is its standard error, into this file, where it can be read while the plugin runs.
    #[must_use]
    pub fn logging_to(mut self, file: &Path) -> Self {
        self.log = Some(file.to_owned());
        self
    }

    /// Runs the plugin to its end.
    ///
    /// # Panics
    /// If it does not end within a minute, or leaves a process behind that holds its output open.
    pub fn run(&self) -> Outcome {
        let started = Instant::now();
        let mut child = self.start();
        let stdout = read_to_end(child.stdout.take());
        let stderr = child.stderr.take().map(|pipe| read_to_end(Some(pipe)));
        if let Some(mut stdin) = child.stdin.take() {
            match stdin.write_all(&self.stdin) {
                // VERSION and a call with a bad environment may end without reading.
                Err(e) if e.kind() == ErrorKind::BrokenPipe => {}
                written => written.expect("write the configuration to the plugin"),
            }
        }
        let mut until_end = |pipe: &Receiver<Vec<u8>>| {
            pipe.recv_timeout(DEADLINE.saturating_sub(started.elapsed())).unwrap_or_else(|_| {
                let stopped = child.kill();
                panic!("the plugin did not end within {DEADLINE:?} ({stopped:?}): {}", self.describe())
            })
        };
        let stdout = until_end(&stdout);
        let stderr = match (&stderr, &self.log) {
            (Some(pipe), _) => until_end(pipe),
            (None, Some(file)) => fs::read(file).expect("read the plugin's log"),
            (None, None) => Vec::new(),
        };
        let status = child.wait().expect("wait for the plugin");
        Outcome {
            call: self.describe(),
            status,
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
            took: started.elapsed(),
        }
    }

    /// Starts the plugin in the node's namespace with the node's `/var/lib` in place of the sandbox's.
    fn start(&self) -> Child {
        let mut words = self.wrapper.clone();
        words.push(self.program());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear().envs(&self.env).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(file) = &self.log {
            command.stderr(File::create(file).expect("create the plugin's log"));
        }
        self.node.run(|| {
            // This thread's own view of the mounts ends with the plugin.
            unshare(CloneFlags::CLONE_NEWNS).expect("create a mount namespace");
            self.node.show_files();
            if let Some(etc) = &self.etc {
                bind(etc, Path::new("/etc"));
            }
            if let Some(folder) = self.read_only {
                let none: Option<&Path> = None;
                let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
                mount(none, folder, none, flags, none).expect("make a folder read-only");
            }
            command.spawn().unwrap_or_else(|e| panic!("start {command:?}: {e}"))
        })
    }

    /// The plugin's path: the first folder of the lab's `CNI_PATH` that has it, as a runtime looks for it.
    fn program(&self) -> String {
        let folders = self.node.cni_path();
        let mut found = folders.split(':').map(|folder| format!("{folder}/{}", self.plugin));
        found.find(|file| Path::new(file).is_file()).unwrap_or_else(|| {
            panic!("{} is in none of {folders} (Debian: containernetworking-plugins)", self.plugin)
        })
    }

    fn describe(&self) -> String {
        let env: Vec<String> = self.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{} {} <<< {}", env.join(" "), self.plugin, String::from_utf8_lossy(&self.stdin))
    }
}

/// Reads a pipe on a thread, so that a full one never blocks the plugin while we wait for the other.
fn read_to_end(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    let mut pipe = pipe.expect("the plugin's output is piped");
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("read the plugin's output");
        // No one listens any more once the deadline has passed; the test has failed by then.
        sender.send(bytes).unwrap_or_default();
    });
    receiver
}
