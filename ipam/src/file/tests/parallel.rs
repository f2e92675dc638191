//! Many writers at a time: threads of one process, and processes.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use super::*;

const ROLE: &str = "IPAM_TEST_ADD_IN";

#[test]
fn forty_threads_get_forty_addresses() {
    let host = Host::new();
    let results: Vec<Vec<String>> = std::thread::scope(|scope| {
        let start = |n: usize| {
            let (store, id) = (host.store.clone(), format!("c{n}"));
            scope.spawn(move || add(&store, &octavia(), &id, soon()).unwrap())
        };
        let threads: Vec<_> = (0..40).map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let distinct: BTreeSet<String> = results.into_iter().flatten().collect();
    let expected: BTreeSet<String> = (30..70).map(|n| format!("172.23.0.{n}/24")).collect();
    assert_eq!(distinct, expected);
    std::thread::scope(|scope| {
        for n in 0..40 {
            let store = host.store.clone();
            scope.spawn(move || assert_eq!(store.release(&format!("c{n}"), "net1", soon()).unwrap(), 1));
        }
    });
    assert_eq!(host.document("172.23.0.0-24")["spec"]["allocations"], json!({}));
}

#[test]
fn processes_get_addresses_of_their_own() {
    const PROCESSES: usize = 8;
    const EACH: usize = 5;
    if let Some(dir) = std::env::var_os(ROLE) {
        let store = store_in(Path::new(&dir));
        for n in 0..EACH {
            add(&store, &octavia(), &format!("p{}-{n}", std::process::id()), soon()).unwrap();
        }
        return;
    }
    let host = Host::new();
    let start = |_| {
        let name = "file::tests::parallel::processes_get_addresses_of_their_own";
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", name]).env(ROLE, host.dir.path()).stdout(Stdio::null()).spawn().unwrap()
    };
    let children: Vec<_> = (0..PROCESSES).map(start).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let document = host.document("172.23.0.0-24");
    let allocations = document["spec"]["allocations"].as_object().unwrap();
    let holders: BTreeSet<&str> = allocations.values().map(|entry| entry["id"].as_str().unwrap()).collect();
    assert_eq!((allocations.len(), holders.len()), (PROCESSES * EACH, PROCESSES * EACH));
}
