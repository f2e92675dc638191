//! Random policies of two bridges. A NIC belongs to one of them, so that a policy never contradicts what an earlier one did.

use crate::chance::Chance;

/// A policy's text.
pub(crate) fn random(chance: &mut Chance) -> String {
    let mut text = String::from("interfaces:\n");
    let address = *chance.of(&["", "172.24.0.1", "172.24.0.2"]);
    text.push_str(&bridge(chance, "octbr", "enp6s0", address));
    if chance.one_in(2) {
        text.push_str(&bridge(chance, "ospbr", "enp7s0", ""));
    }
    if chance.one_in(2) {
        let mtu = chance.of(&["1500", "1400"]);
        text.push_str(&format!("- {{name: enp8s0, type: ethernet, state: up, mtu: {mtu}}}\n"));
    }
    if !address.is_empty() && chance.one_in(2) {
        text.push_str("routes:\n  config:\n");
        text.push_str(
            "  - {destination: 172.31.0.0/16, next-hop-address: 172.24.0.99, next-hop-interface: octbr}\n",
        );
    }
    text
}

fn bridge(chance: &mut Chance, name: &str, nic: &str, address: &str) -> String {
    let mtu = chance.of(&["1500", "1400"]);
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
