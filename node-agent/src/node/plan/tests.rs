//! The planner against its model of the kernel.

mod bonds;
mod cases;
mod ports;
mod properties;

use super::*;
use crate::node::desired;
use crate::node::marker;
use crate::node::observed::{Address, DefaultRoute, Ipv6, Kind as Seen, Link};

/// A NIC that is up.
fn nic(mtu: u32) -> Link {
    Link {
        up: true,
        mtu,
        max_mtu: 9000,
        mac: Some("52:54:00:00:00:01".into()),
        ipv6: Some(Ipv6::OF_NEW_LINK),
        ..Link::default()
    }
}

/// A pod's end in a bridge.
fn veth(master: &str) -> Link {
    let mac = Some("0a:00:00:00:00:07".into());
    Link { master: Some(master.into()), mac, options: model::OF_NEW_PORT.into(), ..nic(1500) }
}

fn bridge(alias: Option<&str>) -> Link {
    Link { kind: Seen::Bridge { stp: false }, alias: alias.map(Into::into), ..nic(1500) }
}

fn vlan(base: &str, id: u16, alias: Option<&str>) -> Link {
    Link { kind: Seen::Vlan { base: base.into(), id }, alias: alias.map(Into::into), ..nic(1500) }
}

/// A node with a loopback and these links.
fn node(links: &[(&str, Link)]) -> Observed {
    let lo = Link {
        kind: Seen::Loopback,
        max_mtu: 0,
        addresses: vec![Address::plain("127.0.0.1/8".parse().unwrap())],
        ..nic(65_536)
    };
    let mut links: BTreeMap<String, Link> =
        links.iter().map(|(name, link)| ((*name).into(), link.clone())).collect();
    links.insert("lo".into(), lo);
    Observed { links, ..Observed::default() }
}

fn default(link: &str, metric: u32) -> DefaultRoute {
    DefaultRoute { is_v4: true, metric, link: link.into(), gateway: Some("10.0.0.1".parse().unwrap()) }
}

fn want(yaml: &str) -> Desired {
    let text = desired::Text { origin: "test".into(), yaml: yaml.into() };
    desired::read(&[text], &desired::Choice::default()).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The steps in words.
fn words(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(|planned| planned.apply.to_string()).collect()
}

fn after(observed: &Observed, plan: &Plan) -> Observed {
    let mut model = observed.clone();
    plan.steps.iter().for_each(|planned| model.advance(&planned.apply));
    model
}

/// Plans, and checks what holds for every plan: done, nothing is left to do; undone, all is as before.
fn checked(desired: &Desired, observed: &Observed) -> Result<Plan, Conflicts> {
    let plan = plan(desired, observed)?;
    let done = after(observed, &plan);
    let again = super::plan(desired, &done)
        .unwrap_or_else(|conflicts| panic!("{conflicts}\nafter {:#?}", words(&plan)));
    assert_eq!(words(&again), Vec::<String>::new(), "after {:#?}", words(&plan));
    let mut undone = done;
    plan.steps.iter().rev().flat_map(Planned::undoing).for_each(|step| undone.advance(step));
    let sorted = |mut observed: Observed| {
        observed.routes.sort_by_key(|route| format!("{route:?}"));
        for link in observed.links.values_mut() {
            // The driver's, and the model does not foretell it.
            link.max_mtu = 0;
            // In order within their subnets.
            link.addresses.sort_by_key(|one| one.net.trunc());
        }
        observed
    };
    assert_eq!(sorted(undone), sorted(observed.clone()), "after {:#?}", words(&plan));
    Ok(plan)
}

const OCTAVIA: &str = include_str!("../../../tests/fixtures/octavia.yaml");

fn ours() -> Option<&'static str> {
    assert!(marker::is_ours(Some("octavia-bridge: test")));
    Some("octavia-bridge: test")
}

/// Which the document's checks do not let through; the planner goes by itself over each link once.
#[test]
fn what_is_missing_is_looked_for_once_and_not_by_every_way_to_it() {
    let entry = |name: String, kind: Kind| Interface {
        name,
        kind: Some(kind),
        state: State::Up,
        description: None,
        mtu: None,
        mac: None,
        ipv4: None,
        ipv6: None,
        options: BTreeMap::default(),
        port_options: BTreeMap::default(),
        port_vlans: BTreeMap::default(),
    };
    let mut interfaces = Vec::new();
    for level in 0..60 {
        let ports = ["va", "vb"].map(|name| format!("{name}{level}"));
        for (port, id) in ports.iter().zip([1, 2]) {
            let base = Some(format!("br{}", level + 1));
            interfaces.push(entry(port.clone(), Kind::Vlan { base, id: Some(id) }));
        }
        let kind = Kind::Bridge { ports: Some(ports.to_vec()), stp: None };
        interfaces.push(entry(format!("br{level}"), kind));
    }
    let plan = plan(&Desired { interfaces, ..Desired::default() }, &node(&[])).unwrap();
    assert_eq!((plan.steps.len(), plan.missing.len()), (0, 180));
    assert!(plan.missing.iter().all(|missing| missing.awaits == "br60"));
}
