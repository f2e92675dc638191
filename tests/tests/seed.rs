//! The whole story: controller pods on two nodes, and the router between their network and that of the amphorae.

use octavia_bridge_tests::traffic::{AT_ONCE, Echo, expect_answer};
use octavia_bridge_tests::{Attached, Lab, Node, Pod, conf};
use serde_json::json;
use std::net::IpAddr;

const AMPHORA: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(172, 24, 0, 5));

/// Two nodes whose bridges are joined by the trunk, and the `OpenStack` side behind a cable on the first.
struct Cloud {
    nodes: [Node; 2],
    router: Node,
    amphora: Node,
}

fn cloud(lab: &Lab) -> Cloud {
    let first = lab.node("node1");
    // The file store knows one host; here one store serves both nodes.
    let second = lab.node_on_disk_of("node2", &first);
    lab.trunk(&first, &second);
    for node in [&first, &second] {
        node.bridge_with_uplink();
    }
    let (router, amphora) = (lab.node("router"), lab.node("amphora"));
    let end = |node: &Node| node.path().display().to_string();
    first.ip(&format!("link add openstack type veth peer name octavia netns {}", end(&router)));
    first.ip("link set openstack master octbr up");
    router.ip(&format!("link add lb-mgmt type veth peer name eth0 netns {}", end(&amphora)));
    for words in ["addr add 172.23.0.150/24 dev octavia", "addr add 172.24.1.89/16 dev lb-mgmt"] {
        router.ip(words);
    }
    router.ip("link set octavia up");
    router.ip("link set lb-mgmt up");
    router.set_sysctl("ipv4/ip_forward", "1");
    amphora.ip("addr add 172.24.0.5/16 dev eth0");
    amphora.ip("link set eth0 up");
    amphora.ip("route add 172.23.0.0/24 via 172.24.1.89");
    Cloud { nodes: [first, second], router, amphora }
}

#[test]
fn controllers_on_two_nodes_and_an_amphora_behind_the_router_reach_each_other() {
    let lab = Lab::new();
    let cloud = cloud(&lab);
    let before = cloud.nodes.each_ref().map(|node| node.snapshot(&[]));
    let names = ["worker", "healthmanager", "housekeeping", "ovn-controller"];
    let pods: Vec<Pod> = names.iter().enumerate().map(|(n, name)| cloud.nodes[n % 2].pod(name)).collect();
    let ends: Vec<Attached> = pods.iter().map(|pod| pod.add(&conf::octavia()).run().attached()).collect();
    let addresses: Vec<&str> = ends.iter().map(Attached::address).collect();
    assert_eq!(addresses, ["172.23.0.30/24", "172.23.0.31/24", "172.23.0.32/24", "172.23.0.33/24"]);

    let _amphora = Echo::start(&cloud.amphora, AMPHORA);
    for (pod, end) in pods.iter().zip(&ends) {
        // Controller to amphora, and the amphora sees whom it must answer: no address is translated on the way.
        let answer = expect_answer(pod, AMPHORA, AT_ONCE);
        assert_eq!(answer.source, end.ip().to_string());
        // Heartbeats go the other way.
        let _controller = Echo::start(pod, end.ip());
        assert_eq!(expect_answer(&cloud.amphora, end.ip(), AT_ONCE).source, AMPHORA.to_string());
        // And every controller reaches every other, on its node and on the other.
        for other in pods.iter().filter(|other| other.container_id() != pod.container_id()) {
            expect_answer(other, end.ip(), AT_ONCE);
        }
    }
    // The router has learnt each controller's MAC as the controller has it.
    let neighbours = cloud.router.ip("neigh show dev octavia");
    for end in &ends {
        assert!(neighbours.contains(end.pod_mac()), "{} is not among\n{neighbours}", end.pod_mac());
    }

    for pod in &pods {
        pod.del(&conf::octavia()).run().silent_success();
    }
    for (node, before) in cloud.nodes.iter().zip(&before) {
        node.snapshot(&[]).assert_same_as(before);
    }
}

#[test]
fn a_controller_remade_on_the_other_node_keeps_its_amphorae() {
    let lab = Lab::new();
    let cloud = cloud(&lab);
    let old = cloud.nodes[0].pod("healthmanager");
    let attached = old.add(&conf::octavia()).run().attached();
    {
        let _echo = Echo::start(&old, attached.ip());
        expect_answer(&cloud.amphora, attached.ip(), AT_ONCE);
    }
    old.del(&conf::octavia()).run().silent_success();
    let new = cloud.nodes[1].pod("healthmanager");
    let again = new.add(&conf::octavia()).run().attached();
    assert_eq!((again.ip(), again.pod_mac()), (attached.ip(), attached.pod_mac()));
    // The listener never sends first; the router must find it by its announcement.
    let _echo = Echo::start(&new, again.ip());
    expect_answer(&cloud.amphora, again.ip(), AT_ONCE);
}

#[test]
fn the_router_of_the_route_is_never_a_pods_address() {
    // A range that holds 172.23.0.150, as an administrator may widen it to.
    let node = Lab::new().node("node1");
    let wide = json!({"ipam": {"range_start": "172.23.0.149", "range_end": "172.23.0.151"}});
    let conf = conf::octavia_with(wide);
    let pods = ["one", "two"].map(|name| node.pod(name));
    let given = pods.each_ref().map(|pod| pod.add(&conf).run().attached().address().to_owned());
    assert_eq!(given, ["172.23.0.149/24", "172.23.0.151/24"]);
    node.pod("three").add(&conf).run().error(101);
    let error = node.pod("four").add(&conf::octavia()).args("IP=172.23.0.150").run().error(7);
    error.says(&["172.23.0.150"]);
}
