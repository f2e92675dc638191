//! Somebody who is asked, and whether there is an answer.

use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use octavia_bridge_netlink::{self as nl, Link, NeighbourState, Netlink};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

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
    /// A host, by a new connection.
    Connection { name: String, address: SocketAddr },
}

impl Witness {
    /// Whether it answers now.
    pub(super) async fn answers(&self, netlink: &Netlink) -> bool {
        match self {
            Self::Neighbour { gateway, link } => {
                answers_as_neighbour(netlink, *gateway, link).await.unwrap_or_else(|error| {
                    tracing::debug!("{error}");
                    false
                })
            }
            Self::Connection { address, .. } => answers_by_tcp(*address).await,
        }
    }
}

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Neighbour { gateway, .. } => write!(f, "the gateway {gateway}"),
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

async fn answers_as_neighbour(netlink: &Netlink, gateway: IpAddr, link: &str) -> nl::Result<bool> {
    let Some(place) = place(netlink, gateway, link).await?.filter(|link| link.asks_neighbours) else {
        return Ok(false);
    };
    netlink.probe_neighbour(place.index, gateway).await?;
    let deadline = Instant::now() + ASKING;
    loop {
        match netlink.neighbour(place.index, gateway).await? {
            Some(NeighbourState::Reachable) => return Ok(true),
            Some(NeighbourState::Asked) if Instant::now() < deadline => sleep(LOOK).await,
            _ => return Ok(false),
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

pub(super) fn is_link_local(gateway: IpAddr) -> bool {
    matches!(gateway, IpAddr::V6(ip) if ip.is_unicast_link_local())
}
