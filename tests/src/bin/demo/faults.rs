//! What a mistake looks like: one error object, and nothing done.

use octavia_bridge_tests::conf;
use serde_json::{Value, json};

use crate::attachments::as_multus;
use crate::screen::{Screen, check, wrapped};
use crate::topology::Topology;

const WIDTH: usize = 108;

pub(crate) fn show(screen: &Screen, topology: &Topology, conf: &Value) {
    screen.heading("7. What a mistake looks like");
    screen.say("The range ends before it begins (range_end 172.23.0.7 for .70), so ADD answers:");
    refused(screen, topology, &conf::with(conf.clone(), json!({"ipam": {"range_end": "172.23.0.7"}})), 7);
    screen.say("Five addresses for six pods, so the sixth ADD answers:");
    refused(screen, topology, &conf::with(conf.clone(), json!({"ipam": {"range_end": "172.23.0.34"}})), 101);
    screen.holds("each one object on standard output with exit status 1, and nothing on the node or in the pool changed");
}

fn refused(screen: &Screen, topology: &Topology, conf: &Value, code: u64) {
    let node = &topology.node1;
    let name = "octavia-worker-late1";
    let pod = node.pod(name);
    let before = node.snapshot(&[&pod]);
    let outcome = as_multus(pod.add(conf), name, pod.container_id()).run();
    let error = outcome.error(code);
    check(
        "differences after the refused ADD",
        Vec::<String>::new(),
        node.snapshot(&[&pod]).difference_from(&before),
    );
    let texts =
        [Some(("msg", error.msg)), Some(("details", error.details)).filter(|(_, text)| !text.is_empty())];
    screen.say(&format!("  code     {}", error.code));
    for (key, text) in texts.into_iter().flatten() {
        let indented = wrapped(&text, WIDTH - 13).replace('\n', "\n           ");
        screen.say(&format!("  {key:8} {indented}"));
    }
}
