//! The cluster of scripts/playground: an API server, what is shipped for it, and a proxy that can cut it off.
//!
//! `playground FOLDER NODE=NAMESPACE...`, where NAMESPACE is the node's network namespace, writes FOLDER/kubeconfig for an
//! administrator and, for each node, FOLDER/NODE.kubeconfig for its agent and FOLDER/NODE.whereabouts for whereabouts, says
//! `ready`, and then obeys standard input: `down`, `silent`, `up`. It ends with that.

#![expect(clippy::print_stdout, reason = "the script that starts this waits for its word")]

use std::path::{Path, PathBuf};
use std::{env, io};

use octavia_bridge_cluster_tests::{Cluster, Proxy, Relay, shipped_rights};
use serde_json::json;

const USAGE: &str = "usage: playground FOLDER NODE=NAMESPACE...";

fn main() {
    let mut arguments = env::args().skip(1);
    let folder = PathBuf::from(arguments.next().expect(USAGE));
    let cluster = Cluster::start();
    let admin = cluster.admin();
    for object in shipped_rights() {
        admin.apply(&object.to_string());
    }
    admin.create("/api/v1/namespaces", &json!({"metadata": {"name": "openstack"}}));
    admin.write_kubeconfig(&folder.join("kubeconfig"));
    let proxy = Proxy::start(&cluster.service_account("kube-system", "octavia-bridge-agent"));
    let mut relays = Vec::new();
    for argument in arguments {
        let (node, namespace) = argument.split_once('=').expect(USAGE);
        cluster.node(node);
        proxy.listen_in(Path::new(namespace)).write_kubeconfig(&folder.join(format!("{node}.kubeconfig")));
        // Its rights are not what is looked at here.
        let relay = Relay::start(&admin.in_namespace("kube-system"), Path::new(namespace));
        relay.access().write_kubeconfig(&folder.join(format!("{node}.whereabouts")));
        relays.push(relay);
    }
    println!("ready");
    for word in io::stdin().lines() {
        match word.expect("read standard input").as_str() {
            "down" => proxy.down(),
            "silent" => proxy.silent(),
            "up" => proxy.up(),
            other => panic!("{other:?} is none of down, silent, up"),
        }
        println!("done");
    }
}
