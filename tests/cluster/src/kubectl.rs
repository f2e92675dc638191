//! The program by which administrators build and apply what is in `daemonset/`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, str};

use serde_json::Value;
use tempfile::TempDir;

use crate::Access;

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Said {
    /// It did what it was told to.
    pub success: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Said {
    /// Standard output, of a command that succeeded.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.success, "kubectl failed: {}{}", self.stdout, self.stderr);
        self.stdout
    }
}

/// `daemonset/` of this repository.
pub fn daemonset() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../daemonset")
        .canonicalize()
        .expect("there is a daemonset/")
}

/// The objects of the kustomization in a folder, in the order in which they are applied.
///
/// # Errors
/// What kustomize says is wrong.
///
/// # Panics
/// When kubectl is not there, or prints no YAML.
pub fn kustomize(folder: &Path) -> Result<Vec<Value>, String> {
    let said = run(Command::new(program()).arg("kustomize").arg(folder));
    if !said.success {
        return Err(said.stderr);
    }
    Ok(serde_saphyr::from_multiple(&said.stdout)
        .unwrap_or_else(|e| panic!("kustomize {} printed: {e}\n{}", folder.display(), said.stdout)))
}

impl Access {
    /// Runs kubectl with these words, as this user.
    ///
    /// # Panics
    /// When it is not there.
    pub fn kubectl(&self, words: &[&str]) -> Said {
        // With what it finds out about the server, which is not to outlive that.
        let folder = TempDir::new().expect("make a folder for kubectl");
        self.write_kubeconfig(&folder.path().join("config"));
        let mut command = Command::new(program());
        command.arg("--kubeconfig").arg(folder.path().join("config")).arg("--cache-dir").arg(folder.path());
        run(command.args(words))
    }
}

/// A released kubectl, as users have it, and not the one that this machine may have.
fn program() -> PathBuf {
    env::var_os("OCTAVIA_BRIDGE_TEST_KUBECTL").map_or_else(|| tool("kubectl"), PathBuf::from)
}

/// A program that `scripts/kube/tool` has downloaded.
///
/// # Panics
/// When it has not, and cannot.
pub fn tool(name: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/kube/tool");
    let output = Command::new(&script).arg(name).output();
    let output = output.unwrap_or_else(|e| panic!("run {}: {e}", script.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(str::from_utf8(&output.stdout).expect("a path").trim_end())
}

fn run(command: &mut Command) -> Said {
    let output = command.output().unwrap_or_else(|e| panic!("run {command:?}: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { success: output.status.success(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}
