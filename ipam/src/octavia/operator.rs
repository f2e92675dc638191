//! The operator's own arithmetic, its mistakes included.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde_json::Value;

use crate::address::{Span, from_bits};
use crate::document::{Element, FieldError, Object};

/// Addresses that the operator looks for behind another pool (`LbProvSubnetPoolSize` and `LbProvPredictablePoolSize`). Each pool has
/// one more: the operator takes the address behind the last one that it has checked as the pool's end.
const POOL: u128 = 25;
/// How many addresses a pool has. Neutron's begins behind `range_end`, and the predictable addresses behind Neutron's.
pub(super) const POOL_LEN: u128 = POOL + 1;
/// The amphorae's pool begins with this host of their network (`GetRangeFromCIDR`).
const FIRST_AMPHORA: u128 = 5;

/// An inclusive run of addresses of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The lowest address.
    pub first: IpAddr,
    /// The highest address; below `first` where the operator computes it so, in a network that is too small.
    pub last: IpAddr,
}

impl Part {
    /// Whether `address` is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && self.first <= address && address <= self.last
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// Why the operator makes nothing of a definition. Displays as in the operator's log, except for the cause in an
/// unreadable value, which is in the words of this crate. No condition of the operator says it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// A key has a value that Go's `netip` does not read.
    #[error("cannot read network parameters: {0}")]
    Unreadable(FieldError),
    /// Not enough addresses behind `range_end` for Neutron's pool. The text is the range as Go prints it.
    #[error("cannot allocate IP addresses: {POOL} in {0}")]
    NeutronPool(String),
    /// The definition has no route.
    #[error("cannot find gateway information in network attachment")]
    NoGateway,
    /// Not enough addresses behind Neutron's pool for the predictable addresses.
    #[error("predictable IPs: cannot allocate IP addresses: {POOL} in {0}")]
    PredictablePool(String),
}

/// What the operator reads and derives. With a refusal, the values that do not depend on the refused one remain, for a drawing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    /// `ipam.range` as written, host bits kept: the CIDR of octavia-provider-subnet.
    pub provider: Option<IpNet>,
    /// `ipam.range_end`, behind which the pools begin.
    pub range_end: Option<IpAddr>,
    /// The allocation pool of octavia-provider-subnet.
    pub neutron: Option<Part>,
    /// The addresses of health managers and rsyslog pods, two for each node.
    pub predictable: Option<Part>,
    /// `ipam.routes[0].gw`: the address of octavia-link-router.
    pub router: Option<IpAddr>,
    /// `ipam.routes[0].dst` as written: the CIDR of lb-mgmt-subnet.
    pub tenant: Option<IpNet>,
    /// The allocation pool of lb-mgmt-subnet.
    pub amphorae: Option<Part>,
    /// Why the operator stops, if it does. Without a refusal it makes objects in Neutron, be they right or wrong.
    pub refusal: Option<Refusal>,
}

/// Reads a configuration as `GetNetworkParametersFromNAD` and `GetPredictableIPAM` do, for a service with the operator's
/// defaults: it manages the networks, and its `lbMgmtRouterGateway` is not set.
pub(super) fn read(config: &Value) -> Reading {
    let mut reading = Reading::default();
    let routes = match read_fields(config, &mut reading) {
        Ok(routes) => routes,
        Err(error) => {
            reading.refusal = Some(Refusal::Unreadable(error));
            return reading;
        }
    };
    let shown = reading.provider.map_or("invalid Prefix".to_owned(), |net| net.to_string());
    reading.neutron = pool_behind(reading.provider, reading.range_end);
    reading.predictable = pool_behind(reading.provider, reading.neutron.map(|pool| pool.last));
    reading.amphorae = reading.tenant.as_ref().and_then(amphorae);
    reading.refusal = if reading.neutron.is_none() {
        Some(Refusal::NeutronPool(shown))
    } else if routes == 0 {
        Some(Refusal::NoGateway)
    } else if reading.predictable.is_none() {
        Some(Refusal::PredictablePool(shown))
    } else {
        None
    };
    reading
}

