//! Releases that could not be done at once, and what releases free.

use super::*;
use crate::processor_time::processor_time;

/// Leaves a tombstone, as while another process holds the lock.
fn entomb(host: &Host, id: &str) {
    let lock = Lock::take(&host.pools(), soon()).unwrap();
    host.store.release_or_entomb(id, "net1", Instant::now()).unwrap();
    drop(lock);
}

#[test]
fn a_release_goes_on_over_a_corrupt_pool_and_is_finished_later() {
    let host = Host::new();
    let (one, two) = (json!({ "range": "10.0.0.0/24" }), json!({ "range": "10.1.0.0/24" }));
    host.add(&json!({ "ipRanges": [one, two] }), "a").unwrap();
    let path = host.pools().join("10.0.0.0-24.json");
    let good = fs::read(&path).unwrap();
    host.write("10.0.0.0-24.json", "{");
    let error = host.store.release("a", "net1", soon()).unwrap_err();
    assert!(
        matches!(&error, StoreError::Incomplete { released: 1, failures } if failures.len() == 1),
        "{error}"
    );
    assert!(error.to_string().contains("10.0.0.0-24.json"), "{error}");
    assert!(host.files(&host.tombstones()).is_empty(), "a plain release leaves no tombstone");

    assert!(matches!(host.store.release_or_entomb("a", "net1", soon()), Ok(Released::Entombed(_))));
    assert_eq!(host.files(&host.tombstones()), ["a@net1"]);
    assert_eq!(host.add(&two, "b").unwrap(), ["10.1.0.1/24"], "others are none the worse");
    fs::write(&path, good).unwrap();
    assert_eq!(host.held(&one, "a"), ["10.0.0.1/24"]);
    assert_eq!(host.add(&one, "c").unwrap(), ["10.0.0.1/24"], "replayed before anything is chosen");
    assert_eq!(host.held(&two, "b"), ["10.1.0.1/24"]);
    assert!(host.files(&host.tombstones()).is_empty());
}

#[test]
fn a_release_replays_tombstones_too() {
    let host = Host::new();
    host.add(&octavia(), "a").unwrap();
    host.add(&octavia(), "b").unwrap();
    entomb(&host, "a");
    entomb(&host, "a");
    assert_eq!(host.store.release("b", "net1", soon()).unwrap(), 1, "counts its own only");
    assert!(host.files(&host.tombstones()).is_empty());
    assert_eq!(host.document("172.23.0.0-24")["spec"]["allocations"], json!({}));
}

#[test]
fn a_tombstone_stands_until_every_pool_is_dealt_with() {
    let host = Host::new();
    let (one, two) = (json!({ "range": "10.0.0.0/24" }), json!({ "range": "10.1.0.0/24" }));
    host.add(&json!({ "ipRanges": [one, two] }), "a").unwrap();
    entomb(&host, "a");
    host.write("10.0.0.0-24.json", "{");
    assert_eq!(host.add(&two, "b").unwrap(), ["10.1.0.1/24"]);
    assert_eq!(host.files(&host.tombstones()), ["a@net1"]);
    // The corrupt pool goes away, and with it the tombstone.
    fs::remove_file(host.pools().join("10.0.0.0-24.json")).unwrap();
    host.add(&two, "c").unwrap();
    assert!(host.files(&host.tombstones()).is_empty());
}

#[test]
fn an_attachment_that_comes_again_outlives_its_tombstone() {
    let host = Host::new();
    let ipam = json!({ "range": "10.0.0.0/24", "enable_overlapping_ranges": false });
    host.add(&ipam, "a").unwrap();
    // As on a full disk: no document can be written, a name can.
    let full = host.pools().join(".10.0.0.0-24.tmp/x");
    fs::create_dir_all(&full).unwrap();
    let outcome = host.store.release_or_entomb("a", "net1", soon()).unwrap();
    assert!(matches!(outcome, Released::Entombed(StoreError::Incomplete { .. })), "{outcome:?}");
    assert_eq!(host.add(&ipam, "a").unwrap(), ["10.0.0.1/24"], "its own entry is there: nothing to write");
    assert!(host.store.entombed().unwrap().is_empty());
    fs::remove_dir_all(full.parent().unwrap()).unwrap();
    assert_eq!(host.add(&ipam, "b").unwrap(), ["10.0.0.2/24"]);
    assert_eq!(host.held(&ipam, "a"), ["10.0.0.1/24"]);
}

#[test]
fn a_claim_that_fails_leaves_its_tombstone() {
    let host = Host::new();
    let (one, full) = (json!({ "range": "10.0.0.0/24" }), json!({ "range": "10.1.0.0/30" }));
    host.add(&one, "a").unwrap();
    host.add(&full, "b").unwrap();
    host.add(&full, "c").unwrap();
    let good = fs::read(host.pools().join("10.0.0.0-24.json")).unwrap();
    host.write("10.0.0.0-24.json", "{");
    entomb(&host, "a");
    assert!(matches!(host.add(&full, "a"), Err(StoreError::Exhausted(_))));
    host.write("10.0.0.0-24.json", good);
    assert_eq!(host.add(&one, "d").unwrap(), ["10.0.0.1/24"]);
}

