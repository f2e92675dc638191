//! `octavia-bridge-agent`: keeps a node's VLAN interfaces and bridges as a policy describes them.
//!
//! Its rooms, each of which knows only those below it:
//!
//! - `commands`: the command line, and one file or directory for each command; `commands::run` starts the agent.
//! - `reconcile`: the loop that keeps the node as files and policies describe it.
//! - `cluster`: the API server's side. `policies` follows policies and reports on them, `broker` gives addresses to the
//!   plugin, `reclaim` frees addresses whose pods are gone.
//! - `node`: the node's side. `desired`, `observed`, the `plan` between them, `apply`, and the kept `state`.
//! - `attachments`: what the plugin recorded on this node, and whether it lives.
//! - `others`: files by which other programs leave the links alone.
//! - `plugin`: the CNI plugin's file in the container runtime's directory.
//! - `health`: probes, readiness and metrics; `log`: the log on standard error; `data_dir`: the name of a directory.
//!
//! The program is a library so that fuzzers reach what it reads; nothing else is meant to use it.

mod attachments;
mod cluster;
mod commands;
mod data_dir;
#[doc(hidden)]
pub mod fuzzing;
mod health;
mod log;
mod node;
mod others;
mod plugin;
mod reconcile;
mod seconds;
mod sha256;
mod signals;
mod socket;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use commands::Cli;

/// Status for wrong usage and input, clap's own as well.
const WRONG_INPUT: u8 = 2;

/// Status of a failure after which the node is not as it was before.
const CHANGED: u8 = 4;

/// How long what works for a verb that has ended, such as a write to a slow disk, is waited for.
const LAST: Duration = Duration::from_secs(2);

/// Does what the command line asks for, and gives the status to end with.
pub fn run() -> ExitCode {
    // A reload right after the start, as of a systemd unit, would end `run`, which is not yet listening for it.
    signals::hold_hangup(true);
    let cli = Cli::parse();
    signals::hold_hangup(cli.is_daemon());
    end_with_a_panic();
    log::begin(cli.log_format, cli.is_daemon());
    node::observed::find_settings_below(&cli.proc_sys);
    match answer(&cli) {
        Ok(status) => status,
        Err(error) => {
            // A list of problems, each made visible already.
            for line in format!("{error:#}").lines() {
                tracing::error!("{line}");
            }
            if error.is::<node::source::Error>() {
                ExitCode::from(WRONG_INPUT)
            } else if commands::has_changed_the_node(&error) {
                ExitCode::from(CHANGED)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn answer(cli: &Cli) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(commands::carry_out(cli));
    runtime.shutdown_timeout(LAST);
    answer
}

/// What a panic leaves in memory is not to be gone on with: the program ends, and what it kept is on disk. Only the thread
/// that keeps the links ends alone, since it shares nothing with the others that it could leave half done.
fn end_with_a_panic() {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        say(panic);
        if !reconcile::is_expendable(std::thread::current().name()) {
            std::process::abort();
        }
    }));
}
