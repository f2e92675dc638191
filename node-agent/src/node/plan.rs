//! What to do about the difference between desired and observed: ordered steps, each with its inverse.
//!
//! Planning is a pure function and sends nothing. While it plans it keeps a model of the kernel, brought
//! forward by each step, so that a later step sees what an earlier one will have done (a VLAN takes its
//! MTU from a base interface that is itself about to change).

mod addresses;
mod bond;
mod create;
mod defaults;
mod delete;
mod guard;
mod link;
mod losses;
mod master;
mod model;
mod notes;
mod order;
mod ports;
mod restore;
mod routes;
mod step;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::node::desired::{Desired, Interface, Kind, State, with_alternatives};
use crate::node::observed::{MAIN_TABLE, Observed, Scope};

pub(crate) use guard::{Way, cuts, danger, may_cut, restoring, successors};
pub(crate) use step::{NewLink, Planned, Step, vlans_in_words};

/// What to do, and what to tell people about it. Everything has the links' own names.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub(crate) struct Plan {
    /// In order; the undoing is theirs in reverse order.
    pub(crate) steps: Vec<Planned>,
    /// Interfaces that cannot be made yet, or not as they are wanted.
    pub(crate) missing: Vec<Missing>,
    pub(crate) warnings: Vec<String>,
    /// Links that keep their alias in place of their description, by names: nothing is amiss with them.
    pub(crate) undescribed: Vec<String>,
    /// Why the steps could cut the node off, if they could.
    pub(crate) cuts: Option<String>,
    /// Alternative names that the policy uses, by the links' own.
    #[serde(skip)]
    pub(crate) names: BTreeMap<String, String>,
}

/// Something that has to appear first, or to become larger.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Missing {
    /// Interface (or route) that waits.
    pub(crate) of: String,
    /// Interface it waits for.
    pub(crate) awaits: String,
    /// What has to change, in words, if that interface is there and does not suffice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.why {
            Some(why) => f.write_str(why),
            None => write!(f, "{}: {} does not exist", self.of, self.awaits),
        }
    }
}

impl Plan {
    /// Steps in words, with the alternative names that the policy uses.
    pub(crate) fn in_words(&self) -> Vec<String> {
        self.steps.iter().map(|planned| with_alternatives(&planned.apply.to_string(), &self.names)).collect()
    }
}

/// What stands in the way of the desired state, all of it; nothing was planned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", octavia_bridge_ipam::visible::lines(.0))]
pub(crate) struct Conflicts(pub(crate) Vec<String>);

/// Plans how to get from `observed` to `desired`. The plan is empty if and only if nothing differs.
///
/// # Errors
/// Every conflict: something that others own would have to go, or the kernel could only refuse.
pub(crate) fn plan(desired: &Desired, observed: &Observed) -> Result<Plan, Conflicts> {
    let own = desired.under_own_names(&observed.alternatives).map_err(Conflicts)?;
    let names = own.as_ref().map(|_| alternatives(desired, observed)).unwrap_or_default();
    let mut planner = Planner::new(own.as_ref().unwrap_or(desired), observed);
    planner.delete_absent();
    for interface in planner.in_order() {
        match interface.state {
            State::Up => planner.up(&interface),
            State::Down => planner.down(&interface),
            State::Absent | State::Ignore => {}
        }
    }
    planner.filter_vlans();
    planner.restore_addresses();
    planner.routes();
    planner.restore_routes();
    planner.keep_defaults();
    planner.note_mtus();
    planner.note_ports();
    planner.note_unkept();
    planner.note_daemons();
    if !planner.conflicts.is_empty() {
        return Err(Conflicts(with_both(&planner.conflicts, &names)));
    }
    let cuts = danger(observed, &planner.steps).map(|danger| danger.step);
    let Planner { steps, missing, warnings, undescribed, .. } = planner;
    let (warnings, undescribed) = (with_both(&warnings, &names), with_both(&undescribed, &names));
    Ok(Plan { steps, missing, warnings, undescribed, cuts, names })
}

/// The alternative names in `desired`, by the links' own.
fn alternatives(desired: &Desired, observed: &Observed) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for name in scope(desired).names {
        if let Some(own) = observed.alternatives.get(&name) {
            names.insert(own.clone(), name);
        }
    }
    names
}

fn with_both(texts: &[String], names: &BTreeMap<String, String>) -> Vec<String> {
    texts.iter().map(|text| with_alternatives(text, names)).collect()
}

