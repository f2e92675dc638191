//! etcd and kube-apiserver as processes, on loopback, for as long as a test run.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::{env, thread};

use tempfile::TempDir;

use crate::certificates::{Authority, token_keys};

/// Everybody's requests but the server's own to itself and those that ask whether it is ready.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
rules:
  - {level: None, users: ['system:apiserver']}
  - {level: None, nonResourceURLs: ['/readyz*', '/healthz*', '/livez*']}
  - {level: Metadata}
";

/// A server that is starting or has started.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) url: String,
    /// The authority's certificate, PEM.
    pub(crate) authority: String,
    /// The administrator's token.
    pub(crate) token: String,
    processes: Mutex<Vec<Process>>,
    folder: TempDir,
    /// Of etcd, of its peers, which there are none of, and of the API server.
    ports: [u16; 3],
}

/// A copy of etcd's data.
#[derive(Debug)]
pub struct Backup(TempDir);

#[derive(Debug)]
struct Process {
    name: &'static str,
    child: Child,
}

impl Server {
    /// Starts both; nobody has asked yet whether they are ready.
    ///
    /// # Panics
    /// Outside the sandbox, and when the programs are not there.
    pub(crate) fn start() -> Self {
        assert!(
            env::var_os("OCTAVIA_BRIDGE_SANDBOX").is_some(),
            "refusing to start a Kubernetes API outside the sandbox: use scripts/test-cluster"
        );
        // A tmpfs: etcd waits for no disk, as with its --unsafe-no-fsync.
        let folder = TempDir::with_prefix_in("cluster-", "/run").expect("create the server's folder in /run");
        // In a new network namespace not even loopback is up.
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.as_ref().is_ok_and(std::process::ExitStatus::success), "ip link set lo up: {up:?}");

        let ports = free_ports();
        let path = |name: &str| folder.path().join(name);
        let authority = Authority::new();
        let serving = authority.server();
        let (private, public) = token_keys();
        let token = "administrator-of-this-test-run";
        for (name, text) in [
            ("ca.pem", authority.certificate().as_str()),
            ("server.pem", &serving.certificate),
            ("server.key", &serving.key),
            ("tokens.key", &private),
            ("tokens.pub", &public),
            ("tokens.csv", &format!("{token},administrator,administrator,\"system:masters\"\n")),
            ("audit-policy.yaml", AUDIT_POLICY),
            ("audit.log", ""),
        ] {
            fs::write(path(name), text).unwrap_or_else(|e| panic!("write {name}: {e}"));
        }