/// Fills in what the document says, and returns the number of routes.
fn read_fields(config: &Value, reading: &mut Reading) -> Result<usize, FieldError> {
    let Some(mut ipam) = Object::root(config)?.object("ipam")? else { return Ok(0) };
    reading.provider = prefix(&mut ipam, "range")?;
    address(&mut ipam, "range_start")?;
    reading.range_end = address(&mut ipam, "range_end")?;
    let routes = ipam.list("routes")?;
    for (index, element) in routes.iter().enumerate() {
        // An entry that is null is a route without anything, as for Go.
        let (gw, dst) = if element.value().is_null() { (None, None) } else { route(element)? };
        if index == 0 {
            (reading.router, reading.tenant) = (gw, dst);
        }
    }
    Ok(routes.len())
}

fn route(element: &Element<'_>) -> Result<(Option<IpAddr>, Option<IpNet>), FieldError> {
    let mut route = element.object()?;
    Ok((address(&mut route, "gw")?, prefix(&mut route, "dst")?))
}

/// An address as `netip.ParseAddr` reads it; an empty one is absent. Unlike the plugin, it does not take `::ffff:a.b.c.d` for IPv4.
fn address(object: &mut Object<'_>, key: &str) -> Result<Option<IpAddr>, FieldError> {
    let Some(text) = object.string(key)?.filter(|text| !text.is_empty()) else { return Ok(None) };
    let wrong = || {
        let remedy =
            "is not an address for octavia-operator; write one like 172.23.0.70, without leading zeros";
        FieldError::text(object.path_of(key), text, remedy)
    };
    text.parse().map(Some).map_err(|_| wrong())
}

/// A subnet as `netip.ParsePrefix` reads it.
fn prefix(object: &mut Object<'_>, key: &str) -> Result<Option<IpNet>, FieldError> {
    let Some(text) = object.string(key)?.filter(|text| !text.is_empty()) else { return Ok(None) };
    let length = text.rsplit('/').next().unwrap_or_default();
    let is_strict =
        length.bytes().all(|digit| digit.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
    let net = text.parse().ok().filter(|_| is_strict);
    net.map(Some).ok_or_else(|| {
        let remedy = if text.contains('-') {
            "names bounds, which octavia-operator cannot read; write the subnet like 172.23.0.0/24, and the bounds as range_start \
             and range_end"
        } else {
            "is not a subnet for octavia-operator; write one like 172.23.0.0/24, without leading zeros"
        };
        FieldError::text(object.path_of(key), text, remedy)
    })
}

/// The pool that begins behind `before`, if the operator finds room for it in `net`. The end may lie outside all the same.
pub(super) fn pool_behind(net: Option<IpNet>, before: Option<IpAddr>) -> Option<Part> {
    let (net, first) = (net?, step(before?, 1)?);
    let checked = step(first, POOL - 1)?;
    if !net.contains(&first) || !net.contains(&checked) {
        return None;
    }
    // At the end of the address family the operator gets an invalid address.
    Some(Part { first, last: step(first, POOL).unwrap_or(checked) })
}

/// The pool of a network for amphorae, as the operator computes it also for a network that is too small.
fn amphorae(net: &IpNet) -> Option<Part> {
    let first = step(net.network(), FIRST_AMPHORA)?;
    let around = IpNet::new(first, net.prefix_len()).ok()?;
    let last = Span::of(&around).last.checked_sub(1)?;
    Some(Part { first, last: from_bits(last, &around) })
}

/// The address `distance` behind `address`, if its family has one.
pub(super) fn step(address: IpAddr, distance: u128) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => {
            let number = u128::from(address.to_bits()).checked_add(distance)?;
            u32::try_from(number).ok().map(|number| Ipv4Addr::from_bits(number).into())
        }
        IpAddr::V6(address) => {
            address.to_bits().checked_add(distance).map(|number| Ipv6Addr::from_bits(number).into())
        }
    }
}
