//! Whether the plugin is where the runtime looks for it, and runs there; and whether what was installed is still there.

use std::path::{Path, PathBuf};

use octavia_bridge_ipam::causes::chain;

use super::Finding;
use crate::plugin::{self, Standing, versions};

const CHECK: &str = "plugin";

/// What this program has installed, if anything.
pub(super) fn installed(state_dir: &Path) -> Vec<Finding> {
    let files = match plugin::installed(state_dir) {
        Ok(files) => files,
        Err(error) => return vec![Finding::fail(CHECK, chain(&error), "repair the file, or remove it")],
    };
    let remedy =
        "`run --cni-bin-dir` restores its files and reports what is in their way; `install` does so once";
    let finding = |(path, standing): (PathBuf, Standing)| {
        let shown = path.display();
        match standing {
            Standing::Right => Finding::ok(CHECK, format!("{shown} is unchanged since it was installed")),
            Standing::Changed => {
                Finding::warn(CHECK, format!("{shown} differs from what was installed"), remedy)
            }
            Standing::Unseen(cause) => {
                Finding::warn(CHECK, format!("{shown} was installed, and cannot be read: {cause}"), remedy)
            }
        }
    };
    files.into_iter().map(finding).collect()
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
