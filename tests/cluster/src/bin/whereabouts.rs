//! A rival as the program `whereabouts`, which the reference bridge plugin asks for a pod's address.
//!
//! As a plugin it reads of its `ipam` block `range`, `range_start`, `range_end`, `routes` and `kubernetes.kubeconfig`, which
//! must be a file that `Access::write_kubeconfig` wrote. `whereabouts reconcile`, with the same document on standard input, is
//! a run of the reconciler, and prints the addresses that it freed.

#![expect(clippy::print_stdout, reason = "a plugin's answer is what it prints")]

use std::path::Path;
use std::{env, io};

use ipnet::IpNet;
use octavia_bridge_cluster_tests::{Access, Claim, Rival};
use serde_json::{Value, json};

fn main() {
    let conf: Value = serde_json::from_reader(io::stdin()).expect("read the configuration");
    let ipam = &conf["ipam"];
    let range: IpNet = parsed(ipam, "range");
    let kubeconfig = ipam["kubernetes"]["kubeconfig"].as_str().expect("ipam.kubernetes.kubeconfig");
    let access = Access::read_kubeconfig(Path::new(kubeconfig));
    let rival = Rival::new(&access, range).between(parsed(ipam, "range_start"), parsed(ipam, "range_end"));
    if env::args().nth(1).as_deref() == Some("reconcile") {
        for address in rival.reconcile().expect("reconcile") {
            println!("{address}");
        }
        return;
    }
    let claim =
        Claim { ifname: variable("CNI_IFNAME"), ..Claim::new(&variable("CNI_CONTAINERID"), &podref()) };
    match variable("CNI_COMMAND").as_str() {
        "ADD" => {
            let address = rival.add(&claim).expect("an address");
            let address = IpNet::new(address, range.prefix_len()).expect("a range's prefix");
            let ip = json!({"version": if range.addr().is_ipv4() { "4" } else { "6" }, "address": address});
            let result = json!({"cniVersion": conf["cniVersion"], "ips": [ip], "routes": ipam["routes"]});
            println!("{result}");
        }
        // Whereabouts itself says that all went well, also when nothing did.
        "DEL" => rival.del(&claim).expect("released"),
        other => panic!("{other} is none of ADD, DEL"),
    }
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(ipam: &Value, key: &str) -> T {
    ipam[key].as_str().unwrap_or_default().parse().unwrap_or_else(|e| panic!("ipam.{key}: {e:?}"))
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// `namespace/name` of the pod.
fn podref() -> String {
    let arguments = variable("CNI_ARGS");
    let value = |key: &str| {
        let found = arguments.split(';').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        found.unwrap_or_else(|| panic!("CNI_ARGS has no {key}")).to_owned()
    };
    format!("{}/{}", value("K8S_POD_NAMESPACE"), value("K8S_POD_NAME"))
}
