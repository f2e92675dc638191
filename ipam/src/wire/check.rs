//! What the agent believes of a call: that it asks for no more than a network may, and that its parts fit each other.
//!
//! Plugins check all of this before they ask, but a plugin of another release may not have, and the agent serves all pods of
//! its node: one claim with thousands of ranges would keep them waiting, and a pool whose name is not its subnet's would
//! become an object that no agent can read again.

use crate::address::{is_host_of, same_family};
use crate::name::{PoolName, is_object_name};
use crate::request::{
    Choice, MOST_EXCLUDES, MOST_ROUTES, MOST_WANTS, Owner, Request, Want, check_container_id,
};

use super::{Failure, Kind, Verb};

/// Gateways and next hops: of each route, of each static address, and the network's.
const MOST_RESERVED: usize = MOST_ROUTES + MOST_WANTS + 1;

impl Verb {
    /// Checks what the rest of the agent relies on. The interface's name is left to the caller, who knows links.
    ///
    /// # Errors
    /// [`Kind::Unsupported`] if it asks for too much, [`Kind::Malformed`] if its parts contradict each other.
    pub fn check(&self) -> Result<(), Failure> {
        match self {
            Self::Claim(claim) => check_request(&claim.request),
            Self::Held(lookup) => at_most("pools", lookup.pools.len(), MOST_WANTS),
            Self::Usage(inquiry) => {
                at_most("ranges", inquiry.ranges.len(), MOST_WANTS)?;
                at_most("reserved addresses", inquiry.reserved.len(), MOST_RESERVED)?;
                let excludes = inquiry.ranges.iter().map(|range| range.exclude().len()).sum();
                at_most("exclusions", excludes, MOST_EXCLUDES)
            }
            // Of what nobody has, nothing is released.
            Self::Release(_) => Ok(()),
        }
    }
}

fn check_request(request: &Request) -> Result<(), Failure> {
    at_most("addresses", request.wants.len(), MOST_WANTS)?;
    at_most("reserved addresses", request.reserved.len(), MOST_RESERVED)?;
    let mut excludes = 0;
    for want in &request.wants {
        if let Choice::Lowest(range) = &want.choice {
            excludes += range.exclude().len();
        }
    }
    at_most("exclusions", excludes, MOST_EXCLUDES)?;
    check_owner(&request.owner)?;
    let network = request.network_name.as_deref();
    if let Some(name) = network.filter(|name| !is_object_name(name)) {
        return malformed(format!("network name {name:?} cannot begin a pool's name"));
    }
    for want in &request.wants {
        check_want(network, want)?;
    }
    Ok(())
}

fn check_owner(owner: &Owner) -> Result<(), Failure> {
    if let Err(remedy) = check_container_id(&owner.container_id) {
        return malformed(format!("container id {:?} {remedy}", owner.container_id));
    }
    let Some(pod) = &owner.pod else { return Ok(()) };
    match pod.split_once('/') {
        Some((namespace, name)) if is_object_name(namespace) && is_object_name(name) => Ok(()),
        _ => malformed(format!(
            "pod {pod:?} is not a namespace and a name, such as openstack/octavia-worker-0"
        )),
    }
}

fn check_want(network: Option<&str>, want: &Want) -> Result<(), Failure> {
    let Want { pool, subnet, gateway, choice } = want;
    if *subnet != subnet.trunc() || subnet.prefix_len() == 0 {
        return malformed(format!("{subnet} is not the subnet of a pool"));
    }
    if PoolName::new(network, subnet).ok().as_ref() != Some(pool) {
        let of = network.map(|name| format!(" of network {name}")).unwrap_or_default();
        return malformed(format!("pool {pool} does not keep the addresses of {subnet}{of}"));
    }
    if let Some(gateway) = gateway.filter(|gateway| !same_family(subnet, *gateway)) {
        return malformed(format!("gateway {gateway} is not of the address family of {subnet}"));
    }
    let outside = |what: &dyn std::fmt::Display| malformed(format!("{what} does not lie within {subnet}"));
    match choice {
        Choice::Lowest(range) if range.subnet() != *subnet => outside(&range.subnet()),
        Choice::Exactly(address) if !is_host_of(subnet, *address) => outside(address),
        Choice::Lowest(_) | Choice::Exactly(_) => Ok(()),
    }
}

fn at_most(what: &str, count: usize, most: usize) -> Result<(), Failure> {
    if count <= most {
        return Ok(());
    }
    let message = format!("{count} {what} of one attachment are too many; {most} are the most");
    Err(Failure { kind: Kind::Unsupported, message })
}

