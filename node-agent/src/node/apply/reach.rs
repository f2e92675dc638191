//! Whether the node can still reach the rest of the world after its own uplink was touched.
//!
//! Only what answered before the change is asked after it, and all of that has to answer: the gateways of the default routes
//! that the change could cut, or what the user named instead, and in a cluster the API server besides. A gateway is asked as a
//! neighbour, by ARP or neighbour discovery, which no firewall of its own keeps it from answering.

mod endpoint;
mod names;
#[cfg(test)]
mod tests;
mod witness;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use octavia_bridge_netlink::{self as nl, Netlink, RouteKind};
use tokio::time::{Instant, sleep};

use crate::node::observed::{DefaultRoute, Observed};
use crate::node::plan::{self, Planned, Step, Way};
use names::Names;
use witness::{Witness, of_gateway};

pub(crate) use endpoint::Endpoint;

/// Time until everything has to answer after a change.
const DEADLINE: Duration = Duration::from_secs(10);
/// Pause between attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// Why a change that could cut the node off was not made, or was taken back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "\"{step}\" could cut this node off, and whether it did could not be told: {why} (name a TCP endpoint with --reach HOST:PORT)"
    )]
    Untestable { step: String, why: String },
    #[error("no answer from {who} within {seconds} s after the change{hint}", seconds = DEADLINE.as_secs())]
    Silent { who: String, hint: &'static str },
}

/// Whom to ask.
#[derive(Clone, Debug, Default)]
pub(crate) struct Targets {
    /// Their addresses as they were known last.
    names: Arc<Names>,
    /// What the user named, instead of the default gateways.
    pub(crate) named: Vec<Endpoint>,
    /// The API server, besides.
    pub(crate) server: Option<Endpoint>,
    /// Default routes that an earlier change has cost the node. Their gateways answered before that, so they have to after a
    /// change of their links.
    pub(crate) lost: Vec<DefaultRoute>,
}

/// What is watched over a change.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Those that answered before the change.
    witnesses: Vec<Witness>,
    /// Default routes that the change could cut.
    defaults: Vec<DefaultRoute>,
    /// Endpoints to which it could cut the way, as they are called.
    endpoints: BTreeSet<String>,
    /// Whether one answered that the user named.
    by_name: bool,
}

/// An address of an endpoint, and the step that could cut the way to it.
struct Found {
    address: SocketAddr,
    cut: Option<String>,
}

impl Targets {
    /// What the user named.
    pub(crate) fn named(named: &[Endpoint]) -> Self {
        Self { named: named.to_vec(), ..Self::default() }
    }

    /// With the default routes that were lost, of families that have none now.
    fn with_lost<'a>(&self, before: &'a Observed) -> Cow<'a, Observed> {
        let mut all = Cow::Borrowed(before);
        for lost in &self.lost {
            if !before.defaults.iter().any(|default| default.is_v4 == lost.is_v4) {
                all.to_mut().defaults.push(lost.clone());
            }
        }
        all
    }

    /// The same, and default routes that an earlier change has cost the node.
    pub(crate) fn and_lost(self, lost: Vec<DefaultRoute>) -> Self {
        Self { lost, ..self }
    }

    /// The same, and the API server.
    pub(crate) fn and_server(self, server: Option<Endpoint>) -> Self {
        Self { server, ..self }
    }

    /// Whether these steps could cut the node off, or the way to one of those who are asked.
    pub(crate) async fn is_endangered(
        &self,
        netlink: &Netlink,
        before: &Observed,
        steps: &[Planned],
    ) -> bool {
        let before = &*self.with_lost(before);
        if !plan::may_cut(before, steps) {
            return false;
        }
        let mut endangered = plan::danger(before, steps).is_some();
        for endpoint in self.named.iter().chain(&self.server) {
            let found = self.find(endpoint, netlink, before, steps).await;
            endangered |= found.iter().any(|found| found.cut.is_some());
        }
        // Which is asked in any case.
        endangered || self.server.is_some()
    }

    /// What answers now and has to answer after these steps; nothing if they can cut nothing off.
    ///
    /// # Errors
    /// [`Error::Untestable`]: nothing answers, so that silence afterwards would prove nothing.
    pub(crate) async fn watch(
        &self,
        netlink: &Netlink,
        before: &Observed,
        steps: &[Planned],
    ) -> Result<Watch, Error> {
        let before = &*self.with_lost(before);
        let mut watch = Watch::default();
        if !plan::may_cut(before, steps) {
            return Ok(watch);
        }
        let danger = plan::danger(before, steps);
        let mut step = danger.as_ref().map(|danger| danger.step.clone());
        watch.defaults = danger.map(|danger| danger.defaults).unwrap_or_default();
        let mut silent = Vec::new();
        for endpoint in &self.named {
            let found = self.find(endpoint, netlink, before, steps).await;
            let cut = found.iter().find_map(|found| found.cut.clone());
            if step.is_none() && cut.is_none() {
                continue;
            }
            step = step.or(cut);
            watch.endpoints.insert(endpoint.to_string());
            match first_answering(endpoint, netlink, &found).await {
                Some(witness) => {
                    watch.by_name = true;
                    watch.witnesses.push(witness);
                }
                None => silent.push(endpoint.to_string()),
            }
        }
        if self.named.is_empty() {
            for default in &watch.defaults {
                let witness = if let Some(gateways) = plan::successors(default, steps) {
                    // The old one may be away by then, or already, and says nothing of the new ones.
                    Some(Witness::Gateways(gateways))
                } else if self.lost.contains(default) {
                    let link = default.link.clone();
                    default.gateway.map(|gateway| Witness::Gateways(vec![(gateway, link)]))
                } else {
                    of_gateway(netlink, default).await
                };
                match witness {
                    Some(witness) => watch.witnesses.push(witness),
                    None => silent.extend(default.gateway.map(|gateway| format!("the gateway {gateway}"))),
                }
            }
        }
        match step {
            Some(step) if watch.witnesses.is_empty() => {
                let why = match silent.is_empty() {
                    true => "its default route has no gateway".to_owned(),
                    false => format!("{} does not answer even before the change", silent.join(", ")),
                };
                Err(Error::Untestable { step, why })
            }
            _ => {
                if let Some(server) = &self.server {
                    watch.endpoints.insert(server.to_string());
                    watch
                        .witnesses
                        .extend(ask_server(server, self.names.resolve(server).await, netlink).await);
                }
                Ok(watch)
            }
        }
    }

    /// The first of these steps that could cut off what is not watched, in words. `done` are the steps since the watch began.
    pub(crate) async fn unwatched(
        &self,
        netlink: &Netlink,
        now: &Observed,
        steps: &[Planned],
        watch: &Watch,
        done: &[Planned],
    ) -> Option<String> {
        if let Some(danger) = plan::danger(now, steps) {
            let is_watched = match self.named.is_empty() {
                true => watch.covers(&danger.defaults, done),
                false => watch.by_name,
            };
            if !is_watched {
                return Some(danger.step);
            }
        }
        if !plan::may_cut(now, steps) {
            return None;
        }
        for endpoint in self.named.iter().chain(&self.server) {
            if watch.endpoints.contains(&endpoint.to_string()) {
                continue;
            }
            let found = self.find(endpoint, netlink, now, steps).await;
            if let Some(step) = found.into_iter().find_map(|found| found.cut) {
                return Some(step);
            }
        }
        None
    }

    /// The addresses of an endpoint that are not this node's own.
    async fn find(
        &self,
        endpoint: &Endpoint,
        netlink: &Netlink,
        before: &Observed,
        steps: &[Planned],
    ) -> Vec<Found> {
        let mut all = Vec::new();
        for address in self.names.resolve(endpoint).await {
            match way(netlink, address).await {
                Ok(Some(way)) => all.push(Found { address, cut: plan::cuts(before, steps, &way) }),
                Ok(None) => {}
                Err(error) => tracing::debug!("{error}"),
            }
        }
        all
    }
}

