//! `octavia-bridge`, a CNI plugin: attaches pods to a Linux bridge, with addresses and routes.
//!
//! A runtime starts this program once for each verb: the environment says which verb and container, stdin holds
//! the network configuration, stdout receives one JSON document. Called as `octavia-ipam` or `whereabouts` it is
//! an IPAM plugin that other interface plugins can use.

mod add;
mod addressing;
mod attachment;
mod bridge;
mod check;
mod config;
mod del;
mod delegate;
mod gc;
mod identity;
mod ipam_face;
mod log;
mod places;
mod pod;
mod policy;
mod port_vlans;
mod protocol;
mod record;
mod status;
mod store;
mod sysctl;
mod teardown;
mod verb;

use std::process::ExitCode;

use protocol::{Environment, Version, reply};

/// musl's asks the kernel for a few pages at a time and gives them back; for a process of three milliseconds that is a
/// twentieth of its life.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    reply::answer_panics();
    match Environment::read(|key| std::env::var_os(key)) {
        Ok(None) => {
            log::about();
            ExitCode::SUCCESS
        }
        Ok(Some(environment)) => verb::answer(verb::Face::of_program(), &environment),
        Err(error) => reply::write(Err(error), Version::NEWEST),
    }
}
