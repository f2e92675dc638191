//! Whether a plan could cut the node off from the rest of the world.

use std::collections::BTreeSet;

use super::{Planned, Step};
use crate::node::observed::{Kind, MAIN_TABLE, Observed, Setting};

/// The first step that touches the way of the node's own default route, in words; `None` if there is none,
/// as with a new VLAN and a bridge over it.
pub(super) fn cuts(observed: &Observed, steps: &[Planned]) -> Option<String> {
    let carriers = carriers(observed);
    let touches = |link: &str| carriers.contains(link);
    steps.iter().map(|planned| &planned.apply).find_map(|step| {
        let dangerous = match step {
            Step::SetUp { link, up: false }
            | Step::SetMtu { link, .. }
            | Step::SetMac { link, .. }
            | Step::SetMaster { link, .. }
            | Step::SetIpv6 { link, setting: Setting::Disabled, on: true }
            | Step::RemoveAddress { link, .. } => touches(link),
            Step::Delete(new) => touches(&new.name),
            Step::AddRoute(route) | Step::RemoveRoute(route) => {
                route.destination.prefix_len() == 0 && route.table == MAIN_TABLE
            }
            _ => false,
        };
        dangerous.then(|| step.to_string())
    })
}

/// The links of default routes, and everything those stand on.
fn carriers(observed: &Observed) -> BTreeSet<String> {
    let mut carriers = BTreeSet::new();
    let mut open: Vec<String> = observed.default_links.iter().cloned().collect();
    while let Some(name) = open.pop() {
        if !carriers.insert(name.clone()) {
            continue;
        }
        if let Some(Kind::Vlan { base, .. }) = observed.links.get(&name).map(|link| &link.kind) {
            open.push(base.clone());
        }
        open.extend(observed.ports(&name).map(ToOwned::to_owned));
    }
    carriers
}
