//! The `ipam` block of a network configuration, validated.
//!
//! Nothing is decided here about free addresses; but every value is checked, so that what is left to fail
//! later is the state of the pools, not the configuration.

mod flat;
mod keys;
mod limits;
mod networks;
pub mod places;
mod ranges;
mod request;
mod routes;
pub mod same;
mod served;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use crate::address;
use crate::document::{FieldError, Object};
use crate::name::PoolName;
use crate::range::Range;

pub use flat::{FlatFile, FlatFileError};
pub use routes::Route;
pub use served::{SERVED_TYPES, served_block, served_by};

/// Why an `ipam` block cannot be served.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ConfError {
    /// A value is wrong (CNI error code 7).
    #[error(transparent)]
    Field(#[from] FieldError),
    /// A value asks for something that is not done here (CNI error code 2).
    #[error(transparent)]
    Unsupported(FieldError),
}

/// Where addresses are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datastore {
    /// In a directory of this host.
    File,
    /// In the cluster's custom resources.
    Kubernetes,
}

/// An address that every attachment of this network asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaticAddress {
    /// The address with its prefix length; host bits kept.
    pub address: IpNet,
    /// The gateway to report with it.
    pub gateway: Option<IpAddr>,
}

/// Name resolution for the pod, passed through to the result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    /// Addresses of resolvers, as written.
    pub nameservers: Vec<String>,
    /// Local domain, if any.
    pub domain: Option<String>,
    /// Search domains in order.
    pub search: Vec<String>,
    /// Resolver options.
    pub options: Vec<String>,
}

/// A validated `ipam` block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipam {
    /// `range`, then `ipRanges`: one address is assigned from each.
    pub ranges: Vec<Range>,
    /// `addresses`: assigned after those of the ranges.
    pub addresses: Vec<StaticAddress>,
    /// `gateway`. Reported with addresses of its own family whose subnet it is in, see [`Ipam::gateway_of`].
    pub gateway: Option<IpAddr>,
    /// `routes`, in order.
    pub routes: Vec<Route>,
    /// `dns`.
    pub dns: Dns,
    /// `datastore`; `kubernetes` when absent, as for whereabouts.
    pub datastore: Datastore,
    /// `dataDir`, absolute.
    pub data_dir: Option<PathBuf>,
    /// `agentSocket`, absolute.
    pub agent_socket: Option<PathBuf>,
    /// `network_name`: an address domain of its own.
    pub network_name: Option<String>,
    /// `enable_overlapping_ranges`, true when absent: an address in use in any overlapping pool of the
    /// domain is taken.
    pub enable_overlapping_ranges: bool,
    /// `log_file`, if it lies where one may, see [`places::is_log_file`].
    pub log_file: Option<PathBuf>,
    /// `log_level`: `panic`, `error`, `verbose` or `debug`.
    pub log_level: Option<String>,
    /// Fields that the flat file stood in for, each with its file.
    pub completed: Vec<String>,
    /// What was accepted but has no effect, one line each, naming the field.
    pub warnings: Vec<String>,
}

/// Keys whose default would give the pod another address, or another way, than was meant.
const KEYS: [&str; 6] = ["ipRanges", "gateway", "routes", "addresses", "datastore", "network_name"];

impl Ipam {
    /// Reads and checks an `ipam` block. With `strict`, what would be a warning is an error.
    ///
    /// `type` is taken as known; which types are served is the caller's matter.
    pub fn parse(ipam: Object<'_>, strict: bool) -> Result<Self, ConfError> {
        Self::parse_over(ipam, None, strict)
    }

