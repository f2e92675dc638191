//! Whether the node can still reach the rest of the world after its own uplink was touched.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use octavia_bridge_netlink::{Netlink, RouteFilter};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::node::observed::MAIN_TABLE;

/// Port asked of a gateway: `discard`, which nobody serves. That it refuses is answer enough.
const DISCARD: u16 = 9;
/// Time one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(2);
/// Time until something has to answer after a change.
const DEADLINE: Duration = Duration::from_secs(10);
/// Pause between attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// Why a change that could cut the node off was not made, or was taken back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "\"{step}\" could cut this node off, and whether it did could not be told: {why} (name an address with --reach ADDRESS:PORT)"
    )]
    Untestable { step: String, why: String },
    #[error("none of {0} answered within {seconds} s after the change", seconds = DEADLINE.as_secs())]
    Silent(String),
}

/// Whom to ask: what the user named, else the default gateways.
#[derive(Clone, Debug, Default)]
pub(crate) struct Targets(pub(crate) Vec<SocketAddr>);

/// Those that answered before the change.
#[derive(Debug)]
pub(crate) struct Answering(Vec<SocketAddr>);

impl Targets {
    /// Those that answer now.
    ///
    /// # Errors
    /// [`Error::Untestable`]: none does, so that silence afterwards would prove nothing.
    pub(crate) async fn answering(&self, netlink: &Netlink, step: &str) -> Result<Answering, Error> {
        let untestable = |why: String| Error::Untestable { step: step.to_owned(), why };
        let asked = if self.0.is_empty() {
            let filter = RouteFilter { table: Some(MAIN_TABLE), ..RouteFilter::default() };
            let routes = netlink.routes(&filter).await.map_err(|error| untestable(error.to_string()))?;
            let defaults = routes.iter().filter(|route| route.destination.prefix_len() == 0);
            let gateways = defaults.flat_map(|route| &route.next_hops).filter_map(|hop| hop.gateway);
            gateways.filter(is_routable).map(|gateway| SocketAddr::new(gateway, DISCARD)).collect()
        } else {
            self.0.clone()
        };
        let mut answering = Vec::new();
        for target in &asked {
            if answers(*target).await {
                answering.push(*target);
            }
        }
        if answering.is_empty() {
            let names = listed(&asked);
            return Err(untestable(if names.is_empty() {
                "the node has no gateway".into()
            } else {
                format!("{names} does not answer even before the change")
            }));
        }
        Ok(Answering(answering))
    }
}

/// A link-local gateway would need its link's index, which a change may give to another link.
fn is_routable(gateway: &IpAddr) -> bool {
    !matches!(gateway, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

impl Answering {
    /// Waits until one of them answers again.
    ///
    /// # Errors
    /// [`Error::Silent`] after the deadline.
    pub(crate) async fn wait(&self) -> Result<(), Error> {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            for target in &self.0 {
                if answers(*target).await {
                    return Ok(());
                }
            }
            sleep(PAUSE).await;
        }
        Err(Error::Silent(listed(&self.0)))
    }
}

/// A connection and its refusal both come from the other side.
async fn answers(target: SocketAddr) -> bool {
    match timeout(ATTEMPT, TcpStream::connect(target)).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        Err(_) => false,
    }
}

fn listed(targets: &[SocketAddr]) -> String {
    targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
