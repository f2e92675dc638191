//! Names of reservations: the name whereabouts gives the `OverlappingRangeIPReservation` of an address, and its way back.

use std::net::IpAddr;

use crate::address;
use crate::name::{NameError, is_object_name};

/// The name for `address`: its text with ':' turned into '-', a '0' after it if it ended so (a name cannot), and before
/// it `network_name` and a '-' if there is one. In one address domain an address has one name, so the API server, which
/// keeps one object of a name, keeps one holder of an address.
///
/// An IPv6 address that begins with `::` has no valid name without a network name.
pub(crate) fn of_address(network_name: Option<&str>, address: IpAddr) -> Result<String, NameError> {
    let mut name = network_name.map(|network| format!("{network}-")).unwrap_or_default();
    name.push_str(&address.to_string().replace(':', "-"));
    if name.ends_with('-') {
        name.push('0');
    }
    if is_object_name(&name) { Ok(name) } else { Err(NameError(name)) }
}

/// Whether `name` is the name of `address`'s reservation in some address domain.
pub fn names_address(name: &str, address: IpAddr) -> bool {
    let mut suffix = address.to_string().replace(':', "-");
    if suffix.ends_with('-') {
        suffix.push('0');
    }
    name.strip_suffix(&suffix).is_some_and(|network| network.is_empty() || network.ends_with('-'))
}

/// The address that reservation `name` stands for in the domain `network_name`; `None` when it is another domain's.
pub(crate) fn address_of(network_name: Option<&str>, name: &str) -> Option<IpAddr> {
    let text = match network_name {
        Some(network) => name.strip_prefix(network)?.strip_prefix('-')?,
        None => name,
    };
    if text.contains('.') { address::parse(text) } else { address::parse(&text.replace('-', ":")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_whereabouts_names_and_read_back() {
        for (network, text, name) in [
            (None, "172.23.0.30", "172.23.0.30"),
            (None, "fd00:2::1", "fd00-2--1"),
            (None, "2001:db8:480:603d:304:403::", "2001-db8-480-603d-304-403--0"),
            (Some("neta"), "fd00:1::1", "neta-fd00-1--1"),
            (Some("neta"), "10.0.0.1", "neta-10.0.0.1"),
            (Some("neta"), "::1", "neta---1"),
        ] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(of_address(network, address).unwrap(), name);
            assert_eq!(address_of(network, name), Some(address), "{name} read back");
            assert!(names_address(name, address), "{name} of any domain");
            assert!(!names_address(name, "10.0.0.11".parse().unwrap()), "{name} of another address");
        }
    }

    #[test]
    fn what_no_object_can_bear_has_no_name() {
        for (network, text) in [(None, "::1"), (Some("Net_A"), "10.0.0.1")] {
            assert!(of_address(network, text.parse().unwrap()).is_err(), "{text}");
        }
    }

    #[test]
    fn names_of_other_domains_are_no_addresses() {
        for (network, name) in [
            (None, "neta-10.0.0.1"),
            (Some("neta"), "10.0.0.1"),
            (Some("neta"), "netab-10.0.0.1"),
            (None, "x"),
            (None, ""),
        ] {
            assert_eq!(address_of(network, name), None, "{name}");
        }
    }
}
