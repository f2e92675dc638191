//! Changes to the link of the node's own default route.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use crate::scene::{on_a_node, until};

/// For a process to start and a link to come up, on however busy a machine.
const START: Duration = Duration::from_secs(30);

#[test]
fn a_change_that_cuts_the_node_off_is_taken_back_and_a_harmless_one_stays() {
    on_a_node(|node| {
        node.ip("link set enp6s0 up");
        node.ip("addr add 10.1.1.1/24 dev enp6s0");
        node.ip("route add default via 10.1.1.9");
        let before = node.snapshot();
        let down = "interfaces: [{name: enp6s0, type: ethernet, state: down}]";
        let untestable = node.run("apply -f -", down);
        assert_eq!(untestable.status, 1);
        assert!(
            untestable.stderr.contains("the gateway 10.1.1.9 does not answer even before the change"),
            "{}",
            untestable.stderr
        );
        assert_eq!(node.snapshot(), before);

        // The gateway: another namespace at the other end of the wire.
        let mut gateway = Command::new("unshare").args(["--net", "sleep", "600"]).spawn().unwrap();
        let pid = gateway.id();
        let namespace_of = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).unwrap();
        let has_its_own = || namespace_of(&pid.to_string()) != namespace_of("thread-self");
        until(START, "the gateway is in a namespace of its own", has_its_own);
        node.ip(&format!("link set wire netns {pid}"));
        let inside = |words: &str| {
            let mut command = Command::new("nsenter");
            command.args(["-t", &pid.to_string(), "-n", "ip"]).args(words.split_whitespace());
            assert!(command.status().unwrap().success(), "{words}");
        };
        inside("addr add 10.1.1.9/24 dev wire");
        inside("link set wire up");
        // Nothing listens there, and the gateway says so.
        let answers = || {
            let refused = TcpStream::connect_timeout(&([10, 1, 1, 9], 9).into(), Duration::from_secs(1));
            refused.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
        };
        until(START, "the gateway answers", answers);
        let before = node.snapshot();

        let cut = node.run("apply -f -", down);
        let after = node.snapshot();
        let harmless = node.run("apply -f -", "interfaces: [{name: enp6s0, type: ethernet, mtu: 1400}]");
        gateway.kill().unwrap();
        gateway.wait().unwrap();
        assert_eq!(cut.status, 1, "{}", cut.stdout);
        assert!(cut.stderr.contains("no answer from the gateway 10.1.1.9 within"), "{}", cut.stderr);
        assert!(cut.stderr.contains("everything was put back"), "{}", cut.stderr);
        assert_eq!(cut.stderr.matches("no answer from").count(), 1, "{}", cut.stderr);
        assert_eq!(harmless.status, 0, "{}", harmless.stderr);
        assert_eq!(after, before, "the routes are back as well");
    });
}
