//! What whereabouts' own tests expect of whole operations, and where we differ on purpose.

use serde_json::{Value, json};

use super::*;
use crate::conf::Ipam;
use crate::document::Object;
use crate::name::PoolName;
use crate::request::{Owner, Reach, RequestedAddress};

mod identity;

/// Pools of one address domain, as a store would keep them.
#[derive(Default)]
struct Pools {
    pools: Vec<Pool>,
    /// Container and interface of attachments that still exist.
    alive: Vec<(&'static str, &'static str)>,
}

impl Pools {
    fn add(&mut self, ipam: &Value, owner: &Owner) -> Result<Vec<String>, Refusal> {
        self.add_requested(ipam, owner, &[])
    }

    fn add_requested(
        &mut self,
        ipam: &Value,
        owner: &Owner,
        requested: &[&str],
    ) -> Result<Vec<String>, Refusal> {
        let conf = Ipam::parse(Object::at("ipam".to_owned(), ipam).unwrap(), false).unwrap();
        let requested: Vec<RequestedAddress> =
            requested.iter().map(|text| RequestedAddress::parse("ips", text).unwrap()).collect();
        let request = conf.request(owner.clone(), &requested, Reach::Subnet).unwrap();
        let wanted = request.pools();
        let is_wanted = |pool: &Pool| wanted.iter().any(|(name, _)| name.as_str() == pool.name());
        let mut own: Vec<Pool> = wanted.iter().map(|(name, subnet)| self.get(name, *subnet)).collect();
        let related = |pool: &&Pool| wanted.iter().any(|(_, subnet)| overlap(subnet, &pool.subnet()));
        let others: Vec<Pool> = match request.overlapping {
            true => self.pools.iter().filter(|p| !is_wanted(p)).filter(related).cloned().collect(),
            false => Vec::new(),
        };
        let alive = |id: &str, ifname: &str| {
            self.alive.iter().any(|(i, name)| *i == id && (ifname.is_empty() || *name == ifname))
        };
        let assigned = allocate(&request, &mut own, &others, &alive)?;
        self.pools.retain(|pool| !is_wanted(pool));
        self.pools.extend(own);
        Ok(assigned.iter().map(|a| a.address.to_string()).collect())
    }

    fn get(&self, name: &PoolName, subnet: IpNet) -> Pool {
        let known = self.pools.iter().find(|pool| pool.name() == name.as_str());
        known.cloned().unwrap_or_else(|| Pool::new(name, subnet))
    }

    fn release(&mut self, owner: &Owner) {
        for pool in &mut self.pools {
            pool.release(|_, entry| entry.id() == owner.container_id);
        }
    }

    fn holders(&self) -> Vec<String> {
        self.pools
            .iter()
            .flat_map(Pool::holders)
            .map(|h| format!("{} {} {}", h.address, h.id, h.ifname))
            .collect()
    }
}

fn pod(n: usize) -> Owner {
    Owner { container_id: format!("c{n}"), ifname: "net1".to_owned(), pod: Some(format!("ns/pod-{n}")) }
}

fn one(address: &str) -> Vec<String> {
    vec![address.to_owned()]
}

