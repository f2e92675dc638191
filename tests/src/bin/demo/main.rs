//! Octavia's management network in namespaces: pods on two nodes, a router, an amphora, and real packets between them.
//!
//! Run by `scripts/demo`. It shows what it sees in the kernel and checks every step; the first difference ends it with
//! exit status 1.

mod attachments;
mod faults;
mod restart;
mod screen;
mod topology;
mod traffic;

use std::panic::{self, PanicHookInfo};
use std::process::ExitCode;
use std::time::Instant;

use octavia_bridge_tests::conf;

use crate::screen::Screen;
use crate::topology::Topology;

fn main() -> ExitCode {
    // A step that fails panics, here as in the tests; what it is worth to a user is its message.
    panic::set_hook(Box::new(say_failure));
    panic::catch_unwind(story).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

fn story() {
    let started = Instant::now();
    let screen = Screen::new();
    let conf = conf::octavia();

    let mut topology = Topology::build();
    topology.draw(&screen);
    attachments::show_conf(&screen, &conf);

    let untouched = topology.snapshots();
    let mut pods = attachments::attach_all(&screen, &mut topology, &conf);
    attachments::show_pool(&screen, &topology);
    traffic::controllers_to_amphora(&screen, &topology, &pods);
    traffic::heartbeats(&screen, &topology, &pods);
    restart::health_manager(&screen, &topology, &mut pods, &conf);
    faults::show(&screen, &topology, &conf);
    attachments::detach_all(&screen, &topology, &pods, &conf, &untouched);

    screen
        .conclude(&format!("Every step came out as it should, in {:.1} s.", started.elapsed().as_secs_f64()));
}

fn say_failure(panic: &PanicHookInfo<'_>) {
    let payload = panic.payload();
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("a step failed without a word");
    let place =
        panic.location().map(|place| format!(" ({}:{})", place.file(), place.line())).unwrap_or_default();
    screen::complain(&format!("FAILED{place}: {text}"));
}
