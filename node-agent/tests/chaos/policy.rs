//! Random policies of two bridges. A NIC belongs to one of them, so that a policy never contradicts what an earlier one did.

use super::chance::Chance;

/// By the address of `octbr`.
const ROUTE: &str = "{destination: 172.31.0.0/16, next-hop-address: 172.24.0.99, next-hop-interface: octbr}";

/// What all policies of a node have in common.
#[derive(Clone, Copy)]
pub(crate) struct Wiring {
    /// `octbr` is on a VLAN of its NIC.
    pub(crate) tagged: bool,
    /// `ospbr` is on the NIC of the node's default route, and takes over its address and that route.
    pub(crate) way_out: bool,
}

impl Wiring {
    /// The port of `octbr`.
    pub(crate) fn uplink(self) -> &'static str {
        if self.tagged { "enp6s0.24" } else { "enp6s0" }
    }

    /// Links that policies name, and others meddle with.
    pub(crate) fn nics(self) -> Vec<&'static str> {
        let mut nics = vec!["enp6s0", "enp8s0"];
        nics.extend(self.tagged.then_some("enp6s0.24"));
        nics.push(if self.way_out { "up0" } else { "enp7s0" });
        nics
    }
}

/// A policy of `octbr`, perhaps with an address, other links and routes.
pub(crate) fn random(chance: &mut Chance, wiring: Wiring) -> String {
    let mut text = String::from("interfaces:\n");
    let mut routes = Vec::new();
    let address = *chance.of(&["", "172.24.0.1", "172.24.0.2"]);
    let mtu = *chance.of(&["1500", "1400"]);
    if wiring.tagged {
        text.push_str("- {name: enp6s0, type: ethernet, state: up, mtu: 1500}\n");
        text.push_str(&format!(
            "- {{name: enp6s0.24, type: vlan, state: up, mtu: {mtu}, vlan: {{base-iface: enp6s0, id: 24}}}}\n"
        ));
    }
    text.push_str(&bridge(chance, "octbr", wiring.uplink(), mtu, address));
    if wiring.way_out {
        let own = *chance.of(&["10.0.0.5", "10.0.0.6"]);
        text.push_str(&bridge(chance, "ospbr", "up0", "1500", own));
        routes.push("{destination: 0.0.0.0/0, next-hop-address: 10.0.0.1, next-hop-interface: ospbr}");
    } else if chance.one_in(2) {
        text.push_str(&ospbr(chance));
    }
    if chance.one_in(2) {
        text.push_str(&nic(chance));
    }
    if !address.is_empty() && chance.one_in(2) {
        routes.push(ROUTE);
    }
    text + &config(&routes)
}

/// A policy of `octbr` over `enp6s0`, perhaps with an address and a route.
pub(crate) fn octbr(chance: &mut Chance) -> String {
    let address = *chance.of(&["", "172.24.0.1", "172.24.0.2"]);
    let mtu = *chance.of(&["1500", "1400"]);
    let text = format!("interfaces:\n{}", bridge(chance, "octbr", "enp6s0", mtu, address));
    let is_routed = !address.is_empty() && chance.one_in(2);
    text + &config(if is_routed { &[ROUTE] } else { &[] })
}

/// The section `routes`, if there are any.
fn config(routes: &[&str]) -> String {
    if routes.is_empty() { String::new() } else { format!("routes: {{config: [{}]}}\n", routes.join(", ")) }
}

/// An item of `interfaces`: `ospbr` over `enp7s0`.
pub(crate) fn ospbr(chance: &mut Chance) -> String {
    let mtu = *chance.of(&["1500", "1400"]);
    bridge(chance, "ospbr", "enp7s0", mtu, "")
}

/// An item of `interfaces`: a NIC without a bridge.
pub(crate) fn nic(chance: &mut Chance) -> String {
    let mtu = chance.of(&["1500", "1400"]);
    format!("- {{name: enp8s0, type: ethernet, state: up, mtu: {mtu}}}\n")
}

fn bridge(chance: &mut Chance, name: &str, nic: &str, mtu: &str, address: &str) -> String {
    let description =
        if chance.one_in(2) { format!(" description: {name} of chance,") } else { String::new() };
    let ipv4 = match address {
        "" => "{enabled: false}".to_owned(),
        address => format!("{{enabled: true, dhcp: false, address: [{{ip: {address}, prefix-length: 24}}]}}"),
    };
    format!(
        "- {{name: {name}, type: linux-bridge, state: up,{description} mtu: {mtu}, ipv4: {ipv4},\n  \
         bridge: {{options: {{stp: {{enabled: false}}}}, port: [{{name: {nic}}}]}}}}\n"
    )
}