/// What it takes to tell whether there is anything to do for `desired`. What is to be done takes the whole of it
/// ([`Scope::whole`]).
pub(crate) fn scope(desired: &Desired) -> Scope {
    let mut scope = Scope::default();
    for interface in &desired.interfaces {
        let names = &mut scope.names;
        names.insert(interface.name.clone());
        names.extend(interface.ports().iter().cloned());
        scope.vlans |= !interface.port_vlans.is_empty();
        if let Some(Kind::Vlan { base: Some(base), .. }) = &interface.kind {
            names.insert(base.clone());
        }
        if interface.ipv4.is_some() || interface.ipv6.is_some() {
            scope.addresses_of.insert(interface.name.clone());
        }
        // A port has none, or it is told.
        if interface.takes_frames().is_some() {
            scope.addresses_of.extend(interface.ports().iter().cloned());
        }
        // These are what may have to be deleted, with or without a word of their ports. A bridge that stays never is.
        if interface.state == State::Absent || matches!(interface.kind, Some(Kind::Vrf { .. })) {
            scope.ports_of.insert(interface.name.clone());
        }
    }
    for route in &desired.routes {
        scope.names.extend(route.interface.clone());
        let table = if route.absent { route.table } else { Some(route.table.unwrap_or(MAIN_TABLE)) };
        let families = match route.destination {
            Some(destination) => vec![destination.addr().is_ipv4()],
            None => vec![true, false],
        };
        scope.tables.extend(families.into_iter().map(|v4| (table, v4)));
    }
    scope
}

/// Everything known while planning.
struct Planner<'a> {
    desired: &'a Desired,
    declared: BTreeMap<&'a str, &'a Interface>,
    /// Port to bridge or VRF.
    controllers: BTreeMap<&'a str, &'a str>,
    /// What was found out so far about what has to appear first.
    awaited: RefCell<BTreeMap<String, Option<String>>>,
    /// The kernel as it was.
    before: &'a Observed,
    /// The kernel as it will be after the steps so far.
    model: Observed,
    /// What steps had to take away that nobody asked to be gone.
    displaced: Vec<Step>,
    /// Links that become ports of bridges or bonds.
    emptied: BTreeSet<String>,
    /// VLANs that go down for a while with a bond of which something changes.
    lowered: BTreeSet<String>,
    steps: Vec<Planned>,
    missing: Vec<Missing>,
    warnings: Vec<String>,
    undescribed: Vec<String>,
    conflicts: Vec<String>,
}

impl<'a> Planner<'a> {
    fn new(desired: &'a Desired, observed: &'a Observed) -> Self {
        let active = || desired.interfaces.iter().filter(|i| i.state == State::Up);
        let ports = |i: &'a Interface| i.ports().iter().map(|port| (port.as_str(), i.name.as_str()));
        Self {
            desired,
            declared: desired.interfaces.iter().map(|i| (i.name.as_str(), i)).collect(),
            controllers: active().flat_map(ports).collect(),
            awaited: RefCell::default(),
            before: observed,
            model: observed.clone(),
            displaced: Vec::new(),
            emptied: BTreeSet::new(),
            lowered: BTreeSet::new(),
            steps: Vec::new(),
            missing: Vec::new(),
            undescribed: Vec::new(),
            warnings: Vec::new(),
            conflicts: Vec::new(),
        }
    }

    /// Adds a step, and before it those for what the kernel would take along.
    fn step(&mut self, step: Step) {
        for taken in self.model.taken_along(&step) {
            let planned = taken.planned(&self.model);
            if matches!(planned.undo, Step::AddRoute(_) | Step::AddAddress { .. }) {
                self.displaced.push(planned.undo.clone());
            }
            self.push(planned);
        }
        let planned = step.planned(&self.model);
        self.push(planned);
    }

    fn push(&mut self, planned: Planned) {
        self.model.advance(&planned.apply);
        self.steps.push(planned);
    }

    fn conflict(&mut self, text: impl Into<String>) {
        self.conflicts.push(text.into());
    }

    fn await_link(&mut self, of: &str, awaits: impl Into<String>) {
        self.missing.push(Missing { of: of.to_owned(), awaits: awaits.into(), why: None });
    }

    /// Whether the kernel has IPv6; every namespace has a loopback that tells.
    fn has_ipv6(&self) -> bool {
        self.model.links.get("lo").is_some_and(|lo| lo.ipv6.is_some())
    }
}
