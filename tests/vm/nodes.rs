//! Two nodes on a trunk, their pods, and a call between these.

use std::io::{Read, Write, stderr};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use octavia_bridge_tests::{Agent, Attached, Lab, Namespace, Node, Pod};
use serde_json::Value;

/// Octavia's node policy, word for word.
pub(crate) const POLICY: &str = include_str!("../../node-agent/tests/fixtures/octavia.yaml");
/// For what must happen. An emulated processor is some twenty times slower than a real one.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// For what must not happen; what happens takes a tenth of it.
pub(crate) const SILENCE: Duration = Duration::from_millis(500);

/// Two hosts of one disk, and thereby of one pool, with a trunk between them and nothing on it.
pub(crate) fn two_nodes(lab: &Lab) -> [Node; 2] {
    let first = lab.node("node1");
    let second = lab.node_on_disk_of("node2", &first);
    lab.trunk(&first, &second);
    [first, second]
}

/// Two nodes whose agents have brought the policy about.
pub(crate) fn two_kept_nodes(lab: &Lab) -> [Agent; 2] {
    let [first, second] = two_nodes(lab);
    let agents = [Agent::on(&first, "node1"), Agent::on(&second, "node2")];
    for agent in &agents {
        agent.ok("apply", POLICY);
    }
    agents
}

pub(crate) fn attach(node: &Node, name: &str, conf: &Value) -> (Pod, Attached) {
    let pod = node.pod(name);
    let attached = pod.add(conf).run().attached();
    (pod, attached)
}

/// A connection from one to the other, with bytes in both directions.
pub(crate) fn call(from: &Namespace, to: &Namespace, address: IpAddr) {
    let address = SocketAddr::from((address, 9443));
    let listener = to.run(|| TcpListener::bind(address)).expect("listen");
    let answer = thread::scope(|scope| {
        scope.spawn(|| listener.accept().and_then(|(mut stream, _)| stream.write_all(b"hello")));
        from.run(|| {
            let mut stream = TcpStream::connect_timeout(&address, PATIENCE).expect("connect");
            stream.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("read the answer");
            answer
        })
    });
    assert_eq!(answer, "hello");
}

/// A measurement for readers of the output; cargo hides the output of a passing test.
pub(crate) fn report(text: &str) {
    // A closed standard error loses only the measurement.
    writeln!(stderr(), "{text}").unwrap_or_default();
}
