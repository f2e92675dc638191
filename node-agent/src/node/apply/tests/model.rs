//! The planner's model against the kernel: whatever is done, nothing happens that the model does not say, and what is
//! taken back is as it was.

mod bonds;

use std::collections::BTreeMap;

use octavia_bridge_netlink::{LinkOption, Netlink};

use super::{in_a_namespace, ip};
use crate::node::apply::kernel::{take, take_back};
use crate::node::desired;
use crate::node::observed::{self, Address, Hop, Ipv6, Kind, Observed, Route, Setting};
use crate::node::plan::{NewLink, Planned, Step, plan};

/// Links that a step may be about.
const LINKS: [&str; 3] = ["a0", "a1", "a2"];
const STEPS: usize = 120;

/// Numbers by chance, the same for the same seed (Marsaglia's xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }

    fn of<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }

    /// A link but for the far ends of the cables, the loopback, and the VRF, by which nobody routes.
    fn link(&mut self, observed: &Observed) -> String {
        let is_near = |name: &&String| !["lo", "vrf0"].contains(&name.as_str()) && !name.starts_with('p');
        let names: Vec<&String> = observed.links.keys().filter(is_near).collect();
        (*self.of(&names)).clone()
    }
}

/// The first seed and the last, such as `1000-1100`, for a longer walk by hand.
const SEEDS: &str = "OCTAVIA_BRIDGE_WALK_SEEDS";

#[test]
fn the_kernel_does_what_the_model_says_and_no_more() {
    let seeds = std::env::var(SEEDS).unwrap_or_else(|_| "1-12".into());
    let (first, last) = seeds.split_once('-').unwrap();
    for seed in first.parse::<u64>().unwrap()..=last.parse().unwrap() {
        in_a_namespace(async move || walk(seed).await);
    }
}

async fn walk(seed: u64) {
    let netlink = Netlink::open().await.unwrap();
    for link in LINKS {
        let peer = link.replace('a', "p");
        ip(&format!("link add {link} type veth peer name {peer}"));
        ip(&format!("link set {peer} up"));
        ip(&format!("link set {link} up"));
    }
    // Where the kernel has them.
    for (name, kind) in [
        ("br0", Kind::Bridge { stp: false }),
        ("vl0", Kind::Vlan { base: "a0".into(), id: 5 }),
        ("vrf0", Kind::Vrf { table: 77 }),
        (
            "bond0",
            Kind::Bond { options: desired::effective(&[("mode".into(), "active-backup".into())].into()) },
        ),
    ] {
        let mtu = kind.takes_frames().then_some(1500);
        let ipv6 = Some(Ipv6::OF_NEW_LINK);
        let new = NewLink {
            name: name.into(),
            kind,
            mac: None,
            mtu,
            alias: None,
            ipv6,
            options: BTreeMap::default(),
            token: None,
        };
        let made = take(&netlink, &Step::Create(new)).await;
        assert!(made.is_ok() || name != "br0", "{made:?}");
    }
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    chance.below(2);
    let mut done: Vec<String> = Vec::new();
    for _ in 0..STEPS {
        let before = observed::read(&netlink).await.unwrap();
        let steps = by_chance(&mut chance, &before);
        let mut model = before.clone();
        let mut planned: Vec<Planned> = Vec::new();
        let mut refused = false;
        for step in steps {
            if let Err(error) = take(&netlink, &step).await {
                let is_last = matches!(
                    step,
                    Step::AddRoute(_)
                        | Step::AddAddress { .. }
                        | Step::SetUp { up: true, .. }
                        | Step::SetMtu { .. }
                        | Step::SetBond { .. }
                );
                assert!(is_last, "seed {seed}: {step} was refused: {error}, after {done:#?}");
                refused = true;
                break;
            }
            planned.push(step.clone().planned(&model));
            model.advance(&step);
            done.push(step.to_string());
        }
        let now = observed::read(&netlink).await.unwrap();
        if !refused {
            same(&model, &now, &format!("seed {seed}, after {done:#?}"));
        }
        if chance.below(3) == 0 {
            for planned in planned.iter().rev() {
                let taken = take_back(&netlink, planned).await;
                taken.unwrap_or_else(|error| {
                    panic!("seed {seed}: {}: {error}, undoing {done:#?}", planned.undo)
                });
                done.push(format!("undo: {}", planned.undo));
            }
            let now = observed::read(&netlink).await.unwrap();
            same(&before, &now, &format!("seed {seed}, undone {done:#?}"));
        }
    }
    assert!(done.len() > STEPS / 3, "too little was done to prove anything");
}

