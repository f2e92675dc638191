//! What the agent says on standard error, and of itself.

use serde_json::Value;

use crate::scene::{POLICY, on_a_node};

/// Every policy's author decides on names, and a collector of logs goes by lines.
#[test]
fn a_json_log_has_one_object_a_line_whatever_names_say() {
    on_a_node(|node| {
        let policy = POLICY.replace("enp6s0", "\"x\\nINFO y\\e[2J\\u202e\"");
        let answer = node.run("apply --log-format json -f -", &policy);
        assert_ne!(answer.status, 0);
        let mut messages = String::new();
        for line in answer.stderr.lines() {
            let event: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            let object = event.as_object().unwrap();
            let mut keys: Vec<&str> = object.keys().map(String::as_str).collect();
            keys.sort_unstable();
            assert_eq!(keys, ["level", "message", "target", "timestamp"], "{line}");
            assert_eq!(object["level"], "ERROR", "{line}");
            messages.push_str(object["message"].as_str().unwrap());
        }
        assert!(messages.contains(r"x\nINFO y\u{1b}[2J\u{202e}"), "{messages}");
    });
}

#[test]
fn text_has_a_time_in_the_log_of_the_daemon_only_and_the_filter_is_heeded() {
    on_a_node(|node| {
        let answer = node.run("apply -f /nowhere", "");
        assert!(answer.stderr.starts_with("ERROR read /nowhere"), "{}", answer.stderr);
        let mut quiet = node.agent("apply -f /nowhere");
        let output = quiet.env("RUST_LOG", "off").output().unwrap();
        assert_eq!((output.status.code(), output.stderr.len()), (Some(2), 0));
        let mut mistaken = node.agent("run --health-bind none -f /nowhere");
        let output = mistaken.env("RUST_LOG", "octavia=loud").output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with("20") && said.contains("Z  WARN RUST_LOG: \"octavia=loud\": "), "{said}");
    });
}

#[test]
fn a_mistake_in_the_variable_of_the_format_ends_nothing() {
    on_a_node(|node| {
        for (format, begins) in
            [("jsno", " WARN LOG_FORMAT: \"jsno\" is neither"), ("", "ERROR read /nowhere"), ("JSON", "{")]
        {
            let mut agent = node.agent("apply -f /nowhere");
            let output = agent.env("LOG_FORMAT", format).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(said.starts_with(begins) && said.contains("read /nowhere"), "{format:?}: {said}");
        }
    });
}

#[test]
fn the_version_names_commit_and_target() {
    on_a_node(|node| {
        let version = node.ok("--version", "");
        let expected = concat!("octavia-bridge-agent ", env!("CARGO_PKG_VERSION"), " (commit ");
        assert!(version.starts_with(expected), "{version}");
        assert!(version.trim_end().ends_with(')') && version.contains(std::env::consts::ARCH), "{version}");
    });
}