impl Watch {
    /// Whether nobody has to answer.
    pub(crate) fn is_empty(&self) -> bool {
        self.witnesses.is_empty()
    }

    /// Whether all these default routes are watched: each gateway by whichever link, and those that the change itself has
    /// brought.
    fn covers(&self, defaults: &[DefaultRoute], done: &[Planned]) -> bool {
        let is_watched = |default: &DefaultRoute| {
            let same =
                |other: &DefaultRoute| (other.is_v4, other.gateway) == (default.is_v4, default.gateway);
            self.defaults.iter().any(same) || done.iter().any(|planned| brings(&planned.apply, default))
        };
        defaults.iter().all(is_watched)
    }

    /// Waits until all of them have answered again.
    ///
    /// # Errors
    /// [`Error::Silent`] after the deadline.
    pub(crate) async fn wait(&self, netlink: &Netlink) -> Result<(), Error> {
        let deadline = Instant::now() + DEADLINE;
        let mut left: Vec<&Witness> = self.witnesses.iter().collect();
        loop {
            let mut answers = join_all(left.iter().map(|witness| witness.answers(netlink))).await.into_iter();
            left.retain(|_| !answers.next().unwrap_or_default());
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let names: Vec<String> = left.iter().map(ToString::to_string).collect();
                let hint = match left.iter().any(|witness| witness.is_gateway()) {
                    true => " (to ask another host instead, use --reach HOST:PORT)",
                    false => "",
                };
                return Err(Error::Silent { who: names.join(", "), hint });
            }
            sleep(PAUSE).await;
        }
    }
}

/// Whether the step has added the default route.
fn brings(step: &Step, default: &DefaultRoute) -> bool {
    let Step::AddRoute(route) = step else { return false };
    let is_default =
        route.destination.prefix_len() == 0 && route.destination.addr().is_ipv4() == default.is_v4;
    is_default && route.hops.iter().any(|hop| hop.gateway == default.gateway)
}

/// By which links packets leave to the address; `None` for one of this node's own, or one that there is no route to.
async fn way(netlink: &Netlink, address: SocketAddr) -> nl::Result<Option<Way>> {
    let route = netlink.route_to(address.ip()).await?;
    let Some(route) = route.filter(|route| route.kind != RouteKind::Local) else { return Ok(None) };
    let mut links = BTreeSet::new();
    for hop in &route.next_hops {
        links.extend(netlink.link(hop.link).await?.map(|link| link.name));
    }
    Ok(Some(Way { to: address.ip(), links }))
}

/// By which way a service's address is reached is not for the routes to tell: kube-proxy translates it, or has it as an
/// address of the node's own. So the API server is asked whatever the steps do, and since it may be on this node, its answer
/// alone says nothing about the rest of the world.
async fn ask_server(server: &Endpoint, addresses: Vec<SocketAddr>, netlink: &Netlink) -> Option<Witness> {
    for address in addresses {
        let witness = Witness::Connection { name: server.to_string(), address };
        if witness.answers(netlink).await {
            return Some(witness);
        }
    }
    None
}

async fn first_answering(endpoint: &Endpoint, netlink: &Netlink, found: &[Found]) -> Option<Witness> {
    for Found { address, .. } in found {
        let witness = Witness::Connection { name: endpoint.to_string(), address: *address };
        if witness.answers(netlink).await {
            return Some(witness);
        }
    }
    None
}