    /// As [`Ipam::parse`], with the fields of the flat file that applies, see [`FlatFile::of`].
    pub fn parse_over<'a>(
        ipam: Object<'a>,
        file: Option<&'a FlatFile>,
        strict: bool,
    ) -> Result<Self, ConfError> {
        let mut warnings = Vec::new();
        let mut parsed = match Self::parse_fields(ipam, file, &mut warnings) {
            Ok(parsed) => parsed,
            Err(error) => return Err(withheld(error, file)),
        };
        if strict && !warnings.is_empty() {
            return Err(withheld(warnings.swap_remove(0).into(), file));
        }
        for warning in warnings {
            parsed.warnings.push(withheld(warning.into(), file).to_string());
        }
        Ok(parsed)
    }

    fn parse_fields<'a>(
        mut ipam: Object<'a>,
        file: Option<&'a FlatFile>,
        warnings: &mut Vec<FieldError>,
    ) -> Result<Self, ConfError> {
        let datastore = keys::datastore(&mut ipam)?;
        keys::check_flat_file(&mut ipam, datastore, file, warnings)?;
        let completed = file.map(|file| file.complete(&mut ipam)).transpose()?.unwrap_or_default();
        keys::pass_legacy(&mut ipam)?;
        limits::check(&mut ipam)?;
        let ranges = ranges::parse(&mut ipam, warnings)?;
        let addresses = networks::addresses(&mut ipam, warnings)?;
        if ranges.is_empty() && addresses.is_empty() {
            let remedy = "is missing; write the subnet to assign from, like 172.23.0.0/24, or use addresses";
            return Err(FieldError::missing(ipam.path_of("range"), remedy).into());
        }
        let gateway = networks::gateway(&mut ipam, &ranges)?;
        let network_name = networks::network_name(&mut ipam)?;
        networks::check_names(&mut ipam, network_name.as_deref(), &ranges, &addresses, datastore)?;
        let statics = addresses.iter().map(|a| a.address);
        let subnets: Vec<IpNet> = ranges.iter().map(Range::subnet).chain(statics).collect();
        let routes = routes::parse(&mut ipam, &subnets, gateway, warnings)?;
        let parsed = Self {
            ranges,
            addresses,
            gateway,
            routes,
            dns: keys::dns(&mut ipam, warnings)?,
            datastore,
            data_dir: keys::absolute_path(&mut ipam, "dataDir")?,
            agent_socket: keys::absolute_path(&mut ipam, "agentSocket")?,
            network_name,
            enable_overlapping_ranges: ipam.bool("enable_overlapping_ranges")?.unwrap_or(true),
            log_file: keys::log_file(&mut ipam, warnings)?,
            log_level: keys::log_level(&mut ipam, warnings)?,
            completed,
            warnings: Vec::new(),
        };
        parsed.check_static(&mut ipam)?;
        ipam.near_miss(&KEYS)?;
        ipam.near_miss(&ranges::KEYS)?;
        let unknown = |path| FieldError::missing(path, "unknown key in ipam; ignored");
        warnings.extend(ipam.unknown().into_iter().map(unknown));
        Ok(parsed)
    }

    /// The configured gateway for addresses of `subnet`: the one inside it, or a link-local one for IPv6.
    ///
    /// whereabouts reports the one gateway with every address, an IPv4 one with IPv6 addresses too.
    pub fn gateway_of(&self, subnet: &IpNet) -> Option<IpAddr> {
        self.gateway.filter(|gateway| networks::is_neighbour(subnet, *gateway))
    }

    /// Gateways and routes' next hops: addresses that are never handed out by this configuration.
    ///
    /// A pool does not record them, since its schema has no place for them. A second configuration over
    /// the same pool must name them too, as a gateway, a next hop or an exclusion, or it may hand them out.
    pub fn reserved(&self) -> Vec<IpAddr> {
        let of_addresses = self.addresses.iter().filter_map(|a| a.gateway);
        let of_routes = self.routes.iter().filter_map(|route| route.gw);
        let mut reserved: Vec<IpAddr> =
            self.gateway.into_iter().chain(of_addresses).chain(of_routes).collect();
        reserved.sort_unstable();
        reserved.dedup();
        reserved
    }

    /// The pools that an attachment of this network may have entries in, each once.
    pub fn pools(&self) -> Vec<(PoolName, IpNet)> {
        let statics = self.addresses.iter().map(|a| a.address.trunc());
        let mut pools: Vec<(PoolName, IpNet)> = Vec::new();
        for subnet in self.ranges.iter().map(Range::subnet).chain(statics) {
            // `parse` has seen every name; a value built by hand may lack one and then has no pool.
            if let Ok(name) = PoolName::new(self.network_name.as_deref(), &subnet)
                && !pools.iter().any(|(known, _)| *known == name)
            {
                pools.push((name, subnet));
            }
        }
        pools
    }

    /// Static addresses must not be gateways or next hops, nor be given twice.
    fn check_static(&self, ipam: &mut Object<'_>) -> Result<(), FieldError> {
        let reserved = self.reserved();
        for (i, fixed) in self.addresses.iter().enumerate() {
            let field = || format!("{}[{i}].address", ipam.path_of("addresses"));
            let address = fixed.address.addr();
            if reserved.contains(&address) {
                let remedy = "is also a gateway or a route's next hop; assign another address";
                return Err(FieldError::text(field(), &fixed.address.to_string(), remedy));
            }
            if self.addresses[..i].iter().any(|before| before.address.addr() == address) {
                let remedy = "is listed twice; remove one";
                return Err(FieldError::text(field(), &fixed.address.to_string(), remedy));
            }
        }
        Ok(())
    }
}

/// `error` without the value, if a file of the node has it: the network's author, who reads the error in a pod's events, chose
/// the file and need not be allowed to read it. Its keys are said, so that the file's author finds the place.
fn withheld(error: ConfError, file: Option<&FlatFile>) -> ConfError {
    let hide = |error: FieldError| match file {
        Some(file) if file.is_origin_of(&error.field) => FieldError { value: String::new(), ..error },
        _ => error,
    };
    match error {
        ConfError::Field(error) => ConfError::Field(hide(error)),
        ConfError::Unsupported(error) => ConfError::Unsupported(hide(error)),
    }
}

/// An address, or an error for `field` that says how one looks.
fn parse_ip(field: &str, text: &str) -> Result<IpAddr, FieldError> {
    address::parse(text).ok_or_else(|| {
        let remedy = "is not an IP address; write one like 172.23.0.30";
        FieldError::text(field, text, remedy)
    })
}

/// `address/length`, or an error for `field` that says how one looks.
fn parse_cidr(field: &str, text: &str) -> Result<IpNet, FieldError> {
    address::parse_net(text).ok_or_else(|| {
        let remedy = "is not an address with prefix length; write one like 172.23.0.0/24";
        FieldError::text(field, text, remedy)
    })
}