        let server = Self {
            url: format!("https://127.0.0.1:{}", ports[2]),
            authority: authority.certificate(),
            token: token.to_owned(),
            processes: Mutex::default(),
            folder,
            ports,
        };
        server.run();
        server
    }

    /// Starts the two processes.
    fn run(&self) {
        let programs = programs();
        let path = |name: &str| self.folder.path().join(name);
        let [etcd_port, peer_port, port] = self.ports;
        let etcd_url = format!("http://127.0.0.1:{etcd_port}");
        let peer_url = format!("http://127.0.0.1:{peer_port}");
        let mut etcd = Command::new("setpriv");
        etcd.args(["--pdeathsig", "KILL", "--"])
            .arg(programs.join("etcd"))
            .args(["--log-level", "warn", "--logger", "zap", "--data-dir"])
            .arg(path("etcd"))
            .args(["--listen-client-urls", &etcd_url, "--advertise-client-urls", &etcd_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("default={peer_url}")]);

        let mut api = Command::new("setpriv");
        api.args(["--pdeathsig", "KILL", "--"]).arg(programs.join("kube-apiserver")).args([
            format!("--etcd-servers={etcd_url}"),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={port}"),
            // Else it looks for a default route, to tell pods where it is; nobody is told.
            "--advertise-address=127.0.0.1".to_owned(),
            "--endpoint-reconciler-type=none".to_owned(),
            format!("--client-ca-file={}", path("ca.pem").display()),
            format!("--tls-cert-file={}", path("server.pem").display()),
            format!("--tls-private-key-file={}", path("server.key").display()),
            format!("--token-auth-file={}", path("tokens.csv").display()),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", path("tokens.pub").display()),
            format!("--service-account-signing-key-file={}", path("tokens.key").display()),
            "--service-cluster-ip-range=10.96.0.0/24".to_owned(),
            // Pods may be created without a controller that makes service accounts and their secrets.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            format!("--audit-policy-file={}", path("audit-policy.yaml").display()),
            format!("--audit-log-path={}", path("audit.log").display()),
            // An arrival is in the file before the request is looked at.
            "--audit-log-mode=blocking".to_owned(),
            // Never rotated: a mark is a place in the file.
            "--audit-log-maxsize=100000".to_owned(),
        ]);

        let processes =
            keep(vec![("etcd", etcd, path("etcd.log")), ("kube-apiserver", api, path("kube-apiserver.log"))]);
        *self.processes.lock().unwrap_or_else(PoisonError::into_inner) = processes;
    }

    fn end(&self) {
        let mut processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        for mut process in processes.drain(..).rev() {
            // It may have ended by itself.
            process.child.kill().ok();
            process.child.wait().ok();
        }
    }

    /// Copies etcd's data. Both processes are ended for it, and started again.
    pub(crate) fn back_up(&self) -> Backup {
        let backup = TempDir::with_prefix_in("backup-", "/run").expect("create the backup's folder in /run");
        self.end();
        copy(&self.folder.path().join("etcd"), &backup.path().join("etcd"));
        self.run();
        Backup(backup)
    }

    /// Puts a copy in the place of etcd's data. Both processes are ended for it, and started again.
    pub(crate) fn restore(&self, Backup(backup): &Backup) {
        self.end();
        let data = self.folder.path().join("etcd");
        fs::remove_dir_all(&data).expect("remove etcd's data");
        copy(&backup.path().join("etcd"), &data);
        self.run();
    }

    pub(crate) fn audit_log(&self) -> PathBuf {
        self.folder.path().join("audit.log")
    }

    /// Why the server will never be ready, or is not yet: whose process ended, and the ends of both logs.
    pub(crate) fn explain(&self) -> Option<String> {
        let mut processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = processes.iter_mut().find_map(|Process { name, child }| {
            let status = child.try_wait().ok().flatten()?;
            Some(format!("{name} ended with {status}"))
        })?;
        Some(format!("{ended}\n{}", self.logs()))
    }

    /// The last lines of both logs.
    pub(crate) fn logs(&self) -> String {
        ["etcd.log", "kube-apiserver.log"].map(|name| tail(&self.folder.path().join(name))).join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(
        status.as_ref().is_ok_and(std::process::ExitStatus::success),
        "cp -a {from:?} {to:?}: {status:?}"
    );
}

/// Starts processes that end with this one, however it does, also by a signal.
///
/// The kernel sends the signal when the *thread* that started a process ends, and a test's thread ends with the test; so
/// it is one that does nothing else and stays.
fn keep(commands: Vec<(&'static str, Command, PathBuf)>) -> Vec<Process> {
    let (started, processes) = mpsc::channel();
    let start = move || {
        let start_one = |(name, mut command, log): (&'static str, Command, PathBuf)| {
            let log = File::create(&log).unwrap_or_else(|e| panic!("create {}: {e}", log.display()));
            let errors = log.try_clone().expect("share the log between both outputs");
            let child = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
            Process { name, child: child.unwrap_or_else(|e| panic!("start {name}: {e}")) }
        };
        let processes: Vec<Process> = commands.into_iter().map(start_one).collect();
        if started.send(processes).is_ok() {
            loop {
                thread::park();
            }
        }
    };
    thread::Builder::new().name("server-keeper".to_owned()).spawn(start).expect("start a thread");
    processes.recv().expect("etcd and kube-apiserver start")
}

/// The folder that holds both programs.
fn programs() -> PathBuf {
    if let Some(folder) = env::var_os("OCTAVIA_BRIDGE_TEST_KUBE") {
        return PathBuf::from(folder);
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/kube/apiserver");
    let output = Command::new(&script).arg("--cached").output();
    let output = output.unwrap_or_else(|e| panic!("run {}: {e}", script.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end())
}

/// Ports that were free a moment ago. They are let go together, so that they differ.
fn free_ports() -> [u16; 3] {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("find a free port"));
    listeners.map(|listener| listener.local_addr().expect("ask for the port").port())
}

fn tail(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    format!("{}:\n{}", file.display(), lines[lines.len().saturating_sub(15)..].join("\n"))
}
