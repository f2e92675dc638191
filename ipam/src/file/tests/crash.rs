//! What killed writers and hostile file systems leave behind.

use std::process::{Child, Command, Stdio};
use std::thread::sleep;

use super::*;

const ROLE: &str = "IPAM_TEST_CHURN_IN";

#[test]
fn leftovers_of_killed_writers_are_removed() {
    let host = Host::new();
    host.add(&octavia(), "a").unwrap();
    host.write(".172.23.0.0-24.tmp", "{ \"half\": ");
    host.write("notes.txt", "not ours");
    assert_eq!(host.add(&octavia(), "b").unwrap(), ["172.23.0.31/24"]);
    assert_eq!(host.files(&host.pools()), ["172.23.0.0-24.json", "notes.txt"]);
    // Those of other pools go with a release, which passes over all of them.
    host.write(".10.0.0.0-24.tmp", "{ \"half\": ");
    host.store.release("a", "net1", soon()).unwrap();
    assert_eq!(host.files(&host.pools()), ["172.23.0.0-24.json", "notes.txt"]);
}

#[test]
fn a_removed_lock_file_does_not_make_two_writers() {
    let host = Host::new();
    host.add(&octavia(), "a").unwrap();
    let first = Lock::take(&host.pools(), soon()).unwrap();
    let (dir, waiter) = (host.pools(), Duration::from_millis(400));
    let waiting = std::thread::spawn(move || Lock::take(&dir, Instant::now() + waiter).map(drop));
    // The waiter has the old file open; a new file is locked by somebody else when the old one is freed.
    sleep(Duration::from_millis(100));
    fs::remove_file(host.pools().join(".lock")).unwrap();
    let second = Lock::take(&host.pools(), soon()).unwrap();
    drop(first);
    assert!(matches!(waiting.join().unwrap(), Err(StoreError::Locked { .. })));
    drop(second);
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let host = Host::new();
    // A file where the directory should be: also root cannot write there.
    fs::write(host.dir.path().join("data"), "").unwrap();
    for attempt in [host.add(&octavia(), "a").map(drop), host.store.usage(&conf(&octavia())).map(drop)] {
        let error = attempt.unwrap_err();
        assert!(matches!(&error, StoreError::Io { .. }), "{error}");
        assert!(error.to_string().contains(host.dir.path().to_str().unwrap()), "{error}");
    }
}

#[test]
fn a_document_that_cannot_be_replaced_stays_whole() {
    let host = Host::new();
    host.add(&json!({ "range": "10.0.0.0/24" }), "a").unwrap();
    // The second text cannot be written beside its pool, so the first must not take effect either.
    fs::create_dir(host.pools().join(".10.1.0.0-24.tmp")).unwrap();
    let both = json!({
        "enable_overlapping_ranges": false,
        "ipRanges": [{ "range": "10.0.0.0/24" }, { "range": "10.1.0.0/24" }],
    });
    let error = host.add(&both, "b").unwrap_err();
    assert!(matches!(&error, StoreError::Io { attempt: "write", .. }), "{error}");
    assert_eq!(host.document("10.0.0.0-24")["spec"]["allocations"].as_object().unwrap().len(), 1);
    assert_eq!(host.files(&host.pools()), [".10.1.0.0-24.tmp", "10.0.0.0-24.json"]);
}

#[test]
fn a_tombstone_that_cannot_be_written_is_an_error() {
    let host = Host::new();
    host.add(&octavia(), "a").unwrap();
    fs::remove_dir(host.tombstones()).unwrap();
    fs::write(host.tombstones(), "").unwrap();
    let lock = Lock::take(&host.pools(), soon()).unwrap();
    let error = host.store.release_or_entomb("a", "net1", Instant::now()).unwrap_err();
    assert!(error.to_string().contains(".lock") && error.to_string().contains("tombstones"), "{error}");
    drop(lock);
}

/// Started again by the test below, this process adds and releases until it is killed, or for as long as
/// the test may take.
fn churn(dir: &Path) {
    let (store, end) = (store_in(dir), soon());
    while Instant::now() < end {
        for id in ["x", "y", "z"] {
            add(&store, &octavia(), id, soon()).unwrap();
        }
        for id in ["x", "y", "z"] {
            store.release(id, "net1", soon()).unwrap();
        }
    }
}

fn start(dir: &Path) -> Child {
    let name = "file::tests::crash::a_killed_writer_leaves_a_whole_pool_and_no_lock";
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture"]).env(ROLE, dir);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_killed_writer_leaves_a_whole_pool_and_no_lock() {
    if let Some(dir) = std::env::var_os(ROLE) {
        return churn(Path::new(&dir));
    }
    let host = Host::new();
    host.add(&octavia(), "stays").unwrap();
    for round in 0..12 {
        let mut child = start(host.dir.path());
        // Wait for its first write, then kill it at some other point of its work each time.
        let began = Instant::now();
        let busy = || !host.held(&octavia(), "x").is_empty();
        while !busy() {
            assert!(began.elapsed() < Duration::from_secs(20), "the child does not work");
            sleep(Duration::from_micros(200));
        }
        sleep(Duration::from_micros(370 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        for id in ["x", "y", "z"] {
            host.store.release(id, "net1", soon()).unwrap();
        }
        assert_eq!(host.files(&host.pools()), ["172.23.0.0-24.json"], "round {round}");
        assert_eq!(
            host.document("172.23.0.0-24")["spec"]["allocations"],
            json!({ "30": { "id": "stays", "podref": "", "ifname": "net1" } }),
            "round {round}"
        );
    }
}
