//! Time, processor, memory and size of the plugin and of the agent against programs that do the same, as ratios of one run.
//!
//! Run by `scripts/bench`.

mod agent;
mod contestant;
mod keeper;
mod memory;
mod neighbours;
mod peers;
mod plugin;
mod ports;
mod running;

use std::path::PathBuf;
use std::process::ExitCode;

use octavia_bridge_tests::table;

/// Calls before the first that counts: they make the bridges and fill the page cache.
const WARM_UP: usize = 3;

struct Options {
    plugin: bool,
    agent: bool,
    check: bool,
    /// Of the agent.
    only_repair: bool,
    rounds: usize,
    disk: PathBuf,
}

fn main() -> ExitCode {
    let Some(options) = options() else { return ExitCode::from(2) };
    table::introduce(&options.disk, options.rounds);
    let mut met = true;
    if options.plugin {
        met &= table::print(["octavia-bridge", "bridge + host-local"], &plugin::figures(&options));
    }
    if options.agent {
        for (names, rows) in agent::figures(&options) {
            met &= table::print(names, &rows);
        }
    }
    if options.check && !met { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// `None` for arguments that scripts/bench does not pass.
fn options() -> Option<Options> {
    let mut options = Options {
        plugin: false,
        agent: false,
        check: false,
        only_repair: false,
        rounds: 60,
        disk: PathBuf::new(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "plugin" => options.plugin = true,
            "agent" => options.agent = true,
            "--check" => options.check = true,
            "--only" if arguments.next()? == "repair" => options.only_repair = true,
            "--rounds" => options.rounds = arguments.next()?.parse().ok().filter(|&rounds| rounds > 0)?,
            "--disk" => options.disk = arguments.next()?.into(),
            _ => return None,
        }
    }
    options.disk.is_dir().then_some(options)
}
