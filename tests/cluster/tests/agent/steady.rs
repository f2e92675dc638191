//! What the server is asked when nothing is wrong.

use octavia_bridge_cluster_tests::{Access, Cluster, Ledger, Request};
use serde_json::json;

use crate::node::{Network, Node, OCTAVIA, Pod, call};

/// Requests in the namespace while `work` is done.
fn asked(access: &Access, work: impl FnOnce()) -> Vec<String> {
    let audit = Cluster::shared().audit();
    let mark = audit.mark();
    work();
    let here = |request: &Request| request.namespace == access.namespace();
    // Which agent looks after lost nodes is renewed now and then, whatever else goes on.
    let requests =
        audit.since(mark).into_iter().filter(|seen| here(seen) && seen.name != "octavia-bridge-reclaim");
    requests.map(|request| format!("{} {} {}", request.verb, request.resource, request.name)).collect()
}

#[test]
fn an_add_is_two_requests_and_so_is_a_del() {
    let admin = Cluster::shared().namespace("steady");
    let node = Node::start(&admin, "node-1");
    node.add(&OCTAVIA, &Pod::new(0));
    let added = asked(&admin, || {
        assert_eq!(node.add(&OCTAVIA, &Pod::new(1)).to_string(), "172.23.0.31");
    });
    // The name of a new object is in the request's body.
    assert_eq!(added, ["create overlappingrangeipreservations ", "patch ippools 172.23.0.0-24"]);
    let deleted = asked(&admin, || node.del(&Pod::new(1)));
    assert_eq!(deleted, ["patch ippools 172.23.0.0-24", "delete overlappingrangeipreservations 172.23.0.31"]);
    let again = asked(&admin, || node.del(&Pod::new(1)));
    assert_eq!(again, [""; 0], "nothing known, nothing asked");
    Ledger::read(&admin).assert_consistent();

    let alone = Network { range: "10.1.0.0/24", first: "10.1.0.1", last: "10.1.0.254", overlapping: false };
    node.add(&alone, &Pod::new(2));
    let added = asked(&admin, || {
        node.add(&alone, &Pod::new(3));
    });
    assert_eq!(added, ["patch ippools 10.1.0.0-24"], "as whereabouts, without reservations");
}

#[test]
fn what_kubectl_shows_is_whereabouts_own_form() {
    let admin = Cluster::shared().namespace("form");
    let node = Node::start(&admin, "node-1");
    node.add(&OCTAVIA, &Pod::new(1));
    let pool = admin.get(&admin.whereabouts("ippools/172.23.0.0-24"));
    let entry = json!({"id": "sandbox-1", "podref": "openstack/octavia-worker-1", "ifname": "net1"});
    assert_eq!(pool["spec"], json!({"range": "172.23.0.0/24", "allocations": {"30": entry}}));
    let reservation = admin.get(&admin.whereabouts("overlappingrangeipreservations/172.23.0.30"));
    assert_eq!(
        reservation["spec"],
        json!({"podref": "openstack/octavia-worker-1", "ifname": "net1", "containerid": "sandbox-1"})
    );
    assert_eq!(reservation["metadata"]["annotations"]["octavia-bridge/node"], "node-1");
    assert_eq!(reservation["metadata"]["annotations"]["octavia-bridge/pod-uid"], "uid-of-sandbox-1");
}

/// The server's own idea of a merge patch with preconditions, and of a test in a patch.
#[test]
fn a_new_sandbox_takes_over_and_the_old_ones_del_does_not_matter() {
    let admin = Cluster::shared().namespace("takeover");
    let node = Node::start(&admin, "node-1");
    let old = Pod::new(1);
    node.add(&OCTAVIA, &old);
    let new = Pod { id: "sandbox-1b".to_owned(), ..old.clone() };
    let mut claim = crate::node::claim(&OCTAVIA, &new, std::time::Duration::from_secs(25));
    let answer = call(&node.socket(), &claim);
    assert_eq!(answer["contested"], json!([{"containerId": "sandbox-1", "ifname": "net1"}]), "{answer}");
    claim["claim"]["sandboxes"] = json!([{"containerId": "sandbox-1", "ifname": "net1", "alive": false}]);
    let answer = call(&node.socket(), &claim);
    assert_eq!(answer["assigned"][0]["address"], "172.23.0.30/24", "{answer}");
    assert_eq!(node.release(&old)["released"], 0);
    let ledger = Ledger::read(&admin);
    ledger.assert_consistent();
    assert_eq!(ledger.holder([172, 23, 0, 30].into()).map(|holder| holder.id.as_str()), Some("sandbox-1b"));
    let reservation = &ledger.reservations["172.23.0.30"].object;
    assert_eq!(reservation["spec"]["containerid"], "sandbox-1b");
    assert_eq!(reservation["metadata"]["annotations"]["octavia-bridge/pod-uid"], "uid-of-sandbox-1b");
    node.del(&new);
    let ledger = Ledger::read(&admin);
    ledger.assert_consistent();
    assert!(ledger.reservations.is_empty());
}

#[test]
fn questions_ask_the_server_nothing() {
    let admin = Cluster::shared().namespace("questions");
    let node = Node::start(&admin, "node-1");
    node.add(&OCTAVIA, &Pod::new(1));
    let pools = json!([["172.23.0.0-24", "172.23.0.0/24"]]);
    let range = json!({"subnet": "172.23.0.0/24", "first": "172.23.0.30", "last": "172.23.0.70"});
    let requests = asked(&admin, || {
        let held =
            json!({"version": 1, "held": {"containerId": "sandbox-1", "ifname": "net1", "pools": pools}});
        assert_eq!(call(&node.socket(), &held)["held"], json!(["172.23.0.30/24"]));
        let usage = json!({"version": 1, "usage": {"overlapping": true, "ranges": [range], "reserved": []}});
        let answer = call(&node.socket(), &usage);
        let used = answer["usage"][0]["used"].to_string();
        assert_eq!(used.trim_matches('"'), "1", "{answer}");
    });
    assert_eq!(requests, [""; 0]);
}
