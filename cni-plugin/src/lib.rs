//! `octavia-bridge`, a CNI plugin: attaches pods to a Linux bridge, with addresses and routes.
//!
//! A runtime starts this program once for each verb: the environment says which verb and container, stdin holds
//! the network configuration, stdout receives one JSON document. Called as `octavia-ipam` or `whereabouts` it is
//! an IPAM plugin that other interface plugins can use.
//!
//! The program is a library so that fuzzers reach what it reads; nothing else is meant to use it.

mod add;
mod addressing;
mod attachment;
mod bridge;
mod check;
mod config;
mod del;
mod delegate;
#[doc(hidden)]
pub mod fuzzing;
mod gc;
mod identity;
mod ipam_face;
mod life;
mod log;
mod namesake;
mod patience;
mod places;
mod pod;
mod policy;
mod port_vlans;
mod protocol;
mod record;
mod status;
mod store;
mod sysctl;
mod takeover;
mod teardown;
mod verb;
mod writer;

use std::process::ExitCode;

use protocol::{Environment, Version, reply};

/// Answers one call, which the environment and stdin describe, and gives the status to end with.
pub fn run() -> ExitCode {
    if let Some(done) = writer::asked() {
        return done;
    }
    patience::begin();
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
