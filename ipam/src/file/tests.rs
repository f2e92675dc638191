//! The store on a real file system, in directories of its own.

mod crash;
mod irregular;
mod parallel;
mod tombstones;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::document::Object;
use crate::request::{Owner, Reach, RequestedAddress};

/// A data directory that goes away with the test, and the store in it.
struct Host {
    dir: TempDir,
    store: FileStore,
}

impl Host {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let store = store_in(dir.path());
        Self { dir, store }
    }

    fn pools(&self) -> PathBuf {
        self.dir.path().join("data/pools")
    }

    fn tombstones(&self) -> PathBuf {
        self.dir.path().join("data/tombstones")
    }

    fn add(&self, ipam: &Value, id: &str) -> Result<Vec<String>, StoreError> {
        add(&self.store, ipam, id, soon())
    }

    /// The pool document called `name` as a JSON value.
    fn document(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.pools().join(format!("{name}.json"))).unwrap()).unwrap()
    }

    fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        fs::create_dir_all(self.pools()).unwrap();
        fs::write(self.pools().join(file), text).unwrap();
    }

    fn files(&self, dir: &Path) -> Vec<String> {
        disk::entries(dir).unwrap().into_iter().filter(|name| name != ".lock").collect()
    }

    fn held(&self, ipam: &Value, id: &str) -> Vec<String> {
        self.store.held(id, "net1", &conf(ipam)).unwrap().iter().map(ToString::to_string).collect()
    }
}

fn store_in(dir: &Path) -> FileStore {
    FileStore::new(dir.join("data/pools"), dir.join("data/tombstones"))
}

fn conf(ipam: &Value) -> Ipam {
    Ipam::parse(Object::at("ipam".to_owned(), ipam).unwrap(), false).unwrap()
}

fn add(store: &FileStore, ipam: &Value, id: &str, deadline: Instant) -> Result<Vec<String>, StoreError> {
    let owner = Owner { container_id: id.to_owned(), ifname: "net1".to_owned(), pod: None };
    let request = conf(ipam).request(owner, &[], Reach::Range).unwrap();
    let claim = store.acquire(&request, deadline, &nobody)?;
    let addresses = claim.assigned().iter().map(|assigned| assigned.address.to_string()).collect();
    claim.hold()?;
    Ok(addresses)
}

/// No attachment lives.
fn nobody(_id: &str, _ifname: &str) -> bool {
    false
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn octavia() -> Value {
    json!({ "range": "172.23.0.0/24", "range_start": "172.23.0.30", "range_end": "172.23.0.70" })
}

#[test]
fn a_pool_file_is_a_whole_object_for_its_owner_only() {
    let host = Host::new();
    assert_eq!(host.add(&octavia(), "a").unwrap(), ["172.23.0.30/24"]);
    assert_eq!(host.files(&host.pools()), ["172.23.0.0-24.json"]);
    assert_eq!(
        host.document("172.23.0.0-24"),
        json!({
            "apiVersion": "whereabouts.cni.cncf.io/v1alpha1",
            "kind": "IPPool",
            "metadata": { "name": "172.23.0.0-24" },
            "spec": {
                "range": "172.23.0.0/24",
                "allocations": { "30": { "id": "a", "podref": "", "ifname": "net1" } },
            },
        })
    );
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(host.pools()), 0o700);
    assert_eq!(mode(host.pools().join("172.23.0.0-24.json")), 0o600);
    assert_eq!(mode(host.pools().join(".lock")), 0o600);
}

#[test]
fn add_and_delete_and_add_again() {
    let host = Host::new();
    let ipam = json!({ "range": "10.0.0.0/24", "ipRanges": [{ "range": "fd00::/64" }] });
    assert_eq!(host.add(&ipam, "a").unwrap(), ["10.0.0.1/24", "fd00::1/64"]);
    assert_eq!(host.add(&ipam, "a").unwrap(), ["10.0.0.1/24", "fd00::1/64"]);
    assert_eq!(host.add(&ipam, "b").unwrap(), ["10.0.0.2/24", "fd00::2/64"]);
    assert_eq!(host.held(&ipam, "a"), ["10.0.0.1/24", "fd00::1/64"]);
    assert_eq!(host.store.release("a", "net2", soon()).unwrap(), 0, "another interface");
    assert_eq!(host.store.release("a", "net1", soon()).unwrap(), 2);
    assert_eq!(host.store.release("a", "net1", soon()).unwrap(), 0);
    assert!(host.held(&ipam, "a").is_empty());
    assert_eq!(host.add(&ipam, "c").unwrap(), ["10.0.0.1/24", "fd00::1/64"]);
}

