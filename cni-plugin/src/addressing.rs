//! Addresses for an attachment: claimed from the built-in pools or from a delegated IPAM plugin, and given back.

use std::path::{Path, PathBuf};

use octavia_bridge_ipam::conf::Ipam;
use octavia_bridge_ipam::file::Claim;
use octavia_bridge_ipam::request::Assigned;

use crate::attachment::{Addressing, Attachment, check_mtu_for, with_previous};
use crate::delegate::Delegate;
use crate::protocol::result::{Dns, Ip, Route};
use crate::protocol::{CniResult, Code, Error, Verb};
use crate::record::{AddressingIntent, Records};
use crate::store::{self, Patience, Unclaimed};

impl AddressingIntent {
    /// What the record must say before anything is claimed.
    pub(crate) fn of(addressing: &Addressing, config: &[u8]) -> Self {
        match addressing {
            Addressing::None => Self::None,
            Addressing::Pool(pool) => pool.store.intent(),
            Addressing::Delegated(program) => Self::delegated(program, config),
        }
    }

    pub(crate) fn delegated(program: &str, config: &[u8]) -> Self {
        Self::Delegated { program: program.to_owned(), config: String::from_utf8_lossy(config).into_owned() }
    }
}

/// Addresses on their way to the pod.
#[derive(Debug)]
pub(crate) struct Claimed {
    /// Addresses, routes and dns; no interfaces yet. Routes have their gateways filled in, each stands once.
    pub(crate) result: CniResult,
    /// The claim on pools of this host, to be held before anybody uses the addresses.
    pub(crate) pools: Option<Claim>,
}

/// Claims the addresses. A failure says whether there may be something to give back.
pub(crate) fn claim(attachment: &Attachment, path: &[PathBuf], config: &[u8]) -> Result<Claimed, Unclaimed> {
    let (mut result, pools) = match &attachment.addressing {
        Addressing::None => (CniResult::default(), None),
        Addressing::Pool(pool) => {
            let (assigned, claim) = pool.store.claim(pool, &Records::new(&attachment.data_dir))?;
            (from_pool(&pool.ipam, &assigned), claim)
        }
        Addressing::Delegated(program) => {
            let delegate =
                Delegate::find(program, path, config).map_err(|error| Unclaimed { error, cleanly: true })?;
            let added = delegate.add(attachment.version);
            let result = added
                .map_err(|failure| Unclaimed { error: failure.error, cleanly: failure.never_started })?;
            if result.ips.is_empty() {
                return Err(Error::new(Code::Delegate, "ipam: the IPAM plugin returned no address").into());
            }
            (result, None)
        }
    };
    let addresses: Vec<_> = result.ips.iter().map(|ip| ip.address).collect();
    check_mtu_for(attachment.mtu, &addresses)?;
    CniResult::fits(&with_previous(attachment.previous.as_ref(), addresses), attachment.version)?;
    complete_routes(&mut result);
    if !attachment.dns.is_empty() {
        result.dns = attachment.dns.clone();
    }
    Ok(Claimed { result, pools })
}

/// The built-in IPAM's answer as a CNI result; for the IPAM-only face it is the whole reply.
pub(crate) fn from_pool(ipam: &Ipam, assigned: &[Assigned]) -> CniResult {
    CniResult {
        interfaces: Vec::new(),
        ips: assigned
            .iter()
            .map(|assigned| Ip { interface: None, address: assigned.address, gateway: assigned.gateway })
            .collect(),
        routes: ipam
            .routes
            .iter()
            .map(|route| Route {
                dst: route.dst,
                gw: route.gw,
                mtu: route.mtu,
                advmss: route.advmss,
                priority: route.priority,
                table: route.table,
                scope: route.scope,
            })
            .collect(),
        dns: Dns {
            nameservers: ipam.dns.nameservers.clone(),
            domain: ipam.dns.domain.clone().unwrap_or_default(),
            search: ipam.dns.search.clone(),
            options: ipam.dns.options.clone(),
        },
    }
}

/// A route without a gateway takes its family's, as the reference plugin does, and stays on-link without one.
/// Host bits are masked, exact repetitions dropped: the kernel refuses both.
fn complete_routes(result: &mut CniResult) {
    let gateway =
        |v4: bool| result.ips.iter().filter_map(|ip| ip.gateway).find(|gateway| gateway.is_ipv4() == v4);
    let (v4, v6) = (gateway(true), gateway(false));
    let mut routes: Vec<Route> = Vec::with_capacity(result.routes.len());
    for route in &result.routes {
        let inherited = if route.dst.addr().is_ipv4() { v4 } else { v6 };
        let complete = Route { dst: route.dst.trunc(), gw: route.gw.or(inherited), ..route.clone() };
        if !routes.contains(&complete) {
            routes.push(complete);
        }
    }
    result.routes = routes;
}

/// Gives the addresses back, whatever state the claim was in. Repeating it is no error.
pub(crate) fn release(
    intent: &AddressingIntent,
    data_dir: &Path,
    container_id: &str,
    ifname: &str,
    path: &[PathBuf],
    patience: &Patience,
) -> Result<(), Error> {
    match intent {
        AddressingIntent::Delegated { program, config } => {
            Delegate::find(program, path, config.as_bytes())?.call(Verb::Del)
        }
        built_in => store::release_recorded(built_in, data_dir, container_id, ifname, patience),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(dst: &str, gw: Option<&str>) -> Route {
        Route {
            dst: dst.parse().unwrap(),
            gw: gw.map(|gw| gw.parse().unwrap()),
            mtu: None,
            advmss: None,
            priority: None,
            table: None,
            scope: None,
        }
    }

    #[test]
    fn routes_inherit_the_gateway_of_their_family_and_stand_once() {
        let ip = |address: &str, gateway: Option<&str>| Ip {
            interface: None,
            address: address.parse().unwrap(),
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        };
        let mut result = CniResult {
            ips: vec![ip("10.0.0.5/24", Some("10.0.0.1")), ip("fd00::5/64", None)],
            routes: vec![
                route("10.1.2.3/8", None),
                route("10.0.0.0/8", Some("10.0.0.1")),
                route("fd01::/64", None),
                route("10.0.0.0/8", Some("10.0.0.2")),
            ],
            ..CniResult::default()
        };
        complete_routes(&mut result);
        assert_eq!(
            result.routes,
            [
                route("10.0.0.0/8", Some("10.0.0.1")),
                route("fd01::/64", None),
                route("10.0.0.0/8", Some("10.0.0.2"))
            ]
        );
    }
}