/// A step with what the kernel takes along before it, or the plan that makes a link a port of the bridge or the bond.
fn by_chance(chance: &mut Chance, observed: &Observed) -> Vec<Step> {
    if chance.below(10) == 0 {
        let of_bond = if chance.below(2) == 0 { bonds::with_port(chance, observed) } else { None };
        let of_bridge = || {
            format!("{{name: br0, type: linux-bridge, bridge: {{port: [{{name: {}}}]}}}}", chance.of(&LINKS))
        };
        return as_port(&of_bond.unwrap_or_else(of_bridge), observed);
    }
    let step = single(chance, observed);
    let mut steps = observed.taken_along(&step);
    steps.push(step);
    steps
}

fn as_port(wanted: &str, observed: &Observed) -> Vec<Step> {
    let yaml = format!("interfaces: [{wanted}, {{name: vrf0, state: ignore}}]");
    let text = desired::Text { origin: "test".into(), yaml };
    let desired = desired::read(&[text], &desired::Choice::default()).unwrap();
    // A port of the VRF is another's.
    plan(&desired, observed)
        .map_or_else(|_| Vec::new(), |plan| plan.steps.into_iter().map(|planned| planned.apply).collect())
}

fn single(chance: &mut Chance, observed: &Observed) -> Step {
    let link = chance.link(observed);
    match chance.below(13) {
        0 => Step::SetUp { link, up: chance.below(3) != 0 },
        1 if bonds::has_bond(observed, &link) => bonds::option(chance, observed),
        1 => Step::SetMtu { link, mtu: chance.of(&[1000, 1279, 1280, 1400, 1500]) },
        2 => {
            let disabled = observed.links[&link].ipv6.is_some_and(|ipv6| ipv6.disabled);
            if observed.links[&link].ipv6.is_none() {
                return Step::SetUp { link, up: true };
            }
            Step::SetIpv6 { link, setting: Setting::Disabled, on: !disabled }
        }
        3 => {
            let master = chance.of(&[Some("br0"), Some("vrf0"), None]);
            let master = master.filter(|name| observed.links.contains_key(*name)).map(ToOwned::to_owned);
            let is_port = LINKS.contains(&link.as_str());
            if is_port { Step::SetMaster { link, master } } else { Step::SetUp { link, up: true } }
        }
        4..=6 => {
            let v4 = format!("10.{}.0.{}/24", chance.below(2), 1 + chance.below(3));
            let v6 = format!("fd00:{}::{}/64", chance.below(2), 1 + chance.below(3));
            Step::add(&link, Address::plain(chance.of(&[v4, v6]).parse().unwrap()))
        }
        7 | 8 => {
            let addresses: Vec<_> = observed.links[&link].addresses.iter().map(|one| one.net).collect();
            match addresses.is_empty() {
                true => Step::SetUp { link, up: true },
                false => Step::RemoveAddress { link, address: chance.of(&addresses) },
            }
        }
        12 => option(chance, observed, link),
        9 if !observed.routes.is_empty() => Step::RemoveRoute(chance.of(&observed.routes)),
        _ => Step::AddRoute(route(chance, observed, &link)),
    }
}

/// An option that the link has, with a value that the kernel keeps as it is.
fn option(chance: &mut Chance, observed: &Observed, link: String) -> Step {
    let mut options: Vec<_> = observed.links[&link].options.keys().copied().collect();
    // With it the tables of ports are read, and without it they are not.
    options.retain(|option| *option != LinkOption::VlanFiltering);
    if options.is_empty() {
        return Step::SetUp { link, up: true };
    }
    let option = chance.of(&options);
    let value = match option {
        LinkOption::ForwardDelay | LinkOption::HelloTime | LinkOption::MaxAge => chance.of(&[600, 700]),
        LinkOption::GroupForwardMask => chance.of(&[0, 8]),
        // With a full table the kernel switches snooping off by itself (`br_multicast_new_group`).
        LinkOption::HashMax => chance.of(&[512, 4096]),
        LinkOption::PortPathCost => chance.of(&[7, 2]),
        LinkOption::MacAgeingTime => chance.of(&[1000, 30_000]),
        other if other.is_same(0, 1) => chance.of(&[200, 400]),
        _ => chance.of(&[0, 1]),
    };
    Step::SetOption { link, option, value }
}