#[test]
fn what_changes_nothing_writes_nothing() {
    let host = Host::new();
    assert_eq!(host.store.release("a", "net1", soon()).unwrap(), 0);
    assert!(matches!(host.store.release_or_entomb("a", "net1", soon()).unwrap(), Released::Done(0)));
    assert_eq!(host.store.usage(&conf(&octavia())).unwrap()[0].free, 41);
    assert!(host.held(&octavia(), "a").is_empty());
    assert!(!host.dir.path().join("data").exists(), "no directory for nothing");
    host.add(&octavia(), "a").unwrap();
    let path = host.pools().join("172.23.0.0-24.json");
    let age = || fs::metadata(&path).unwrap().modified().unwrap();
    let before = age();
    host.add(&octavia(), "a").unwrap();
    host.store.release("nobody", "net1", soon()).unwrap();
    assert_eq!(age(), before);
}

#[test]
fn an_exhausted_range_leaves_every_pool_as_it_was() {
    let host = Host::new();
    let ipam = json!({ "range": "10.0.0.0/24", "ipRanges": [{ "range": "10.1.0.0/30" }] });
    host.add(&ipam, "a").unwrap();
    host.add(&ipam, "b").unwrap();
    let error = host.add(&ipam, "c").unwrap_err();
    assert!(matches!(error, StoreError::Exhausted { .. }), "{error}");
    assert_eq!(host.document("10.0.0.0-24")["spec"]["allocations"].as_object().unwrap().len(), 2);
    let usage = host.store.usage(&conf(&ipam)).unwrap();
    assert_eq!((usage[0].free, usage[1].free, usage[1].used), (252, 0, 2));
    let holders: Vec<&str> = usage[1].holders.iter().map(|holder| holder.id.as_str()).collect();
    assert_eq!(holders, ["a", "b"]);
}

#[test]
fn a_requested_address_is_reserved_or_its_holder_named() {
    let host = Host::new();
    let pin = |id: &str| {
        let owner = Owner { container_id: id.into(), ifname: "net1".into(), pod: Some(format!("ns/{id}")) };
        let asked = RequestedAddress::parse("CNI_ARGS IP", "172.23.0.200").unwrap();
        host.store.acquire(
            &conf(&octavia()).request(owner, &[asked], Reach::Subnet).unwrap(),
            soon(),
            &nobody,
        )
    };
    let claim = pin("a").unwrap();
    assert_eq!(claim.assigned()[0].address.to_string(), "172.23.0.200/24");
    claim.hold().unwrap();
    let error = pin("b").unwrap_err();
    assert_eq!(error.to_string(), "address 172.23.0.200 is held by ns/a net1 (container a)");
}

#[test]
fn two_sandboxes_of_one_pod_share_nothing_while_both_live() {
    let host = Host::new();
    let attach = |id: &str, alive: &dyn Fn(&str, &str) -> bool| {
        let owner = Owner { container_id: id.into(), ifname: "net1".into(), pod: Some("ns/p".into()) };
        let claim = host
            .store
            .acquire(&conf(&octavia()).request(owner, &[], Reach::Range).unwrap(), soon(), alive)
            .unwrap();
        let address = claim.assigned()[0].address.to_string();
        claim.hold().unwrap();
        address
    };
    assert_eq!(attach("old", &nobody), "172.23.0.30/24");
    assert_eq!(attach("new", &|id, ifname| (id, ifname) == ("old", "net1")), "172.23.0.31/24");
    assert_eq!(host.store.release("new", "net1", soon()).unwrap(), 1);
    assert_eq!(host.held(&octavia(), "old"), ["172.23.0.30/24"]);
    assert_eq!(attach("newer", &nobody), "172.23.0.30/24", "the old one is gone");
}

#[test]
fn a_claim_keeps_others_out_until_it_is_held_and_is_none_before() {
    let host = Host::new();
    let claim = |id: &str, deadline: Instant| {
        let owner = Owner { container_id: id.into(), ifname: "net1".into(), pod: None };
        host.store.acquire(&conf(&octavia()).request(owner, &[], Reach::Range).unwrap(), deadline, &nobody)
    };
    drop(claim("killed", soon()).unwrap());
    assert!(host.held(&octavia(), "killed").is_empty(), "nothing was put in place");
    let one = claim("one", soon()).unwrap();
    assert_eq!(one.assigned()[0].address.to_string(), "172.23.0.30/24");
    let error = claim("two", Instant::now() + Duration::from_millis(20)).unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    one.hold().unwrap();
    let two = claim("two", soon()).unwrap();
    assert_eq!(two.assigned()[0].address.to_string(), "172.23.0.31/24");
}

