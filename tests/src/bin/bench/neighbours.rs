//! How long a neighbour waits for a new IPv6 pod, on a bridge that is an MLD querier: from the end of ADD to the first answer.
//!
//! Such a bridge passes a question for the pod's address only to ports whose listeners it knows. It asks a new port for them as soon as
//! the port forwards, and an answer may take ten seconds.

use std::net::Ipv6Addr;
use std::process::Command;
use std::time::Duration;

use octavia_bridge_tests::Pod;
use octavia_bridge_tests::statistics::quantile;
use octavia_bridge_tests::table::{Row, Unit};
use octavia_bridge_tests::traffic::{Echo, ping};

use crate::contestant::Contestant;

const PODS: usize = 48;
/// Twice as long as an answer to the bridge's question may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The pods of both, in turns.
pub(crate) fn figures(both: [&Contestant; 2], pod: impl Fn() -> Pod) -> Vec<Row> {
    let both = both.map(Contestant::with_ipv6);
    let askers = [pod(), pod()];
    for (contestant, asker) in both.iter().zip(&askers) {
        contestant.run("ADD", asker);
        // In the namespace of this process, as the plugins are.
        let mut ip = Command::new("ip");
        ip.args([
            "link",
            "set",
            contestant.bridge(),
            "type",
            "bridge",
            "mcast_snooping",
            "1",
            "mcast_querier",
            "1",
        ]);
        assert!(ip.status().is_ok_and(|status| status.success()), "{ip:?} failed");
    }
    let mut waits = [Vec::new(), Vec::new()];
    for _ in 0..PODS {
        for ((contestant, asker), waits) in both.iter().zip(&askers).zip(&mut waits) {
            let pod = pod();
            contestant.run("ADD", &pod);
            let address = address(&pod).into();
            let _echo = Echo::start(&pod, address);
            // Each pod may get the address and the MAC of the one before, of which the asker would not ask again.
            asker.ip("neigh flush dev octavia");
            let took = ping(asker, address, PATIENCE).map_or(PATIENCE, |answer| answer.took);
            waits.push(took.as_secs_f64() * 1000.0);
            contestant.run("DEL", &pod);
        }
    }
    let [ours, peer] = &mut waits;
    let mut row = |name: &str, share: f64| {
        let name = format!("IPv6 pod on an MLD querier answers, {name}");
        Row::new(name, Unit::Milliseconds, quantile(ours, share), quantile(peer, share))
    };
    vec![row("median", 0.5), row("90th percentile", 0.9), row(&format!("last of {PODS}"), 1.0)]
}

/// The pod's global address.
fn address(pod: &Pod) -> Ipv6Addr {
    let all = pod.expect_link("octavia").addresses();
    let mut addresses = all.iter().filter_map(|address| address.split('/').next()?.parse::<Ipv6Addr>().ok());
    addresses
        .find(|address| !address.is_unicast_link_local())
        .unwrap_or_else(|| panic!("no IPv6 address: {all:?}"))
}
