//! Random policies of two bridges. A NIC belongs to one of them, so that a policy never contradicts what an earlier one did.

use super::chance::Chance;

/// By the address of `octbr`.
pub(crate) const ROUTE: &str =
    "{destination: 172.31.0.0/16, next-hop-address: 172.24.0.99, next-hop-interface: octbr}";

/// The section `routes`, if there are any.
pub(crate) fn config(routes: &[&str]) -> String {
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

/// An item of `interfaces`: a bridge with a port, and an address unless that is empty.
pub(crate) fn bridge(chance: &mut Chance, name: &str, nic: &str, mtu: &str, address: &str) -> String {
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
