//! Nodes whose `/proc/sys` cannot be written, and kernels without IPv6.

use octavia_bridge_tests::{Call, Lab, Pod, conf};
use serde_json::{Value, json};

/// Runs the plugin after `mounts` in the mount namespace that it has for itself.
fn behind(mounts: &str, call: Call) -> Call {
    call.under(&[
        "/bin/sh",
        "-c",
        &format!("PATH=/usr/sbin:/usr/bin:/sbin:/bin; {mounts} && exec \"$0\" \"$@\""),
    ])
}

fn read_only(call: Call) -> Call {
    behind("mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys", call)
}

fn without_ipv6(call: Call) -> Call {
    behind("mount -t tmpfs -o size=4k none /proc/sys/net", call)
}

fn pod() -> Pod {
    let node = Lab::new().node("node1");
    node.bridge_with_uplink();
    node.pod("worker")
}

fn ipv6() -> Value {
    conf::octavia_with(
        json!({"cniVersion": "1.1.0", "ipam": {"range": "fd00:172:23::/64", "range_start": null,
        "range_end": null, "routes": null}}),
    )
}

#[test]
fn a_read_only_proc_sys_costs_a_hardening_and_not_the_pod() {
    let pod = pod();
    let added = read_only(pod.add(&conf::octavia())).run();
    added.attached();
    assert!(added.stderr.contains("accept_ra stays as it is"), "{}", added.stderr);
    pod.del(&conf::octavia()).run().silent_success();
    // A pod has IPv6 switched on unless its runtime did otherwise.
    read_only(pod.add(&ipv6())).run().attached();
    pod.del(&ipv6()).run().silent_success();
}

#[test]
fn what_a_pod_needs_is_an_error_that_names_the_remedy() {
    let pod = pod();
    pod.set_sysctl("ipv6/conf/all/disable_ipv6", "1");
    let error = read_only(pod.add(&ipv6())).run().error(5);
    error.says(&["disable_ipv6", "Read-only", "mount /proc/sys writable"]);
    assert_eq!(pod.node().ports("octbr").len(), 0);
}

#[test]
fn a_kernel_without_ipv6_is_named_before_anything_is_made() {
    let pod = pod();
    without_ipv6(pod.add(&ipv6())).run().error(2).says(&["fd00:172:23::", "IPv6", "ipv6.disable=1"]);
    without_ipv6(pod.node().status(&ipv6())).run().error(50).says(&["IPv6"]);
    assert!(pod.node().has_no_files());
    without_ipv6(pod.add(&conf::octavia())).run().attached();
    without_ipv6(pod.del(&conf::octavia())).run().silent_success();
}
