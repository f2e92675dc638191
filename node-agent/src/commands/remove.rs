//! Deletes what the agent made, and forgets the policy.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use anyhow::Context;
use octavia_bridge_ipam::causes::chain;
use octavia_bridge_netlink::Netlink;

use super::cli::{Cli, Safety};
use super::output::{print_steps, warn};
use crate::node::apply::{self, Goal, Targets};
use crate::node::desired::{self, Desired, Interface, State as Wanted};
use crate::node::observed;
use crate::node::recovery::recover;
use crate::node::state::{Kept, State};
use crate::node::witness::{self, Marks};
use crate::node::{marker, nmstate_lock, source};

/// The links are gone, and the next boot makes them again.
#[derive(Debug, thiserror::Error)]
#[error("links and routes are deleted, but the policy is still kept: {0}")]
pub(crate) struct NotForgotten(String);

pub(crate) async fn remove(cli: &Cli, safety: &Safety) -> anyhow::Result<ExitCode> {
    nmstate_lock::stand_down(&cli.nmstate_lock)?;
    let state = State::lock(&cli.state_dir)?;
    let netlink = Netlink::open().await?;
    recover(&netlink, &state).await?;
    let marks = Marks::read(&netlink, &state).await.context("look for lost marks")?;
    let mut observed = observed::read(&netlink).await.context("read the present state")?;
    marks.lend(&mut observed);
    let ours = observed.links.iter().filter(|(_, link)| link.is_ours());
    let mut desired = Desired {
        interfaces: ours.map(|(name, _)| absent(name)).collect(),
        own_ports: own_ports(&netlink, state.kept().as_ref(), marks.ports()).await,
        ..Desired::default()
    };
    desired.routes = observed.routes.iter().filter(|route| route.is_ours()).flat_map(absent_route).collect();
    let targets = Targets::named(&safety.reach);
    if marks.are_lost() {
        apply::judge(&netlink, &desired, &marks, &targets).await?;
    }
    for note in marks.restore(&netlink, &state).await {
        tracing::warn!("{note}");
    }
    let plan = apply::plan_now(&netlink, &desired).await?;
    warn(&desired, &plan);
    let goal = Some(&Goal::Forget);
    let done = apply::carry_out(&netlink, &desired, plan, &targets, state.journal(), goal).await?;
    // The plugin last: until then it does not create again what is being deleted.
    let forgotten = state.forget();
    let steps = done.end();
    witness::learn(&netlink, &state, &Desired::default()).await;
    print_steps(&steps);
    forgotten.map_err(|cause| NotForgotten(chain(&cause)))?;
    Ok(ExitCode::SUCCESS)
}

/// Ports that the agent `attached`, and those of the policy that is kept: they are not a stranger's. By the links' own names.
pub(super) async fn own_ports(
    netlink: &Netlink,
    kept: Option<&Kept>,
    mut attached: BTreeSet<String>,
) -> BTreeSet<String> {
    let Some(desired) = kept.and_then(|kept| source::desired(kept).ok()) else { return attached };
    for port in desired.interfaces.iter().flat_map(Interface::ports) {
        // The kernel knows a link by its alternative names, too.
        if let Ok(Some(link)) = netlink.link(port.as_str()).await {
            attached.insert(link.name);
        }
    }
    attached
}

fn absent(name: &str) -> Interface {
    Interface {
        name: name.to_owned(),
        kind: None,
        state: Wanted::Absent,
        description: None,
        mtu: None,
        mac: None,
        ipv4: None,
        ipv6: None,
        options: BTreeMap::default(),
        port_options: BTreeMap::default(),
        port_vlans: BTreeMap::default(),
    }
}

fn absent_route(route: &observed::Route) -> Vec<desired::Route> {
    debug_assert_eq!(route.protocol, marker::ROUTE_PROTOCOL);
    let mut entries = Vec::new();
    for hop in &route.hops {
        entries.push(desired::Route {
            absent: true,
            destination: Some(route.destination),
            gateway: hop.gateway,
            interface: Some(hop.link.clone()),
            metric: Some(route.metric),
            table: Some(route.table),
            weight: None,
        });
    }
    entries
}
