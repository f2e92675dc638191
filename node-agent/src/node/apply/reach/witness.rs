//! Somebody who is asked, and whether there is an answer.

use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use octavia_bridge_netlink::{self as nl, Link, NeighbourState, Netlink};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::node::observed::DefaultRoute;

/// Port asked of a gateway that is not asked as a neighbour: `discard`, which nobody serves. That it refuses is answer enough.
const DISCARD: u16 = 9;
/// Time that a connection may take.
const CONNECTING: Duration = Duration::from_secs(2);
/// Time that a neighbour may take: the kernel asks three times, a second apart.
const ASKING: Duration = Duration::from_millis(3500);
/// Pause between two looks at what the kernel knows of a neighbour.
const LOOK: Duration = Duration::from_millis(10);

/// One that answered before the change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Witness {
    /// A gateway on the link of its default route.
    Neighbour { gateway: IpAddr, link: String },
    /// Those of one route, each with its link. They were not asked before the change, so it is not known how they answer; one
    /// answer is enough.
    Gateways(Vec<(IpAddr, String)>),
    /// A host, by a new connection.
    Connection { name: String, address: SocketAddr },
}

impl Witness {
    /// Whether it answers now.
    pub(super) async fn answers(&self, netlink: &Netlink) -> bool {
        match self {
            Self::Neighbour { gateway, link } => {
                ask_neighbour(netlink, *gateway, link).await == Asked::Answered
            }
            Self::Gateways(gateways) => {
                let ask =
                    |(gateway, link): &(IpAddr, String)| answers_somehow(netlink, *gateway, link.clone());
                let mut asked: FuturesUnordered<_> = gateways.iter().map(ask).collect();
                while let Some(answers) = asked.next().await {
                    if answers {
                        return true;
                    }
                }
                false
            }
            Self::Connection { address, .. } => answers_by_tcp(*address).await,
        }
    }

    /// Whether it is a gateway, so that another host may be asked instead.
    pub(super) fn is_gateway(&self) -> bool {
        match self {
            Self::Neighbour { .. } | Self::Gateways(_) => true,
            Self::Connection { address, .. } => address.port() == DISCARD,
        }
    }
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Neighbour { gateway, .. } => write!(f, "the gateway {gateway}"),
            Self::Gateways(gateways) => {
                let names: Vec<String> = gateways.iter().map(|(gateway, _)| gateway.to_string()).collect();
                write!(f, "the gateway {}", names.join(" or "))
            }
            Self::Connection { name, address } if *name == address.to_string() => f.write_str(name),
            Self::Connection { name, address } => write!(f, "{name} ({})", address.ip()),
        }
    }
}

/// A connection and its refusal both come from the other side.
async fn answers_by_tcp(target: SocketAddr) -> bool {
    match timeout(CONNECTING, TcpStream::connect(target)).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => error.kind() == ErrorKind::ConnectionRefused,
        Err(_) => false,
    }
}

/// A gateway as a neighbour, or by TCP where it does not answer as one: an administrator may have stated its hardware
/// address, and tunnels know no neighbours. `None` if it answers in neither way.
pub(super) async fn of_gateway(netlink: &Netlink, default: &DefaultRoute) -> Option<Witness> {
    let gateway = default.gateway?;
    let neighbour = Witness::Neighbour { gateway, link: default.link.clone() };
    if neighbour.answers(netlink).await {
        return Some(neighbour);
    }
    if is_link_local(gateway) {
        return None;
    }
    let address = SocketAddr::new(gateway, DISCARD);
    let connection = Witness::Connection { name: address.to_string(), address };
    connection.answers(netlink).await.then_some(connection)
}

/// The same of one that was not asked before. A neighbour that could answer has to: a TCP connection may also go to another
/// host of that address, by another link.
async fn answers_somehow(netlink: &Netlink, gateway: IpAddr, link: String) -> bool {
    match ask_neighbour(netlink, gateway, &link).await {
        Asked::Answered => true,
        Asked::Silent => false,
        Asked::Never => !is_link_local(gateway) && answers_by_tcp(SocketAddr::new(gateway, DISCARD)).await,
    }
}

/// How a gateway on a link answers.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Answered,
    Silent,
    /// Neighbours are not asked on this link, or an administrator stated its hardware address.
    Never,
}

async fn ask_neighbour(netlink: &Netlink, gateway: IpAddr, link: &str) -> Asked {
    let asked = try_neighbour(netlink, gateway, link).await;
    asked.unwrap_or_else(|error| {
        tracing::debug!("{error}");
        Asked::Silent
    })
}

async fn try_neighbour(netlink: &Netlink, gateway: IpAddr, link: &str) -> nl::Result<Asked> {
    let Some(place) = place(netlink, gateway, link).await? else { return Ok(Asked::Silent) };
    if !place.asks_neighbours {
        return Ok(Asked::Never);
    }
    netlink.probe_neighbour(place.index, gateway).await?;
    let deadline = Instant::now() + ASKING;
    loop {
        match netlink.neighbour(place.index, gateway).await? {
            Some(NeighbourState::Reachable) => return Ok(Asked::Answered),
            Some(NeighbourState::Stated) => return Ok(Asked::Never),
            Some(NeighbourState::Asked) if Instant::now() < deadline => sleep(LOOK).await,
            _ => return Ok(Asked::Silent),
        }
    }
}

/// The link on which the gateway is now. A change may have moved it: from a NIC to the bridge that has become the NIC's.
async fn place(netlink: &Netlink, gateway: IpAddr, link: &str) -> nl::Result<Option<Link>> {
    if !is_link_local(gateway) {
        // A node without an address gets an answer as well, and no more than that.
        let route = netlink.route_to(gateway).await?.filter(|route| route.source.is_some());
        // No address reaches one that its route states to be on the link: then its route is the way to itself.
        let leads_there = |gateway_of: Option<IpAddr>| gateway_of.is_none_or(|other| other == gateway);
        let direct = route.and_then(|route| route.next_hops.into_iter().find(|hop| leads_there(hop.gateway)));
        return match direct {
            Some(hop) => netlink.link(hop.link).await,
            None => Ok(None),
        };
    }
    // A link-local address belongs to a link, and no route tells which.
    let Some(own) = netlink.link(link).await? else { return Ok(None) };
    match own.master.filter(|_| own.port.is_some()) {
        Some(bridge) => netlink.link(bridge).await,
        None => Ok(Some(own)),
    }
}

fn is_link_local(gateway: IpAddr) -> bool {
    matches!(gateway, IpAddr::V6(ip) if ip.is_unicast_link_local())
}
