//! Networks of the cluster by their definitions: a pool is one of a whole subnet, and only a definition says which part of it may
//! be assigned.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use octavia_bridge_cluster::Api;
use octavia_bridge_ipam::allocate::Usage;
use octavia_bridge_ipam::conf::{Datastore, served_by};
use octavia_bridge_ipam::name::subnet_of;
use octavia_bridge_ipam::range::Range;
use octavia_bridge_ipam::wire::Inquiry;
use serde::Serialize;
use serde_json::Value;

use super::list::{DEFINITIONS, list};

/// A range of a network.
#[derive(Debug)]
pub(crate) struct NetworkRange {
    /// `namespace/name` of the definition.
    network: String,
    /// The range alone.
    pub(crate) inquiry: Inquiry,
    /// The name of its pool.
    pub(crate) pool: String,
}

/// How full it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct RangeUse {
    network: String,
    first: IpAddr,
    last: IpAddr,
    // As texts: readers of JSON lose digits of large numbers.
    #[serde(serialize_with = "as_text")]
    used: u128,
    #[serde(serialize_with = "as_text")]
    capacity: u128,
}

fn as_text<S: serde::Serializer>(number: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

impl NetworkRange {
    /// Its only range.
    pub(crate) fn range(&self) -> &Range {
        &self.inquiry.ranges[0]
    }

    /// The subnet that pool `name` must have to count in the range; `None` if no pool of this name does.
    pub(crate) fn subnet_of(&self, name: &str) -> Option<IpNet> {
        let own = self.range().subnet();
        if name == self.pool {
            return Some(own);
        }
        let other = subnet_of(self.inquiry.network_name.as_deref(), name)?;
        let overlaps = own.contains(&other) || other.contains(&own);
        (self.inquiry.overlapping && overlaps).then_some(other)
    }

    pub(crate) fn used(&self, usage: &Usage) -> RangeUse {
        let Usage { first, last, used, capacity, .. } = *usage;
        RangeUse { network: self.network.clone(), first, last, used, capacity }
    }
}

impl fmt::Display for RangeUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { network, first, last, used, capacity } = self;
        let full = if used >= capacity { ", full" } else { "" };
        write!(f, "{used} of {capacity} addresses {first}-{last} of network {network} in use{full}")
    }
}

/// Those of all definitions; none where they cannot be read, as by an agent's service account, or do not exist.
pub(crate) async fn ranges(api: &Api) -> Vec<NetworkRange> {
    match list(api, DEFINITIONS, "", false).await {
        Ok(definitions) => among(&definitions),
        // As for an agent's service account.
        Err(error) if error.code() == Some(403) => Vec::new(),
        Err(error) => {
            tracing::warn!("ranges of networks are not known: {}", error.in_words());
            Vec::new()
        }
    }
}

/// Those of definitions. Pools of a block with another datastore than the API are files on each host.
pub(crate) fn among(definitions: &[Value]) -> Vec<NetworkRange> {
    let mut found = Vec::new();
    for item in definitions {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &item["metadata"];
        let network = format!("{}/{}", text(&metadata["namespace"]), text(&metadata["name"]));
        for ipam in served_by(&text(&item["spec"]["config"])) {
            if ipam.datastore != Datastore::Kubernetes {
                continue;
            }
            for range in &ipam.ranges {
                let Ok(pool) = range.pool_name(ipam.network_name.as_deref()) else { continue };
                let inquiry = Inquiry {
                    network_name: ipam.network_name.clone(),
                    overlapping: ipam.enable_overlapping_ranges,
                    ranges: vec![range.clone()],
                    reserved: ipam.reserved(),
                };
                found.push(NetworkRange { network: network.clone(), inquiry, pool: pool.to_string() });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ranges_in_files_are_not_of_the_clusters_pools() {
        let networks = |more: &str| {
            let config = format!(r#"{{"ipam": {{"type": "octavia-ipam", "range": "10.0.0.0/24"{more}}}}}"#);
            let item = json!({"metadata": {"namespace": "a", "name": "b"}, "spec": {"config": config}});
            among(&[item]).len()
        };
        assert_eq!(networks(""), 1);
        assert_eq!(networks(r#", "datastore": "kubernetes""#), 1);
        assert_eq!(networks(r#", "datastore": "file""#), 0);
    }
}
