use serde_json::json;

use super::*;

fn name(text: &str) -> PoolName {
    PoolName::new(None, &text.parse().unwrap()).unwrap()
}

fn octavia() -> Value {
    json!({
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": { "name": "172.23.0.0-24", "labels": { "a": "b" }, "resourceVersion": "1004" },
        "spec": {
            "range": "172.23.0.0/24",
            "allocations": {
                "30": { "id": "3f2a", "podref": "openstack/octavia-0", "ifname": "octavia", "node": "w1" },
                "31": { "id": "77", "podref": "openstack/octavia-1" },
                "0": { "id": "x", "podref": "", "ifname": "" },
                "255": { "id": "y", "ifname": null },
            },
            "later": [1],
        },
        "status": { "ready": true },
    })
}

fn parse(document: &Value) -> Result<Pool, PoolError> {
    Pool::parse("172.23.0.0-24", document.to_string().as_bytes())
}

#[test]
fn offsets_count_from_the_network_address() {
    let pool = parse(&octavia()).unwrap();
    let found: Vec<String> =
        pool.iter().map(|(address, entry)| format!("{address} {}", entry.id())).collect();
    assert_eq!(found, ["172.23.0.0 x", "172.23.0.30 3f2a", "172.23.0.31 77", "172.23.0.255 y"]);
    assert_eq!(pool.get("172.23.0.31".parse().unwrap()).unwrap().ifname(), None);
    assert_eq!(pool.get("172.24.0.31".parse().unwrap()), None);
    assert_eq!(pool.get("fd00::1f".parse().unwrap()), None);
}

#[test]
fn what_is_not_ours_survives_a_rewrite() {
    let mut pool = parse(&octavia()).unwrap();
    assert!(!pool.is_changed());
    assert!(pool.assign("172.23.0.30".parse().unwrap(), "new", None, "octavia"));
    assert!(pool.is_changed());
    let text = pool.to_json();
    assert_eq!(text.last(), Some(&b'\n'));
    let mut expected = octavia();
    let allocations = &mut expected["spec"]["allocations"];
    allocations["30"]["id"] = json!("new");
    // Absent, null and empty interface names are one thing, and an absent pod is written as empty.
    allocations["0"] = json!({ "id": "x", "podref": "" });
    allocations["255"] = json!({ "id": "y", "podref": "" });
    assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), expected);
}

#[test]
fn assigning_the_same_again_is_no_change() {
    let mut pool = parse(&octavia()).unwrap();
    let address = "172.23.0.30".parse().unwrap();
    assert!(pool.assign(address, "3f2a", Some("openstack/octavia-0"), "octavia"));
    assert!(!pool.is_changed());
    assert!(!pool.assign("172.24.0.30".parse().unwrap(), "3f2a", None, "octavia"), "outside the subnet");
    assert_eq!(pool.release(|_, entry| entry.id() == "nobody"), 0);
    assert!(!pool.is_changed());
    assert_eq!(pool.release(|_, entry| entry.id() == "3f2a"), 1);
    assert!(pool.is_changed());
}

#[test]
fn ipv6_offsets_use_all_bits() {
    let subnet: IpNet = "fd00::/8".parse().unwrap();
    let mut pool = Pool::new(&PoolName::new(Some("big"), &subnet).unwrap(), subnet);
    let last: IpAddr = "fdff:ffff:ffff:ffff:ffff:ffff:ffff:fffe".parse().unwrap();
    assert!(pool.assign(last, "a", None, "net1"));
    let text = pool.to_json();
    let key = ((1_u128 << 120) - 2).to_string();
    assert!(String::from_utf8(text.clone()).unwrap().contains(&format!("\"{key}\"")));
    let pool = Pool::parse(pool.name(), &text).unwrap();
    assert_eq!(pool.iter().next().unwrap().0, last);
}