#[test]
fn the_first_address_is_whereabouts_first() {
    for (ipam, first) in [
        (json!({ "range": "192.168.1.1/24" }), "192.168.1.1/24"),
        (json!({ "range": "caa5::0/112" }), "caa5::1/112"),
        (json!({ "range": "::1/126", "network_name": "a" }), "::1/126"),
        (json!({ "range": "fd::1/116" }), "fd::1/116"),
        (json!({ "range": "100::2:1/126" }), "100::2:1/126"),
        (
            json!({ "range": "192.168.1.0/24", "exclude": ["192.168.1.0/28", "192.168.1.16/28"] }),
            "192.168.1.32/24",
        ),
        (
            json!({ "range": "192.168.1.0/24", "exclude": ["192.168.1.16/28", "192.168.1.1/29", "fd00::/8"] }),
            "192.168.1.8/24",
        ),
        (
            json!({ "range": "2001:db8:480:603d:0304:0403:000:0000-2001:db8:480:603d:0304:0403:0000:0004/64" }),
            "2001:db8:480:603d:304:403::/64",
        ),
        // Inside bigger subnets .0 and .255 are hosts.
        (json!({ "range": "10.0.0.0/16", "range_start": "10.0.0.255" }), "10.0.0.255/16"),
        (json!({ "range": "10.0.0.0/16", "range_start": "10.0.1.0" }), "10.0.1.0/16"),
        // Neither a /8 nor a /64 may be walked address by address.
        (json!({ "range": "10.0.0.0/8", "exclude": ["10.0.0.0/9", "10.128.0.0/10"] }), "10.192.0.0/8"),
        (json!({ "range": "fd00::/64", "exclude": ["fd00::/65"] }), "fd00::8000:0:0:0/64"),
        // whereabouts hands the gateway out, and the next hop.
        (json!({ "range": "10.0.0.0/24", "gateway": "10.0.0.1" }), "10.0.0.2/24"),
        (
            json!({ "range": "10.0.0.0/24", "gateway": "10.0.0.1", "routes": [{ "dst": "10.9.0.0/16", "gw": "10.0.0.2" }] }),
            "10.0.0.3/24",
        ),
    ] {
        assert_eq!(Pools::default().add(&ipam, &pod(0)).unwrap(), one(first), "{ipam}");
    }
}

#[test]
fn full_ranges_are_refused() {
    for ipam in [
        json!({ "range": "192.168.1.0/30", "exclude": ["192.168.1.1"], "gateway": "192.168.1.2" }),
        json!({ "range": "fd00::/126", "exclude": ["fd00::1"], "gateway": "fd00::2" }),
    ] {
        assert!(matches!(Pools::default().add(&ipam, &pod(0)), Err(Refusal::Exhausted(_))), "{ipam}");
    }
}

#[test]
fn pods_are_numbered_in_order_until_the_range_is_full() {
    let mut pools = Pools::default();
    let ipam = json!({ "range": "10.10.0.0/16", "range_start": "10.10.0.11", "range_end": "10.10.0.22" });
    for n in 0..12 {
        assert_eq!(pools.add(&ipam, &pod(n)).unwrap(), one(&format!("10.10.0.{}/16", 11 + n)));
    }
    let error = pools.add(&ipam, &pod(99)).unwrap_err().to_string();
    assert_eq!(
        error,
        "pool 10.10.0.0-16 has no free address in 10.10.0.11-10.10.0.22: 12 used, 0 free, 0 reserved, 0 excluded; \
         by namespace: ns 12; held: 10.10.0.11 ns/pod-0 net1 (container c0), 10.10.0.12 ns/pod-1 net1 (container c1), \
         10.10.0.13 ns/pod-2 net1 (container c2), 10.10.0.14 ns/pod-3 net1 (container c3), \
         10.10.0.15 ns/pod-4 net1 (container c4), 10.10.0.16 ns/pod-5 net1 (container c5), \
         10.10.0.17 ns/pod-6 net1 (container c6), 10.10.0.18 ns/pod-7 net1 (container c7), and 4 more"
    );
    pools.release(&pod(3));
    assert_eq!(pools.add(&ipam, &pod(99)).unwrap(), one("10.10.0.14/16"));
}

#[test]
fn every_range_gives_one_address_in_order() {
    let mut pools = Pools::default();
    let ipam = json!({ "range": "abcd::/64", "ipRanges": [{ "range": "192.168.10.0/24" }] });
    assert_eq!(pools.add(&ipam, &pod(0)).unwrap(), ["abcd::1/64", "192.168.10.1/24"]);
    let ipam = json!({
        "ipRanges": [{ "range": "10.0.0.0/24" }, { "range": "fd00::/64" }],
        "addresses": [{ "address": "10.5.0.9/24" }],
    });
    assert_eq!(pools.add(&ipam, &pod(1)).unwrap(), ["10.0.0.1/24", "fd00::1/64", "10.5.0.9/24"]);
    // All or nothing: the second range is full.
    let ipam = json!({ "ipRanges": [{ "range": "10.7.0.0/24" }, { "range": "10.8.0.0/30", "exclude": ["10.8.0.1"] }],
        "gateway": "10.8.0.2" });
    let before = pools.holders();
    assert!(pools.add(&ipam, &pod(2)).is_err());
    assert_eq!(pools.holders(), before);
}

