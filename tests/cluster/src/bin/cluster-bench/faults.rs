//! How long it takes to say that the API server is away.

use octavia_bridge_cluster_tests::{Cluster, Proxy};
use octavia_bridge_tests::table::{Row, Unit};

use crate::node::{Node, Pod};
use crate::single::milliseconds;

pub(crate) fn figures(cluster: &Cluster) -> Vec<Row> {
    let proxy = Proxy::start(&cluster.namespace("away"));
    let node = Node::start(&proxy.access(), "away");
    node.run("ADD", &Pod::one()).1.done();
    let mut rows = Vec::new();
    for (name, cut) in [("refuses connections", true), ("is silent", false)] {
        if cut {
            proxy.down();
        } else {
            proxy.silent();
        }
        let (took, said) = node.run("ADD", &Pod::one());
        assert!(!said.success && said.text.contains("\"code\""), "no error but {}", said.text);
        let name = format!("ADD fails, the API server {name}");
        rows.push(Row::alone(name, Unit::Milliseconds, milliseconds(took)).most(5000.0));
        proxy.up();
        node.agent.ready();
    }
    rows
}