#[test]
fn foreign_and_corrupt_documents_are_refused() {
    type Change = fn(&mut Value);
    let changes: &[(&str, Change)] = &[
        ("apiVersion", |d| d["apiVersion"] = json!("v1")),
        ("kind", |d| d["kind"] = json!("NodeSlicePool")),
        ("metadata.name", |d| d["metadata"]["name"] = json!("172.23.0.0-25")),
        ("metadata.name", |d| d["metadata"] = json!({})),
        ("missing field `spec`", |d| drop(d.as_object_mut().unwrap().remove("spec"))),
        ("missing field `allocations`", |d| drop(d["spec"].as_object_mut().unwrap().remove("allocations"))),
        ("invalid type: null", |d| d["spec"]["allocations"] = Value::Null),
        ("missing field `id`", |d| d["spec"]["allocations"]["30"] = json!({ "podref": "a/b" })),
        ("invalid type: integer", |d| d["spec"]["allocations"]["30"]["ifname"] = json!(1)),
        ("spec.range is \"172.24.0.0/24\"", |d| d["spec"]["range"] = json!("172.24.0.0/24")),
        ("spec.range is \"172.23.0.30/24\"", |d| d["spec"]["range"] = json!("172.23.0.30/24")),
        ("spec.range is \"all\"", |d| d["spec"]["range"] = json!("all")),
        ("\"256\" is not an offset", |d| d["spec"]["allocations"]["256"] = json!({ "id": "a" })),
        ("\"-3\" is not an offset", |d| d["spec"]["allocations"]["-3"] = json!({ "id": "a" })),
        ("\"+3\" is not an offset", |d| d["spec"]["allocations"]["+3"] = json!({ "id": "a" })),
        ("\"030\" is not an offset", |d| d["spec"]["allocations"]["030"] = json!({ "id": "a" })),
        ("\"x\" is not an offset", |d| d["spec"]["allocations"]["x"] = json!({ "id": "a" })),
    ];
    for (expected, change) in changes {
        let mut document = octavia();
        change(&mut document);
        let message = parse(&document).unwrap_err().to_string();
        assert!(message.contains(expected), "{expected}: {message}");
    }
    let twice = octavia().to_string().replace("\"31\":", "\"30\":");
    assert!(Pool::parse("172.23.0.0-24", twice.as_bytes()).is_err(), "one address, two holders");
    let torn = &octavia().to_string().into_bytes()[..200];
    assert!(Pool::parse("172.23.0.0-24", torn).is_err());
    assert!(Pool::parse("172.23.0.0-24", b"").is_err());
}

#[test]
fn a_network_name_may_stand_before_the_range() {
    let mut document = octavia();
    document["metadata"]["name"] = json!("blue-172.23.0.0-24");
    let text = document.to_string();
    assert!(Pool::parse("blue-172.23.0.0-24", text.as_bytes()).is_ok());
    document["metadata"]["name"] = json!("-172.23.0.0-24");
    assert!(Pool::parse("-172.23.0.0-24", document.to_string().as_bytes()).is_err());
    document["metadata"]["name"] = json!("1172.23.0.0-24");
    assert!(Pool::parse("1172.23.0.0-24", document.to_string().as_bytes()).is_err());
}

#[test]
fn a_new_pool_reads_back() {
    let name = name("172.23.0.0/24");
    let mut pool = Pool::new(&name, "172.23.0.0/24".parse().unwrap());
    assert!(pool.is_empty());
    assert!(pool.assign("172.23.0.30".parse().unwrap(), "id", Some("a/b"), "net1"));
    let text = String::from_utf8(pool.to_json()).unwrap();
    assert_eq!(
        text,
        r#"{
  "apiVersion": "whereabouts.cni.cncf.io/v1alpha1",
  "kind": "IPPool",
  "metadata": {
    "name": "172.23.0.0-24"
  },
  "spec": {
    "range": "172.23.0.0/24",
    "allocations": {
      "30": { "id": "id", "podref": "a/b", "ifname": "net1" }
    }
  }
}
"#
    );
    assert_eq!(Pool::parse(name.as_str(), text.as_bytes()).unwrap().len(), 1);
}

#[test]
fn a_document_has_a_line_for_each_entry_and_pretty_lines_else() {
    let mut document = octavia();
    document["metadata"]["annotations"] = json!({});
    document["spec"]["allocations"]["30"]["more"] = json!({ "x": [1, "}"], "y": {}, "z": [] });
    let pool = Pool::parse("172.23.0.0-24", document.to_string().as_bytes()).unwrap();
    let text = String::from_utf8(pool.to_json()).unwrap();
    assert_eq!(
        text,
        r#"{
  "apiVersion": "whereabouts.cni.cncf.io/v1alpha1",
  "kind": "IPPool",
  "metadata": {
    "name": "172.23.0.0-24",
    "labels": {
      "a": "b"
    },
    "resourceVersion": "1004",
    "annotations": {}
  },
  "spec": {
    "range": "172.23.0.0/24",
    "allocations": {
      "0": { "id": "x", "podref": "" },
      "30": { "id": "3f2a", "podref": "openstack/octavia-0", "ifname": "octavia", "node": "w1", "more": { "x": [ 1, "}" ], "y": {}, "z": [] } },
      "31": { "id": "77", "podref": "openstack/octavia-1" },
      "255": { "id": "y", "podref": "" }
    },
    "later": [
      1
    ]
  },
  "status": {
    "ready": true
  }
}
"#
    );
}