fn malformed(message: String) -> Result<(), Failure> {
    Err(Failure { kind: Kind::Malformed, message })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use ipnet::IpNet;
    use serde_json::{Value, json};

    use super::*;
    use crate::wire::Call;

    fn claim() -> Value {
        let range = json!({"subnet": "172.23.0.0/24", "first": "172.23.0.30", "last": "172.23.0.70"});
        json!({"version": 1, "claim": {"patienceMs": 1000, "request": {
            "owner": {"containerId": "3f2a", "ifname": "net1", "pod": "openstack/octavia-worker-0"},
            "networkName": null, "overlapping": true, "reserved": [],
            "wants": [
                {"pool": "172.23.0.0-24", "subnet": "172.23.0.0/24", "gateway": null, "choice": {"lowest": range}},
                {"pool": "10.0.0.9-32", "subnet": "10.0.0.9/32", "gateway": null, "choice": {"exactly": "10.0.0.9"}},
            ],
        }}})
    }

    fn check(call: &Value) -> Result<(), Failure> {
        serde_json::from_value::<Call>(call.clone()).unwrap().verb.check()
    }

    #[test]
    fn a_claims_parts_must_fit_each_other() {
        check(&claim()).unwrap();
        for (at, value, why) in [
            ("owner/containerId", json!("a/b"), "container id \"a/b\" must start with"),
            ("owner/containerId", json!("a".repeat(201)), "must not exceed 200 bytes"),
            ("owner/pod", json!("octavia"), "pod \"octavia\" is not a namespace and a name"),
            ("owner/pod", json!("a/b\nc"), "pod \"a/b\\nc\" is not"),
            ("owner/pod", json!("a/b/c"), "is not a namespace and a name"),
            ("networkName", json!("Blue"), "network name \"Blue\" cannot"),
            (
                "networkName",
                json!("blue"),
                "pool 172.23.0.0-24 does not keep the addresses of 172.23.0.0/24 of network blue",
            ),
            ("wants/0/pool", json!("net1"), "pool net1 does not keep the addresses of 172.23.0.0/24"),
            ("wants/0/subnet", json!("172.23.0.7/24"), "172.23.0.7/24 is not the subnet of a pool"),
            ("wants/0/subnet", json!("172.23.0.0/25"), "pool 172.23.0.0-24 does not keep"),
            ("wants/0/gateway", json!("fd00::1"), "gateway fd00::1 is not of the address family"),
            ("wants/1/choice/exactly", json!("10.0.0.10"), "10.0.0.10 does not lie within 10.0.0.9/32"),
            ("wants/0/choice", json!({"exactly": "172.23.0.255"}), "172.23.0.255 does not lie within"),
        ] {
            let mut call = claim();
            *call.pointer_mut(&format!("/claim/request/{at}")).unwrap() = value;
            let failure = check(&call).unwrap_err();
            assert!(failure.kind == Kind::Malformed && failure.message.contains(why), "{at}: {failure:?}");
        }
    }

    #[test]
    fn a_call_asks_for_no_more_than_one_attachment_may_have() {
        let subnet: IpNet = "10.0.0.0/16".parse().unwrap();
        let range = json!({"subnet": subnet, "first": "10.0.0.1", "last": "10.0.255.254"});
        let excluding = |count: usize| json!({"subnet": subnet, "first": "10.0.0.1", "last": "10.0.255.254", "exclude": vec!["10.0.0.1/32"; count]});
        let want = |range: &Value| json!({"pool": "10.0.0.0-16", "subnet": subnet, "gateway": null, "choice": {"lowest": range}});
        let claim = |wants: Vec<Value>, reserved: usize| {
            let mut call = claim();
            call["claim"]["request"]["wants"] = wants.into();
            call["claim"]["request"]["reserved"] = vec![json!(IpAddr::from([10, 0, 0, 1])); reserved].into();
            call
        };
        let usage = |ranges: usize| json!({"version": 1, "usage": {"overlapping": true, "ranges": vec![&range; ranges], "reserved": []}});
        let held = |pools: usize| {
            let pools = vec![json!(["10.0.0.0-16", subnet]); pools];
            json!({"version": 1, "held": {"containerId": "a", "ifname": "net1", "pools": pools}})
        };
        check(&claim(vec![want(&range); 64], 1089)).unwrap();
        check(&claim(vec![want(&excluding(512)); 2], 0)).unwrap();
        check(&usage(64)).unwrap();
        check(&held(64)).unwrap();
        for (call, why) in [
            (
                claim(vec![want(&range); 2500], 0),
                "2500 addresses of one attachment are too many; 64 are the most",
            ),
            (claim(vec![want(&range)], 1090), "1090 reserved addresses"),
            (claim(vec![want(&excluding(513)); 2], 0), "1026 exclusions"),
            (usage(65), "65 ranges"),
            (held(65), "65 pools"),
        ] {
            let failure = check(&call).unwrap_err();
            assert!(failure.kind == Kind::Unsupported && failure.message.contains(why), "{failure:?}");
        }
    }
}
