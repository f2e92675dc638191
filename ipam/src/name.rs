//! Names of pools: the name whereabouts gives the `IPPool` object of a range, and its way back.

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::address;

/// Longest name of a Kubernetes object, in bytes.
pub const MAX_LEN: usize = 253;

/// Name of the pool of one subnet in one address domain, e.g. `172.23.0.0-24` or `blue-fd00-2---64`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PoolName(String);

/// A pool name that no Kubernetes object can bear.
///
/// The file store could live with such a name, but a pool must be able to move to a cluster and back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "pool name \"{0}\" is not a valid object name: lower-case letters, digits, '-' and '.', at most {MAX_LEN}"
)]
pub struct NameError(pub String);

impl PoolName {
    /// The name for `subnet` (host bits do not matter): the masked subnet in RFC 5952 text with ':' and
    /// '/' turned into '-', after `network_name` and a '-' if there is one.
    ///
    /// An IPv6 range that begins with `::` has no valid name without a network name, because an object's
    /// name cannot begin with '-'.
    pub fn new(network_name: Option<&str>, subnet: &IpNet) -> Result<Self, NameError> {
        let range = of_subnet(subnet);
        let name = match network_name {
            Some(network) => format!("{network}-{range}"),
            None => range,
        };
        Self::try_from(name)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PoolName {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        if is_object_name(&name) { Ok(Self(name)) } else { Err(NameError(name)) }
    }
}

impl From<PoolName> for String {
    fn from(name: PoolName) -> Self {
        name.0
    }
}

impl fmt::Display for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The part of a pool's name that stands for its subnet.
pub(crate) fn of_subnet(subnet: &IpNet) -> String {
    subnet.trunc().to_string().replace([':', '/'], "-")
}

/// The subnet that pool `name` would hold in the domain `network_name`; `None` when no range of that
/// domain has this name.
///
/// Names are ambiguous by whereabouts' design: `fd00-2---64` is `fd00:2::/64` of no network, or
/// `2::/64` of network `fd00`. So this says only what to look at; the document's own `spec.range` decides.
pub fn subnet_of(network_name: Option<&str>, name: &str) -> Option<IpNet> {
    let range = match network_name {
        Some(network) => name.strip_prefix(network)?.strip_prefix('-')?,
        None => name,
    };
    let (base, length) = range.rsplit_once('-')?;
    let subnet = address::parse_net(&format!("{}/{length}", base.replace('-', ":")))?;
    (PoolName::new(network_name, &subnet).ok()?.0 == name).then_some(subnet)
}

/// The network name in the name of a pool of `subnet`, if there is one.
#[cfg(feature = "kubernetes")]
pub(crate) fn network_of<'a>(name: &'a str, subnet: &IpNet) -> Option<&'a str> {
    name.strip_suffix(&of_subnet(subnet))?.strip_suffix('-')
}

/// Whether `name` is a lower-case RFC 1123 subdomain of at most [`MAX_LEN`] bytes.
pub fn is_object_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let label = |label: &str| {
        !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(inner)
    };
    name.len() <= MAX_LEN && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(network: Option<&str>, range: &str) -> String {
        let subnet = address::parse_net(range).unwrap();
        PoolName::new(network, &subnet).unwrap().to_string()
    }

    #[test]
    fn names_are_whereabouts_names() {
        for (network, range, name) in [
            (None, "10.0.0.0/8", "10.0.0.0-8"),
            (Some("test"), "10.0.0.0/8", "test-10.0.0.0-8"),
            (None, "172.23.0.77/24", "172.23.0.0-24"),
            (None, "fd00:2::/64", "fd00-2---64"),
            (None, "caa5::/64", "caa5---64"),
            (None, "2001:db8:480:603d::/64", "2001-db8-480-603d---64"),
            (None, "::ffff:10.0.0.0/120", "10.0.0.0-24"),
            (Some("neta"), "::/96", "neta----96"),
        ] {
            assert_eq!(named(network, range), name);
            let subnet = subnet_of(network, name).unwrap();
            assert_eq!(subnet, address::parse_net(range).unwrap().trunc(), "{name} read back");
        }
    }

    #[test]
    fn names_no_object_can_bear_are_refused() {
        let v6: IpNet = "::1:0:0:0/80".parse().unwrap();
        assert!(PoolName::new(None, &v6).is_err());
        let v4: IpNet = "10.0.0.0/8".parse().unwrap();
        for network in ["Net_A", "-a", "a.", "a_b", "", &"a".repeat(250)] {
            assert!(PoolName::new(Some(network), &v4).is_err(), "{network}");
        }
    }

    #[test]
    fn other_names_are_no_pools_of_the_domain() {
        for name in ["10.0.0.1-8", "10.0.0.0", "10.0.0.0-33", "blue-10.0.0.0-8", "x", "", "fd00-2--0-64"] {
            assert_eq!(subnet_of(None, name), None, "{name}");
        }
        assert_eq!(subnet_of(Some("blue"), "10.0.0.0-8"), None);
        assert_eq!(subnet_of(Some("blue"), "bluer-10.0.0.0-8"), None);
    }
}
