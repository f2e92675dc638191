//! Debian's Open vSwitch and OVN, as `scripts/ovn/programs` unpacks them: their daemons and their commands.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use octavia_bridge_tests::Namespace;
use octavia_bridge_tests::changes::until;
use octavia_bridge_tests::table::line;

/// The directory that `scripts/ovn/programs` prints.
const VARIABLE: &str = "OCTAVIA_BRIDGE_TEST_OVN";
/// Where the packages have programs.
const PLACES: [&str; 4] = ["usr/bin", "usr/sbin", "sbin", "usr/lib/openvswitch-switch"];
/// How long a daemon may take. The machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A place of programs, with a directory for the sockets, databases and logs of those that work together.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    root: PathBuf,
    folder: PathBuf,
}

impl Programs {
    /// The unpacked packages.
    ///
    /// # Panics
    /// Unless the environment names them.
    pub(crate) fn new(folder: &Path) -> Self {
        let root = env::var_os(VARIABLE).map(PathBuf::from);
        let root = root.unwrap_or_else(|| panic!("{VARIABLE} names no directory: use scripts/e2e-ovn"));
        Self { root, folder: folder.to_owned() }
    }

    /// The same programs with a directory of their own for files.
    pub(crate) fn within(&self, name: &str) -> Self {
        let folder = self.folder.join(name);
        fs::create_dir(&folder).unwrap_or_else(|e| panic!("create {}: {e}", folder.display()));
        Self { root: self.root.clone(), folder }
    }

    /// A file in the directory for files.
    pub(crate) fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn command(&self, name: &str) -> Command {
        let mut found = PLACES.iter().map(|place| self.root.join(place).join(name));
        let program = found.find(|path| path.is_file());
        let program = program.unwrap_or_else(|| panic!("{name} is not in {}", self.root.display()));
        let mut command = Command::new(program);
        for entry in fs::read_dir(self.root.join("usr/lib")).expect("list the unpacked libraries").flatten() {
            if entry.file_name().to_string_lossy().ends_with("-linux-gnu") {
                command.env("LD_LIBRARY_PATH", entry.path());
            }
        }
        for directory in ["RUNDIR", "LOGDIR", "DBDIR", "SYSCONFDIR"] {
            for project in ["OVS", "OVN"] {
                command.env(format!("{project}_{directory}"), &self.folder);
            }
        }
        command
    }

    /// Runs a command to its end, in a namespace if one is given, and returns what it printed.
    pub(crate) fn run(&self, place: Option<&Namespace>, name: &str, words: &[&str]) -> String {
        let mut command = self.command(name);
        command.args(words).stdin(Stdio::null());
        let output = match place {
            Some(place) => place.output(&mut command),
            None => command.output().unwrap_or_else(|e| panic!("run {name}: {e}")),
        };
        let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        assert!(output.status.success(), "{name} {}: {complaint}", words.join(" "));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// As [`run`](Self::run), of a command that talks to a daemon by a socket in the directory for files.
    pub(crate) fn ask(&self, name: &str, socket: &str, words: &[&str]) -> String {
        let database = format!("--db=unix:{}", self.file(socket));
        let timeout = format!("--timeout={}", PATIENCE.as_secs());
        self.run(None, name, &[&[timeout.as_str(), database.as_str()], words].concat())
    }

    /// Creates databases, by file and schema such as `ovn/ovn-nb`, and starts a daemon that serves them at a socket.
    pub(crate) fn serve(&self, socket: &str, databases: &[(&str, &str)]) -> Daemon {
        let socket = self.file(socket);
        let mut words = vec![format!("--remote=punix:{socket}")];
        for (file, schema) in databases {
            let schema = self.root.join("usr/share").join(format!("{schema}.ovsschema"));
            self.run(None, "ovsdb-tool", &["create", &self.file(file), &schema.display().to_string()]);
            words.push(self.file(file));
        }
        let daemon = self.start(None, "ovsdb-server", &words.iter().map(String::as_str).collect::<Vec<_>>());
        until(PATIENCE, "ovsdb-server listens", || Path::new(&socket).exists());
        daemon
    }

    /// Starts a daemon, in a namespace if one is given.
    pub(crate) fn start(&self, place: Option<&Namespace>, name: &str, words: &[&str]) -> Daemon {
        let log = self.file(&format!("{name}.log"));
        let output = File::create(&log).expect("create a daemon's log");
        let mut command = self.command(name);
        command.args(words).arg("--no-chdir").stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let process = match place {
            Some(place) => place.spawn(&mut command),
            None => command.spawn().unwrap_or_else(|e| panic!("start {name}: {e}")),
        };
        Daemon { process, log }
    }
}

/// A running daemon; killed when dropped. It then says what it complained of last, if that may be why all ends.
#[derive(Debug)]
pub(crate) struct Daemon {
    process: Child,
    log: String,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.process.kill().unwrap_or_default();
        let _status = self.process.wait();
        if !thread::panicking() {
            return;
        }
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let is_complaint =
            |line: &&str| ["|WARN|", "|ERR|", "|EMER|"].iter().any(|level| line.contains(level));
        let complaints: Vec<&str> = log.lines().filter(is_complaint).collect();
        for complaint in &complaints[complaints.len().saturating_sub(3)..] {
            line(&format!("{}: {complaint}", self.log));
        }
    }
}