#[test]
fn only_the_own_tombstone_must_go() {
    let host = Host::new();
    // A directory in the place of a tombstone stands for one that cannot be removed.
    fs::create_dir_all(host.tombstones().join("a@net1")).unwrap();
    assert_eq!(host.add(&octavia(), "b").unwrap(), ["172.23.0.30/24"]);
    assert_eq!(host.store.release("b", "net1", soon()).unwrap(), 1);
    let error = host.add(&octavia(), "a").unwrap_err();
    assert!(matches!(&error, StoreError::Io { attempt: "remove tombstone", .. }), "{error}");
    assert!(error.to_string().contains("tombstones/a@net1"), "{error}");
}

#[test]
fn a_tombstone_fits_the_longest_names() {
    let host = Host::new();
    let ipam = json!({ "range": "10.0.0.0/24", "network_name": "n".repeat(180) });
    let id = "0123456789abcdef".repeat(12);
    host.add(&ipam, &id).unwrap();
    let file = format!("{}-10.0.0.0-24.json", "n".repeat(180));
    let good = fs::read(host.pools().join(&file)).unwrap();
    host.write(&file, "{");
    assert!(matches!(host.store.release_or_entomb(&id, "net1", soon()), Ok(Released::Entombed(_))));
    host.write(&file, good);
    host.add(&octavia(), "b").unwrap();
    assert!(host.held(&ipam, &id).is_empty());
}

#[test]
fn the_directory_of_tombstones_is_there_before_it_is_needed() {
    let host = Host::new();
    host.add(&octavia(), "a").unwrap();
    assert_eq!(fs::metadata(host.tombstones()).unwrap().permissions().mode() & 0o777, 0o700);
}

/// Processor time of a claim beside so many entries and a tenth as many tombstones.
fn cost_beside(entries: u32) -> Duration {
    let host = Host::new();
    host.add(&json!({ "range": "10.0.0.0/16" }), "a").unwrap();
    let mut document = host.document("10.0.0.0-16");
    let entry = |n: u32| (n.to_string(), json!({ "id": format!("c{n}"), "podref": "", "ifname": "net1" }));
    document["spec"]["allocations"] = (1..=entries).map(entry).collect();
    host.write("10.0.0.0-16.json", document.to_string());
    for n in 0..entries / 10 {
        fs::write(host.tombstones().join(format!("gone{n}@net1")), "").unwrap();
    }
    fs::write(host.tombstones().join("c7@net1"), "").unwrap();
    let cost = processor_time(|| {
        assert_eq!(host.add(&json!({ "range": "10.0.0.0/16" }), "b").unwrap(), ["10.0.0.7/16"]);
    });
    assert!(host.store.entombed().unwrap().is_empty());
    cost
}

#[test]
fn many_tombstones_and_a_big_pool_cost_no_product() {
    // Four times as much of both: four times the work, and not sixteen times.
    let (few, many) = (cost_beside(7_500), cost_beside(30_000));
    assert!(many < few * 9, "{few:?} and {many:?}");
}

#[test]
fn entries_without_interface_are_released_by_container() {
    let host = Host::new();
    host.add(&octavia(), "a").unwrap();
    let mut document = host.document("172.23.0.0-24");
    document["spec"]["allocations"]["31"] = json!({ "id": "old", "podref": "ns/p" });
    document["metadata"]["labels"] = json!({ "keep": "me" });
    host.write("172.23.0.0-24.json", document.to_string());
    assert_eq!(host.held(&octavia(), "old"), ["172.23.0.31/24"]);
    assert_eq!(host.store.release("old", "net1", soon()).unwrap(), 1);
    assert_eq!(host.document("172.23.0.0-24")["metadata"]["labels"], json!({ "keep": "me" }));
}

#[test]
fn an_entry_without_interface_goes_with_its_containers_last() {
    let host = Host::new();
    host.add(&octavia(), "a").unwrap();
    let mut document = host.document("172.23.0.0-24");
    document["spec"]["allocations"]["31"] = json!({ "id": "a", "podref": "" });
    document["spec"]["allocations"]["32"] = json!({ "id": "a", "podref": "", "ifname": "net2" });
    host.write("172.23.0.0-24.json", document.to_string());
    assert_eq!(host.held(&octavia(), "a"), ["172.23.0.30/24"]);
    assert_eq!(host.store.release("a", "net1", soon()).unwrap(), 1);
    assert_eq!(host.document("172.23.0.0-24")["spec"]["allocations"].as_object().unwrap().len(), 2);
    assert_eq!(host.store.release("a", "net2", soon()).unwrap(), 2);
}
