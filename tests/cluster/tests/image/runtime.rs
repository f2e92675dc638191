//! Debian's containerd with crun, on nothing but what the sandbox has.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{env, thread};

use tempfile::TempDir;

/// Longer than the runtime takes for anything, on however busy a machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// No kubelet is here to ask, and these look for tools and file systems that a node may have.
const CONFIGURATION: &str = r#"
version = 2
disabled_plugins = [
    "io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
"#;

/// What containerd starts for each container. Without cgroups, which are the machine's and not the sandbox's. In a user
/// namespace with one group there is no group 5 either, to which terminals would belong.
const CRUN: &str = r#"#!/bin/sh
for word; do
    [ "$previous" = --bundle ] && sed -i 's/,"gid=5"//' "$word/config.json"
    previous=$word
done
exec crun --cgroup-manager=disabled "$@"
"#;

/// The runtime of all nodes of a test run; it ends with the process.
#[derive(Debug)]
pub(crate) struct Runtime {
    folder: TempDir,
    programs: PathBuf,
}

/// What a container is made from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    /// An image that was imported, by its name.
    Image(&'a str),
    /// A folder.
    Files(&'a Path),
}

impl Runtime {
    /// The one of this test run, started when it is first asked for, with both images.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Runtime> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    fn start() -> Self {
        assert!(
            env::var_os("OCTAVIA_BRIDGE_SANDBOX").is_some(),
            "not in the sandbox: use scripts/test-image"
        );
        let programs = folder("OCTAVIA_BRIDGE_TEST_CONTAINERD");
        let folder =
            TempDir::with_prefix_in("containerd-", "/run").expect("create the runtime's folder in /run");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("config.toml"), CONFIGURATION).expect("write containerd's configuration");
        fs::write(path("crun"), CRUN).expect("write the program that starts crun");
        fs::set_permissions(path("crun"), PermissionsExt::from_mode(0o755)).expect("make it a program");
        unified_cgroups();
        let log = File::create(path("log")).expect("create containerd's log");
        // A test's process that is killed takes it along.
        let mut daemon = Command::new("setpriv");
        daemon.args(["--pdeathsig", "KILL", "--"]).arg(programs.join("containerd"));
        for (flag, name) in
            [("--config", "config.toml"), ("--address", "socket"), ("--root", "root"), ("--state", "state")]
        {
            daemon.arg(flag).arg(path(name));
        }
        daemon.args(["--log-level", "error"]);
        daemon.env("PATH", format!("{}:{}", programs.display(), env::var("PATH").expect("PATH")));
        daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // It dies with the thread that started it, hence one that does not end before the process.
        thread::spawn(move || {
            let _ended = daemon.spawn().expect("start containerd").wait();
        });
        let runtime = Self { folder, programs };
        runtime.wait("containerd answers", || succeeded(&output(runtime.ctr().arg("version"))));
        for number in [1, 2] {
            let archive = crate::image_folder(number).join("image.tar");
            runtime.run(runtime.ctr().args(["images", "import", "--snapshotter", "native"]).arg(archive));
        }
        runtime
    }

    /// `ctr`, told where containerd listens.
    fn ctr(&self) -> Command {
        let [program, words @ ..] = self.ctr_words();
        let mut command = Command::new(program);
        command.args(words);
        command
    }

    /// The same as words.
    pub(crate) fn ctr_words(&self) -> [PathBuf; 3] {
        [self.programs.join("ctr"), "--address".into(), self.path("socket")]
    }

    /// `ctr run` of a container: with these options, and this as its first process, whose output goes to a file. It ends with
    /// that process and has its exit status, and removes the container.
    pub(crate) fn container(
        &self,
        mut ctr: Command,
        id: &str,
        source: Source<'_>,
        options: &[String],
        process: &[String],
    ) -> Command {
        ctr.args(["run", "--rm", "--snapshotter", "native", "--runc-binary"]).arg(self.path("crun"));
        ctr.arg(format!("--log-uri=file://{}", self.path(&format!("{id}.log")).display()));
        ctr.arg("--pid-file").arg(self.path(&format!("{id}.pid"))).args(options);
        match source {
            Source::Image(name) => ctr.arg(name),
            Source::Files(folder) => ctr.arg("--rootfs").arg(folder),
        };
        ctr.arg(id).args(process);
        ctr
    }

    /// `ctr exec`: a further process in a container that runs, with the environment of its first. It ends with that process
    /// and has its exit status.
    pub(crate) fn inside(&self, id: &str, process: &[String]) -> Command {
        static NUMBER: AtomicUsize = AtomicUsize::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut ctr = self.ctr();
        ctr.args(["tasks", "exec", "--exec-id", &format!("probe-{number}")]).arg(id).args(process);
        ctr
    }

    /// Sends a signal to a container's first process.
    pub(crate) fn signal(&self, id: &str, signal: &str) {
        self.run(self.ctr().args(["tasks", "kill", "--signal", signal, id]));
    }

    /// The first process of a container, as the sandbox numbers it, once it is known.
    pub(crate) fn process(&self, id: &str) -> Option<u32> {
        fs::read_to_string(self.path(&format!("{id}.pid"))).ok()?.trim().parse().ok()
    }

    /// What a container has said, so far or until its end.
    pub(crate) fn log(&self, id: &str) -> String {
        fs::read_to_string(self.path(&format!("{id}.log"))).unwrap_or_default()
    }

    /// A file or folder of the runtime's own.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a command that has to succeed; what it printed.
    #[track_caller]
    pub(crate) fn run(&self, command: &mut Command) -> String {
        let output = output(command);
        let daemon = || fs::read_to_string(self.path("log")).unwrap_or_default();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        assert!(succeeded(&output), "{command:?}: {}\n{}", text(&output.stderr), daemon());
        text(&output.stdout)
    }

    #[track_caller]
    fn wait(&self, what: &str, so: impl Fn() -> bool) {
        let started = Instant::now();
        while !so() {
            let log = || fs::read_to_string(self.path("log")).unwrap_or_default();
            assert!(started.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain until {what}\n{}", log());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// crun refuses to start where version 1 and 2 of cgroups are mixed, also when it has nothing to do with either.
fn unified_cgroups() {
    let kind = output(Command::new("stat").args(["--file-system", "--format", "%T", "/sys/fs/cgroup"]));
    if kind.stdout.trim_ascii() != b"cgroup2fs" {
        let mounted = output(Command::new("mount").args(["-t", "cgroup2", "none", "/sys/fs/cgroup"]));
        let why = String::from_utf8_lossy(&mounted.stderr);
        assert!(
            succeeded(&mounted),
            "this machine mixes cgroups of version 1 and 2, which needs root: {why}"
        );
    }
}

/// The folder that a variable names, which scripts/test-image sets.
pub(crate) fn folder(variable: &str) -> PathBuf {
    let folder = env::var_os(variable).map(PathBuf::from);
    folder
        .filter(|folder| folder.is_dir())
        .unwrap_or_else(|| panic!("{variable} names no folder: use scripts/test-image"))
}

pub(crate) fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("run {command:?}: {e}"))
}

fn succeeded(output: &Output) -> bool {
    output.status.success()
}
