//! Policies of a node, which differ and agree in what they are made of.

use crate::chance::Chance;
use crate::others::NICS;
use crate::policy::{ROUTE, bridge, config, nic, ospbr};

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
        let mut nics = NICS.to_vec();
        nics.extend(self.tagged.then_some("enp6s0.24"));
        if self.way_out {
            nics.retain(|nic| *nic != "enp7s0");
            nics.push("up0");
        }
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
