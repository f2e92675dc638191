//! A rival as a process, which may be killed.

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;

use clap::Parser;
use ipnet::IpNet;
use octavia_bridge_cluster_tests::{Access, Rival};

/// Adds and deletes pods' addresses as whereabouts does, and prints each operation as a line of JSON when it is over.
#[derive(Parser)]
struct Arguments {
    /// Address, user and namespace; one that `Access::write_kubeconfig` wrote.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// The range in CIDR notation.
    #[arg(long)]
    range: IpNet,
    /// First and last address, when it is not the whole range.
    #[arg(long, num_args = 2, value_names = ["FIRST", "LAST"])]
    between: Option<Vec<IpAddr>>,
    /// `network_name` of the pool.
    #[arg(long)]
    network: Option<String>,
    /// A name for its pods, which no other rival has.
    #[arg(long)]
    name: String,
    /// How many pods it has.
    #[arg(long, default_value_t = 10)]
    pods: u32,
    /// How many operations to do.
    #[arg(long, default_value_t = 100)]
    operations: u32,
    /// What decides the order of operations.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() {
    let arguments = Arguments::parse();
    let access = Access::read_kubeconfig(&arguments.kubeconfig);
    let mut rival = Rival::new(&access, arguments.range);
    if let Some([first, last]) = arguments.between.as_deref() {
        rival = rival.between(*first, *last);
    }
    if let Some(network) = &arguments.network {
        rival = rival.network(network);
    }
    let Arguments { name, pods, operations, seed, .. } = arguments;
    rival.work(&name, pods, operations, seed, |operation| {
        let line = serde_json::to_string(&operation).expect("an operation is JSON");
        let mut out = io::stdout().lock();
        // One write: a reader of the pipe sees whole lines, also if this process is killed.
        writeln!(out, "{line}").expect("somebody reads what the rival does");
    });
}
