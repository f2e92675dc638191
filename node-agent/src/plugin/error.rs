//! Why the plugin is not in its directory, in words that name the file and what to do.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

/// Why a file is not in the directory as it should be, by what can be done about it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{attempt}{}", advice(source))]
    Io { attempt: String, source: io::Error },
    #[error(
        "cannot use the CNI directory {}: name the directory in which the container runtime looks for plugins; \
         in a container, mount it from the host", path.display()
    )]
    Directory { path: PathBuf, source: io::Error },
    #[error("the plugin {} cannot be read: name the one to install with --plugin (PLUGIN_FILE)", path.display())]
    Source { path: PathBuf, source: io::Error },
    #[error("{}, which was to be installed: {why}; name the plugin with --plugin (PLUGIN_FILE)", path.display())]
    Unfit { path: PathBuf, why: String },
    #[error(
        "{} is not what was written there ({why}), so it is not known which files are this program's; `run` or `install` \
         with --cni-bin-dir sets it aside and writes it again", path.display()
    )]
    Record { path: PathBuf, why: String },
    #[error(
        "{} is not octavia-bridge-agent's ({what}) and was left alone; remove it, or {instead}", path.display()
    )]
    Foreign { path: PathBuf, what: &'static str, instead: &'static str },
    #[error(
        "nothing that was installed is in {}: it was installed in {}, which may be the same directory under a \
         container's path; name the right one", bin_dir.display(), installed.display()
    )]
    Elsewhere { bin_dir: PathBuf, installed: PathBuf },
}

pub(super) fn io_error(attempt: impl Into<String>, source: io::Error) -> Error {
    Error::Io { attempt: attempt.into(), source }
}

fn advice(cause: &io::Error) -> &'static str {
    match cause.kind() {
        ErrorKind::ReadOnlyFilesystem => " (it must be writable for octavia-bridge-agent, also as a mount)",
        ErrorKind::PermissionDenied => {
            " (the directory must belong to root: octavia-bridge-agent may lack the capability to override permissions)"
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => " (make room there)",
        _ => "",
    }
}
