//! Addresses for an attachment: claimed from the built-in pools or from a delegated IPAM plugin, and given back.

use std::path::{Path, PathBuf};
use std::time::Instant;

use octavia_bridge_ipam::conf::Ipam;
use octavia_bridge_ipam::file::{Claim, FileStore, Released};
use octavia_bridge_ipam::request::Assigned;

use crate::attachment::{Addressing, Attachment, check_mtu_for};
use crate::config::IpamKind;
use crate::delegate::Delegate;
use crate::protocol::result::{Dns, Ip, Route};
use crate::protocol::{CniResult, Code, Error, Verb};
use crate::record::{AddressingIntent, LOCK_WAIT};

/// The `file` store under a data directory.
pub(crate) fn store(data_dir: &Path) -> FileStore {
    FileStore::new(data_dir.join("pools"), data_dir.join("tombstones"))
}

/// When an operation on the store gives up.
pub(crate) fn deadline() -> Instant {
    Instant::now() + LOCK_WAIT
}

/// What the record must say before anything is claimed.
pub(crate) fn intent(addressing: &Addressing, config: &[u8]) -> AddressingIntent {
    match addressing {
        Addressing::None => AddressingIntent::None,
        Addressing::Pool(_) => AddressingIntent::Pool,
        Addressing::Delegated(program) => AddressingIntent::Delegated {
            program: program.clone(),
            config: String::from_utf8_lossy(config).into_owned(),
        },
    }
}

/// Claims the addresses; a claim on the built-in pools is to be settled before anybody is told.
///
/// The result has no interfaces yet; its routes are complete, gateways filled in, each once.
pub(crate) async fn claim(
    attachment: &Attachment,
    path: &[PathBuf],
    config: &[u8],
) -> Result<(CniResult, Option<Claim>), Error> {
    let mut claim = None;
    let mut result = match &attachment.addressing {
        Addressing::None => CniResult::default(),
        Addressing::Pool(pool) => {
            let claimed = store(&attachment.data_dir).acquire(&pool.request, deadline())?;
            let result = from_pool(&pool.ipam, claimed.assigned());
            claim = Some(claimed);
            result
        }
        Addressing::Delegated(program) => {
            Delegate::find(program, path, config)?.add(attachment.version).await?
        }
    };
    let addresses: Vec<_> = result.ips.iter().map(|ip| ip.address).collect();
    if matches!(attachment.addressing, Addressing::Delegated(_)) && addresses.is_empty() {
        return Err(Error::new(Code::Delegate, "ipam: the IPAM plugin returned no address"));
    }
    CniResult::fits(&addresses, attachment.version)?;
    check_mtu_for(attachment.mtu, &addresses)?;
    complete_routes(&mut result);
    if !attachment.dns.is_empty() {
        result.dns = attachment.dns.clone();
    }
    Ok((result, claim))
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
///
/// What the built-in store cannot take back now is left as a tombstone, which the next operation on the store
/// replays: DEL must not keep a pod from ending because a disk or a lock is in a bad way.
pub(crate) async fn release(
    intent: &AddressingIntent,
    data_dir: &Path,
    container_id: &str,
    ifname: &str,
    path: &[PathBuf],
) -> Result<(), Error> {
    match intent {
        AddressingIntent::None => Ok(()),
        AddressingIntent::Pool => {
            match store(data_dir).release_or_entomb(container_id, ifname, deadline())? {
                Released::Done(_) => Ok(()),
                Released::Entombed(cause) => {
                    tracing::warn!("addresses of {container_id} {ifname} will be released later: {cause}");
                    Ok(())
                }
            }
        }
        AddressingIntent::Delegated { program, config } => {
            Delegate::find(program, path, config.as_bytes())?.call(Verb::Del).await
        }
    }
}

/// What to give back when there is no record, only DEL's own configuration.
pub(crate) fn intent_without_record(kind: &IpamKind, config: &[u8]) -> AddressingIntent {
    match kind {
        IpamKind::None => AddressingIntent::None,
        IpamKind::BuiltIn => AddressingIntent::Pool,
        IpamKind::Delegated(program) => AddressingIntent::Delegated {
            program: program.clone(),
            config: String::from_utf8_lossy(config).into_owned(),
        },
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