#[test]
fn overlapping_pools_of_the_same_domain_only() {
    let host = Host::new();
    host.add(&json!({ "range": "10.0.0.0/24" }), "a").unwrap();
    assert_eq!(host.add(&json!({ "range": "10.0.0.0/28" }), "b").unwrap(), ["10.0.0.2/28"]);
    let apart = json!({ "range": "10.0.0.0/27", "enable_overlapping_ranges": false });
    assert_eq!(host.add(&apart, "c").unwrap(), ["10.0.0.1/27"]);
    let blue = json!({ "range": "10.0.0.0/24", "network_name": "blue" });
    assert_eq!(host.add(&blue, "d").unwrap(), ["10.0.0.1/24"]);
    let green = json!({ "range": "10.0.0.0/25", "network_name": "blue" });
    assert_eq!(host.add(&green, "e").unwrap(), ["10.0.0.2/25"]);
    assert_eq!(host.store.usage(&conf(&json!({ "range": "10.0.0.0/28" }))).unwrap()[0].used, 2);
}

#[test]
fn documents_that_are_not_what_their_name_says_are_left_alone() {
    let host = Host::new();
    host.add(&octavia(), "a").unwrap();
    let good = fs::read_to_string(host.pools().join("172.23.0.0-24.json")).unwrap();
    for bad in [
        String::new(),
        "{".to_owned(),
        good[..good.len() / 2].to_owned(),
        good.replace("IPPool", "ConfigMap"),
        good.replace("172.23.0.0/24", "172.23.0.0/25"),
        good.replace("\"30\"", "\"-30\""),
        good.replace("\"30\"", "\"300\""),
    ] {
        host.write("172.23.0.0-24.json", &bad);
        let attempts = [
            host.add(&octavia(), "b").map(drop),
            host.store.held("a", "net1", &conf(&octavia())).map(drop),
            host.store.usage(&conf(&octavia())).map(drop),
        ];
        for attempt in attempts {
            let error = attempt.unwrap_err();
            let path = host.pools().join("172.23.0.0-24.json");
            assert!(matches!(&error, StoreError::Corrupt { path: named, .. } if *named == path), "{error}");
        }
        assert_eq!(
            fs::read_to_string(host.pools().join("172.23.0.0-24.json")).unwrap(),
            bad,
            "not overwritten"
        );
        // Pools that do not overlap it are none the worse.
        assert_eq!(host.add(&json!({ "range": "10.0.0.0/24" }), "b").unwrap(), ["10.0.0.1/24"]);
        let blue = json!({ "range": "172.23.0.0/24", "network_name": "blue" });
        assert_eq!(host.add(&blue, "b").unwrap(), ["172.23.0.1/24"]);
        // One that does overlap cannot know what is taken.
        assert!(host.add(&json!({ "range": "172.23.0.0/16" }), "b").is_err());
    }
}

#[test]
fn a_name_that_reads_two_ways_is_no_mix_up() {
    let host = Host::new();
    let named = json!({ "range": "2::/64", "network_name": "fd00" });
    assert_eq!(host.add(&named, "a").unwrap(), ["2::1/64"]);
    // The same file name, another subnet: refused instead of mixed.
    let error = host.add(&json!({ "range": "fd00:2::/64" }), "b").unwrap_err().to_string();
    assert!(error.contains("spec.range is 2::/64, and fd00:2::/64 has the same pool name"), "{error}");
    // One that would overlap by its name is seen to belong to another domain.
    host.add(&json!({ "range": "fd00:2::/64", "network_name": "fd00" }), "a").unwrap();
    let wide = json!({ "range": "fd00::/16", "range_start": "fd00:2::1" });
    assert_eq!(host.add(&wide, "b").unwrap(), ["fd00:2::1/16"]);
}

#[test]
fn a_lock_held_too_long_is_an_error_and_a_release_becomes_a_tombstone() {
    let host = Host::new();
    host.add(&octavia(), "a").unwrap();
    let lock = Lock::take(&host.pools(), soon()).unwrap();
    let began = Instant::now();
    let deadline = began + Duration::from_millis(150);
    match add(&host.store, &octavia(), "b", deadline) {
        Err(StoreError::Locked { path, waited }) => {
            assert_eq!(path, host.pools().join(".lock"));
            assert!(waited >= Duration::from_millis(140), "{waited:?}");
        }
        other => panic!("{other:?}"),
    }
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(matches!(host.store.release("a", "net1", began), Err(StoreError::Locked { .. })));
    let outcome = host.store.release_or_entomb("a", "net1", began).unwrap();
    assert!(matches!(outcome, Released::Entombed(StoreError::Locked { .. })));
    assert_eq!(host.store.entombed().unwrap().len(), 1);
    assert_eq!(host.held(&octavia(), "a").len(), 1, "readers do not wait");
    drop(lock);
    assert_eq!(host.add(&octavia(), "b").unwrap(), ["172.23.0.30/24"], "the tombstone goes first");
    assert!(host.store.entombed().unwrap().is_empty());
}
