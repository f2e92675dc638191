//! What people read beside the protocol: warnings and errors, one line each, on stderr.

use std::io::Write;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt;

use crate::protocol::Version;

/// Sends events to stderr from `warn` up. Runtimes keep a plugin's stderr in their own log, which has the time.
pub(crate) fn start() {
    let subscriber = fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .with_max_level(LevelFilter::WARN)
        .finish();
    // Fails only when there is a subscriber already, and then events have somewhere to go.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// For a person who starts the program by hand. Stdout belongs to the protocol even then.
pub(crate) fn about() {
    let versions: Vec<_> = Version::ALL.iter().map(|version| version.as_str()).collect();
    // Nobody to tell if stderr is closed.
    let _ = writeln!(
        std::io::stderr(),
        "octavia-bridge {}: CNI plugin that attaches pods to a Linux bridge; started by a container runtime, not by hand.\n\
         CNI protocol versions supported: {}",
        env!("CARGO_PKG_VERSION"),
        versions.join(", ")
    );
}
