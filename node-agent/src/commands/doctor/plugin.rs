//! Whether the plugin is where the runtime looks for it, and runs there; and whether what was installed is still there.

use std::path::Path;

use octavia_bridge_ipam::causes::chain;

use super::Finding;
use crate::plugin::{self, FileState, versions};

const CHECK: &str = "plugin";

/// What this program has installed, if anything.
pub(super) fn installed(state_dir: &Path) -> Vec<Finding> {
    match plugin::installed(state_dir) {
        Ok(files) => files.iter().map(|(path, state)| compare(path, state)).collect(),
        Err(error) => vec![Finding::fail(CHECK, chain(&error), "let the agent write it again, or remove it")],
    }
}

fn compare(path: &Path, state: &FileState) -> Finding {
    let remedy =
        "`run --cni-bin-dir` restores its files and reports what is in their way; `install` does so once";
    let shown = path.display();
    match state {
        FileState::Unchanged => Finding::ok(CHECK, format!("{shown} is unchanged since it was installed")),
        FileState::Changed => {
            Finding::warn(CHECK, format!("{shown} differs from what was installed"), remedy)
        }
        FileState::Unreadable(cause) => {
            Finding::warn(CHECK, format!("{shown} was installed, and cannot be read: {cause}"), remedy)
        }
    }
}

pub(super) fn look(program: &Path) -> Finding {
    match versions(program) {
        Ok(versions) => Finding::ok(CHECK, format!("{} speaks CNI {versions}", program.display())),
        Err(why) => {
            let remedy = "install the plugin there: it is one static file, of mode 0755";
            Finding::fail(CHECK, format!("{}: {why}", program.display()), remedy)
        }
    }
}