#[test]
fn ranges_over_one_subnet_give_different_addresses() {
    let mut pools = Pools::default();
    let twice = json!({ "ipRanges": [{ "range": "10.0.0.0/24" }, { "range": "10.0.0.0/24" }] });
    assert_eq!(pools.add(&twice, &pod(0)).unwrap(), ["10.0.0.1/24", "10.0.0.2/24"]);
    assert_eq!(pools.add(&twice, &pod(0)).unwrap(), ["10.0.0.1/24", "10.0.0.2/24"], "repeated");
    let nested = json!({ "ipRanges": [{ "range": "10.1.0.0/24" }, { "range": "10.1.0.0/25" }] });
    assert_eq!(pools.add(&nested, &pod(0)).unwrap(), ["10.1.0.1/24", "10.1.0.2/25"]);
    let apart = json!({ "enable_overlapping_ranges": false, "ipRanges": [{ "range": "10.2.0.0/24" }, { "range": "10.2.0.0/25" }] });
    assert_eq!(
        pools.add(&apart, &pod(0)).unwrap(),
        ["10.2.0.1/24", "10.2.0.2/25"],
        "one interface, two addresses"
    );
    // Apart means apart: what others have in the one pool is free in the other.
    pools.add(&json!({ "enable_overlapping_ranges": false, "range": "10.2.0.0/25" }), &pod(1)).unwrap();
    assert_eq!(pools.add(&apart, &pod(2)).unwrap(), ["10.2.0.2/24", "10.2.0.3/25"]);
}

#[test]
fn overlapping_pools_share_their_addresses_unless_told_otherwise() {
    for (wide, narrow, expected) in [
        ("192.168.22.0/24", "192.168.22.0/28", "192.168.22.2/28"),
        ("192.168.22.0/28", "192.168.22.0/24", "192.168.22.2/24"),
        ("2001::/124", "2001::/126", "2001::2/126"),
    ] {
        let mut pools = Pools::default();
        pools.add(&json!({ "range": wide }), &pod(0)).unwrap();
        // Also a second interface of the same pod gets an address of its own.
        let second = Owner { ifname: "net2".to_owned(), ..pod(0) };
        assert_eq!(pools.add(&json!({ "range": narrow }), &second).unwrap(), one(expected));
        let apart = json!({ "range": "10.0.0.0/24", "enable_overlapping_ranges": false });
        pools.add(&json!({ "range": "10.0.0.0/28" }), &pod(1)).unwrap();
        assert_eq!(pools.add(&apart, &pod(2)).unwrap(), one("10.0.0.1/24"));
    }
}

#[test]
fn many_addresses_in_an_overlapping_pool_do_not_matter() {
    // From 30 on, whereabouts never gets an address here.
    let mut pools = Pools::default();
    for n in 0..200 {
        pools.add(&json!({ "range": "10.0.0.0/24" }), &pod(n)).unwrap();
    }
    assert_eq!(pools.add(&json!({ "range": "10.0.0.0/16" }), &pod(500)).unwrap(), one("10.0.0.201/16"));
}

#[test]
fn static_addresses_have_one_holder() {
    let mut pools = Pools::default();
    let ipam = json!({ "range": "10.0.0.0/24", "addresses": [{ "address": "10.0.0.1/24" }, { "address": "10.9.9.9/32" }] });
    assert_eq!(pools.add(&ipam, &pod(0)).unwrap(), ["10.0.0.2/24", "10.0.0.1/24", "10.9.9.9/32"]);
    assert_eq!(pools.add(&ipam, &pod(0)).unwrap(), ["10.0.0.2/24", "10.0.0.1/24", "10.9.9.9/32"]);
    let error = pools.add(&ipam, &pod(1)).unwrap_err().to_string();
    assert_eq!(error, "address 10.0.0.1 is held by ns/pod-0 net1 (container c0)");
    let wider = json!({ "addresses": [{ "address": "10.0.0.2/16" }] });
    assert!(matches!(pools.add(&wider, &pod(1)), Err(Refusal::Held { .. })), "held in another pool");
}

