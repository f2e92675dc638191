//! Lines on the agent's socket: calls of plugins, and answers.

use octavia_bridge_agent::fuzzing as agent;
use octavia_bridge_ipam::wire::Reply;

/// Reads a line as the agent does and as a plugin does.
pub(crate) fn line(input: &[u8]) {
    agent::call(input);
    if let Ok(reply) = serde_json::from_slice::<Reply>(input) {
        let written = serde_json::to_vec(&reply).expect("a reply has a JSON form");
        assert_eq!(serde_json::from_slice::<Reply>(&written).expect("a reply reads back"), reply);
    }
}
