//! `octavia-bridge-agent`: keeps a node's VLAN interfaces and bridges as a policy describes them.

use std::process::ExitCode;

fn main() -> ExitCode {
    octavia_bridge_agent::run()
}
