//! What a fuzzer does with what this program reads. Not an interface for programs.

use std::path::Path;

use octavia_bridge_ipam::allocate::{Refusal, allocate};
use octavia_bridge_ipam::name::PoolName;
use octavia_bridge_ipam::pool::Pool;
use octavia_bridge_ipam::request::{Choice, Request};
use octavia_bridge_ipam::wire::{Call, MAX_LINE, VERSION, Verb};

use crate::cluster::broker;
use crate::node::apply::Journal;
use crate::node::desired::{self, Desired, Kind, Text};
use crate::node::observed::{Ipv6, Kind as Seen, Link, Observed};
use crate::node::plan::{Plan, plan};

/// Longest problem of a document, in bytes: a policy's status and the log hold it.
const LONGEST_PROBLEM: usize = 4 << 10;
/// Most steps for one interface or port, its addresses apart, and for one route.
const STEPS_OF_LINK: usize = 12;

/// Reads a policy, and plans it on a node that has nothing and on one that has the NICs it speaks of.
///
/// # Panics
/// If a plan does not reach its aim, cannot be undone, or has more steps than the policy has words; or if a problem
/// cannot be shown.
pub fn policy(yaml: &str) {
    let text = Text { origin: "policy".into(), yaml: yaml.into() };
    let choice = desired::Choice { all_policies: true, ..desired::Choice::default() };
    let desired = match desired::read_any([&text], &choice) {
        Ok(desired) => desired,
        Err(problems) => {
            // As people see them: each on a line of its own.
            for line in problems.to_string().lines() {
                assert!(!line.contains(char::is_control), "a problem has control characters: {line:?}");
                assert!(line.len() <= LONGEST_PROBLEM, "a problem has {} bytes: {line:.200}", line.len());
            }
            return;
        }
    };
    for observed in [Observed::default(), node(&[]), node(&nics(&desired))] {
        // What stands in the way is said; then there is no plan.
        if let Ok(plan) = plan(&desired, &observed) {
            check(&desired, &observed, &plan);
        }
    }
}

/// A node with a loopback and these NICs.
fn node(nics: &[&str]) -> Observed {
    let link = |kind| Link { kind, up: true, mtu: 1500, ipv6: Some(Ipv6::OF_NEW_LINK), ..Link::default() };
    let mac = Some("52:54:00:00:00:01".to_owned());
    let mut observed = Observed::default();
    for nic in nics {
        observed.links.insert((*nic).to_owned(), Link { mac: mac.clone(), ..link(Seen::Ethernet) });
    }
    observed.links.insert("lo".into(), Link { mtu: 65_536, ..link(Seen::Loopback) });
    observed
}

/// What the policy stands on: all names that it does not say how to make.
fn nics(desired: &Desired) -> Vec<&str> {
    let made = |name: &str| {
        desired
            .interfaces
            .iter()
            .any(|entry| entry.name == name && entry.kind.as_ref().is_some_and(Kind::is_made))
    };
    let mut names: Vec<&str> = Vec::new();
    for entry in &desired.interfaces {
        names.push(&entry.name);
        names.extend(entry.ports().iter().map(String::as_str));
        if let Some(Kind::Vlan { base: Some(base), .. }) = &entry.kind {
            names.push(base);
        }
    }
    names.retain(|name| !made(name));
    names
}

/// Done, nothing is left to do; undone, all is as before.
fn check(desired: &Desired, observed: &Observed, plan: &Plan) {
    let steps = || plan.steps.iter().map(|planned| planned.apply.to_string()).collect::<Vec<_>>();
    let mut links = observed.links.len();
    let mut words = desired.routes.len() + observed.routes.len();
    for entry in &desired.interfaces {
        links += 1 + entry.ports().len();
        for ip in [&entry.ipv4, &entry.ipv6].into_iter().flatten() {
            words += ip.addresses.as_ref().map_or(0, Vec::len);
        }
    }
    let bound = STEPS_OF_LINK * links + 2 * words;
    assert!(plan.steps.len() <= bound, "{} steps, at most {bound}: {:#?}", plan.steps.len(), steps());

    let mut model = observed.clone();
    for planned in &plan.steps {
        model.advance(&planned.apply);
    }
    match crate::node::plan::plan(desired, &model) {
        Ok(again) => assert_eq!(again.steps, [], "after {:#?}", steps()),
        Err(conflicts) => panic!("{conflicts}\nafter {:#?}", steps()),
    }
    for planned in plan.steps.iter().rev() {
        planned.undoing().for_each(|step| model.advance(step));
    }
    assert_eq!(comparable(model), comparable(observed.clone()), "after {:#?}", steps());
}

