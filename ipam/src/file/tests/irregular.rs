//! Things that bear the names of documents and locks but are no files.

use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::mpsc::channel;

use super::*;

/// Every way to put something at `path` that is no regular file.
fn put(kind: &str, path: &Path) {
    match kind {
        "FIFO" => assert!(Command::new("mkfifo").arg(path).status().unwrap().success()),
        "socket" => drop(UnixListener::bind(path).unwrap()),
        "directory" => fs::create_dir(path).unwrap(),
        "symbolic link" => std::os::unix::fs::symlink("/dev/zero", path).unwrap(),
        other => panic!("{other}"),
    }
}

/// Runs `attempt` on a thread of its own, which is left behind should it hang.
fn in_time<T: Send + 'static>(attempt: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = channel();
    std::thread::spawn(move || sender.send(attempt()).ok());
    receiver.recv_timeout(Duration::from_secs(10)).expect("it waits for ever")
}

#[test]
fn a_document_that_is_no_file_is_refused() {
    for kind in ["FIFO", "socket", "directory", "symbolic link"] {
        let host = Host::new();
        host.add(&octavia(), "a").unwrap();
        let path = host.pools().join("172.23.0.0-24.json");
        fs::remove_file(&path).unwrap();
        put(kind, &path);
        let store = host.store.clone();
        let errors = in_time(move || {
            [
                add(&store, &octavia(), "b", soon()).map(drop).unwrap_err(),
                store.held("a", "net1", &conf(&octavia())).map(drop).unwrap_err(),
                store.usage(&conf(&octavia())).map(drop).unwrap_err(),
            ]
        });
        for error in errors {
            let named = matches!(&error, StoreError::Corrupt { path: named, .. } if *named == path);
            assert!(named && error.to_string().contains(kind), "{error}");
        }
        let store = host.store.clone();
        let outcome = in_time(move || store.release_or_entomb("a", "net1", soon()).unwrap());
        assert!(matches!(outcome, Released::Entombed(_)), "{kind}: {outcome:?}");
    }
}

#[test]
fn a_lock_that_is_no_file_is_refused() {
    for kind in ["FIFO", "socket", "directory", "symbolic link"] {
        let host = Host::new();
        fs::create_dir_all(host.pools()).unwrap();
        put(kind, &host.pools().join(".lock"));
        let store = host.store.clone();
        let error = in_time(move || add(&store, &octavia(), "a", soon()).unwrap_err());
        assert!(
            matches!(&error, StoreError::Io { attempt: "open lock", source, .. }
            if source.to_string().contains(kind)),
            "{kind}: {error:?}"
        );
    }
}

#[test]
fn a_leftover_that_is_no_file_is_not_waited_for() {
    let host = Host::new();
    let ipam = json!({ "range": "10.0.0.0/24" });
    host.add(&ipam, "a").unwrap();
    put("FIFO", &host.pools().join(".10.0.0.0-24.tmp"));
    let store = host.store.clone();
    assert_eq!(in_time(move || add(&store, &ipam, "b", soon())).unwrap(), ["10.0.0.2/24"]);
}

#[test]
fn a_leftover_that_stays_stops_only_the_writers_of_its_pool() {
    let host = Host::new();
    host.add(&octavia(), "a").unwrap();
    put("directory", &host.pools().join(".10.0.0.0-24.tmp"));
    assert_eq!(host.add(&octavia(), "b").unwrap(), ["172.23.0.31/24"]);
    assert_eq!(host.store.release("a", "net1", soon()).unwrap(), 1);
    let error = host.add(&json!({ "range": "10.0.0.0/24" }), "c").unwrap_err();
    assert!(matches!(&error, StoreError::Io { path, .. } if path.ends_with(".10.0.0.0-24.tmp")), "{error}");
}

#[test]
fn a_tombstone_that_is_no_file_is_not_waited_for() {
    let host = Host::new();
    host.add(&octavia(), "a").unwrap();
    put("FIFO", &host.tombstones().join("a@net1"));
    let lock = Lock::take(&host.pools(), soon()).unwrap();
    let store = host.store.clone();
    let outcome = in_time(move || store.release_or_entomb("a", "net1", Instant::now()));
    assert!(matches!(outcome, Err(StoreError::Incomplete { .. })), "{outcome:?}");
    drop(lock);
}