#[test]
fn requested_addresses_are_reserved_or_refused() {
    let mut pools = Pools::default();
    let ipam = json!({ "range": "10.0.0.0/24", "range_start": "10.0.0.30", "range_end": "10.0.0.70" });
    assert_eq!(pools.add_requested(&ipam, &pod(0), &["10.0.0.200"]).unwrap(), one("10.0.0.200/24"));
    assert!(matches!(pools.add_requested(&ipam, &pod(1), &["10.0.0.200"]), Err(Refusal::Held { .. })));
    assert_eq!(pools.add(&ipam, &pod(0)).unwrap(), one("10.0.0.200/24"), "kept when no longer asked for");
    // Another address in place of the one held.
    assert_eq!(pools.add_requested(&ipam, &pod(0), &["10.0.0.31"]).unwrap(), one("10.0.0.31/24"));
    assert_eq!(pools.holders(), ["10.0.0.31 c0 net1"]);
    assert_eq!(pools.add(&ipam, &pod(1)).unwrap(), one("10.0.0.30/24"));
    assert_eq!(pools.add(&ipam, &pod(2)).unwrap(), one("10.0.0.32/24"));
    let two = ["10.0.0.40", "10.0.0.41"];
    assert_eq!(pools.add_requested(&ipam, &pod(3), &two).unwrap(), ["10.0.0.40/24", "10.0.0.41/24"]);
    // The range was resized and the pod keeps its address by asking for it.
    let resized = json!({ "range": "10.0.0.0/25" });
    assert_eq!(pools.add_requested(&resized, &pod(1), &["10.0.0.30"]).unwrap(), one("10.0.0.30/25"));
}

#[test]
fn an_address_that_became_a_gateway_is_given_up() {
    let mut pools = Pools::default();
    pools.add(&json!({ "range": "10.0.0.0/24" }), &pod(0)).unwrap();
    let ipam = json!({ "range": "10.0.0.0/24", "gateway": "10.0.0.1" });
    assert_eq!(pools.add(&ipam, &pod(0)).unwrap(), one("10.0.0.2/24"));
    assert_eq!(pools.holders(), ["10.0.0.2 c0 net1"]);
}

#[test]
fn a_second_range_does_not_take_the_first_ones_address() {
    let mut pools = Pools::default();
    pools.add(&json!({ "range": "10.0.0.30-10.0.0.40/24" }), &pod(0)).unwrap();
    let both =
        json!({ "ipRanges": [{ "range": "10.0.0.10-10.0.0.20/24" }, { "range": "10.0.0.30-10.0.0.40/24" }] });
    assert_eq!(pools.add(&both, &pod(0)).unwrap(), ["10.0.0.10/24", "10.0.0.30/24"]);
    // One range again: the other address is given back.
    assert_eq!(
        pools.add(&json!({ "range": "10.0.0.10-10.0.0.20/24" }), &pod(0)).unwrap(),
        one("10.0.0.10/24")
    );
    assert_eq!(pools.holders(), ["10.0.0.10 c0 net1"]);
}

#[test]
fn usage_counts_what_can_be_handed_out() {
    let mut pools = Pools::default();
    let ipam = json!({
        "range": "172.23.0.0/24", "range_start": "172.23.0.30", "range_end": "172.23.0.70",
        "exclude": ["172.23.0.68/30"], "gateway": "172.23.0.50",
        "routes": [{ "dst": "172.24.0.0/16", "gw": "172.23.0.150" }],
    });
    for n in 0..3 {
        pools.add(&ipam, &pod(n)).unwrap();
    }
    pools.add_requested(&ipam, &pod(7), &["172.23.0.69"]).unwrap();
    let conf = Ipam::parse(Object::at("ipam".to_owned(), &ipam).unwrap(), false).unwrap();
    let state = usage(&conf.ranges[0], "172.23.0.0-24", pools.pools.iter(), &conf.reserved());
    // 41 addresses, of which .68 to .70 are excluded and .50 is the gateway.
    assert_eq!((state.capacity, state.used, state.free, state.excluded, state.reserved), (37, 3, 34, 3, 1));
    assert_eq!(state.holders.len(), 4, "an excluded address may still be held");
    let half = Range::new("8000::/1".parse().unwrap(), None, None, Vec::new()).unwrap().0;
    assert_eq!(usage(&half, "x", std::iter::empty(), &[]).free, (1 << 127) - 2);
}