fn comparable(mut observed: Observed) -> Observed {
    observed.routes.sort_by_key(|route| format!("{route:?}"));
    // The driver's, and the model does not foretell it.
    for link in observed.links.values_mut() {
        link.max_mtu = 0;
        // In order within their subnets.
        link.addresses.sort_by_key(|one| one.net.trunc());
    }
    observed
}

/// Reads what stands in a journal behind its first line, which names the boot, and takes it back.
/// `folder` is one of the caller's own.
///
/// # Panics
/// If a step cannot be taken back, or is not written again in the same words; or if the folder cannot be written.
pub fn journal(folder: &Path, lines: &[u8]) {
    drop(Journal::begin(folder).expect("begin a journal"));
    let path = folder.join("journal.jsonl");
    let mut file = std::fs::OpenOptions::new().append(true).open(path).expect("open the journal");
    std::io::Write::write_all(&mut file, lines).expect("write the journal");
    // The agent says why, and sets the journal aside.
    let Some(left) = Journal::left_behind(folder) else { return };
    let mut model = node(&["eth0"]);
    for planned in left.begun.iter().rev() {
        planned.undoing().for_each(|step| model.advance(step));
        let written = serde_json::to_string(planned).expect("a step has a JSON form");
        let again = serde_json::from_str(&written).expect("a step reads back");
        assert_eq!(planned, &again);
        assert!(!planned.undo.to_string().is_empty());
    }
    if let Some(crate::node::apply::Goal::Keep(kept)) = left.reached {
        // The choice is the journal's, too.
        drop(desired::read_any(kept.all(), &kept.choice));
    }
}

/// Reads a line of a plugin, and gives what it claims from pools that are empty.
///
/// # Panics
/// If a call is not written again in the same words, or a claim gets what it did not ask for.
pub fn call(line: &[u8]) {
    if line.len() > MAX_LINE {
        return;
    }
    // A refusal repeats what its reader has written.
    let Ok(verb) = broker::call::read(line) else { return };
    let written = serde_json::to_string(&Call { version: VERSION, verb: verb.clone() })
        .expect("a call has a JSON form");
    assert_eq!(serde_json::from_str::<Call>(&written).expect("a call reads back").verb, verb);
    if let Verb::Claim(claim) = verb {
        claimed(&claim.request);
    }
}

fn claimed(request: &Request) {
    // What the reader lets through names pools that exist, and addresses in them.
    for want in &request.wants {
        let name = PoolName::new(request.network_name.as_deref(), &want.subnet);
        assert_eq!(name.ok().as_ref(), Some(&want.pool), "{want:?}");
        let fits = match &want.choice {
            Choice::Lowest(range) => range.subnet() == want.subnet,
            Choice::Exactly(address) => want.subnet.contains(address),
        };
        assert!(fits && want.subnet == want.subnet.trunc(), "{want:?}");
    }
    let mut pools: Vec<Pool> =
        request.pools().iter().map(|(name, subnet)| Pool::new(name, *subnet)).collect();
    match allocate(request, &mut pools, &[], &|_, _| true) {
        Ok(assigned) => {
            assert_eq!(assigned.len(), request.wants.len());
            for (assigned, want) in assigned.iter().zip(&request.wants) {
                let address = assigned.address.addr();
                let wanted = match &want.choice {
                    Choice::Lowest(range) => {
                        range.first() <= address
                            && address <= range.last()
                            && !request.reserved.contains(&address)
                    }
                    Choice::Exactly(asked) => *asked == address,
                };
                assert!(wanted, "{address} for {want:?}");
            }
        }
        Err(Refusal::Exhausted(full)) => assert!(!full.to_string().is_empty()),
        Err(Refusal::Held { address, .. }) => panic!("{address} is nobody's, the pools are empty"),
    }
}