fn route(chance: &mut Chance, observed: &Observed, link: &str) -> Route {
    let v4 = chance.below(2) == 0;
    let near = chance.below(2);
    let gateway = match (chance.below(4), v4) {
        (0, _) => None,
        (_, true) => Some(format!("10.{near}.0.9").parse().unwrap()),
        (_, false) => Some(format!("fd00:{near}::9").parse().unwrap()),
    };
    let destination = match (chance.below(4), v4) {
        (0, true) => "0.0.0.0/0".to_owned(),
        (0, false) => format!("fd00:{near}::/64"),
        (n, true) => format!("10.{}.0.0/16", 100 + n),
        (n, false) => format!("fd01:{n}::/48"),
    };
    let mut hops = vec![Hop { link: link.to_owned(), gateway, weight: 1, onlink: false }];
    if gateway.is_some() && chance.below(4) == 0 {
        let other = chance.of(&LINKS).to_owned();
        if other != link {
            hops.push(Hop { link: other, gateway, weight: 1, onlink: false });
            hops.sort();
        }
    }
    let sources: Vec<_> = observed
        .links
        .values()
        .flat_map(|link| &link.addresses)
        .filter(|one| one.is_v4() && v4 && !one.net.addr().is_loopback())
        .map(|one| one.net.addr())
        .collect();
    let table = chance.of(&[254, 254, 10]);
    // In another table the kernel keeps a route whose source address goes, and takes no such route again.
    let sourced = table == 254 && !sources.is_empty() && chance.below(3) == 0;
    let source = sourced.then(|| chance.of(&sources));
    let metric = if v4 { chance.of(&[0, 50]) } else { chance.of(&[50, 1024]) };
    Route {
        destination: destination.parse().unwrap(),
        table,
        metric,
        protocol: 4,
        source,
        mtu: None,
        hops,
        detail: None,
    }
}

pub(super) fn same(model: &Observed, kernel: &Observed, when: &str) {
    let (model, kernel) = (comparable(model), comparable(kernel));
    for (name, link) in &model.0 {
        // A new port's cost is the kernel's to find.
        let mut now = kernel.0.get(name).cloned();
        if let Some(now) = now.as_mut().filter(|_| !link.options.contains_key(&LinkOption::PortPathCost)) {
            now.options.remove(&LinkOption::PortPathCost);
        }
        assert_eq!(Some(link), now.as_ref(), "{name} (the model and the kernel), {when}");
    }
    assert_eq!(model.1, kernel.1, "the model's routes and the kernel's, {when}");
    assert_eq!(model.0.len(), kernel.0.len(), "links, {when}");
}

fn comparable(observed: &Observed) -> (BTreeMap<String, observed::Link>, Vec<String>) {
    let mut links = observed.links.clone();
    for (name, link) in &mut links {
        link.max_mtu = 0;
        // Not stated here, so that bridge and bond have one of their ports', and ports of a bond the bond's.
        if name != "lo" {
            link.mac = None;
        }
        link.addresses = link.addresses.iter().map(Address::timeless).collect();
        // IPv6 has no primary addresses.
        link.addresses.sort_by_key(|one| if one.is_v4() { one.net.trunc() } else { one.net });
        // Secondary ones come back at the end. Their order tells nothing but which one the kernel would promote.
        for subnet in
            link.addresses.chunk_by_mut(|one, next| one.is_v4() && one.net.trunc() == next.net.trunc())
        {
            subnet[1..].sort_by_key(|one| one.net);
        }
    }
    let mut routes: Vec<String> = observed.routes.iter().map(|route| format!("{route:?}")).collect();
    routes.sort();
    (links, routes)
}
