//! From a configuration and what the pod asks for to a [`Request`].

use std::net::IpAddr;

use ipnet::IpNet;

use crate::address::is_host_of;
use crate::document::FieldError;
use crate::name::PoolName;
use crate::range::Range;
use crate::request::{Choice, MOST_WANTS, Owner, Reach, Request, RequestedAddress, Want};

use super::Ipam;
use super::networks::list;

impl Ipam {
    /// What `owner` needs: an address of each range, the `requested` ones, and the static ones.
    ///
    /// A requested address takes the place of the range it lies in; a second one in the same range comes
    /// on top. Who asks is the pod's author: so whether it may lie outside the range's bounds or in an exclusion, which the
    /// network's author has set, is the network's to say, by `reach`. Never is it a gateway or next hop.
    pub fn request(
        &self,
        owner: Owner,
        requested: &[RequestedAddress],
        reach: Reach,
    ) -> Result<Request, FieldError> {
        check_count(requested, requested.len())?;
        let reserved = self.reserved();
        let mut pinned: Vec<Option<IpAddr>> = vec![None; self.ranges.len()];
        let mut extra: Vec<(IpAddr, IpNet)> = Vec::new();
        let mut seen: Vec<IpAddr> = Vec::new();
        for asked in requested {
            // Multus passes one address both as runtimeConfig.ips and in CNI_ARGS.
            let subnet = self.check_requested(asked, &reserved, reach)?;
            if seen.contains(&asked.address) {
                continue;
            }
            seen.push(asked.address);
            let candidates = || (0..self.ranges.len()).filter(|i| self.ranges[*i].subnet() == subnet);
            let free = || candidates().filter(|i| pinned[*i].is_none());
            // Of two ranges over one subnet, the one that would hand it out itself.
            match free().find(|i| self.ranges[*i].offers(asked.address)).or_else(|| free().next()) {
                Some(i) => pinned[i] = Some(asked.address),
                None => extra.push((asked.address, subnet)),
            }
        }
        let mut wants = Vec::new();
        for (range, pin) in self.ranges.iter().zip(pinned) {
            let choice = pin.map_or_else(|| Choice::Lowest(range.clone()), Choice::Exactly);
            wants.push(self.want(range.subnet(), choice, None)?);
        }
        for (address, subnet) in extra {
            wants.push(self.want(subnet, Choice::Exactly(address), None)?);
        }
        for fixed in &self.addresses {
            let choice = Choice::Exactly(fixed.address.addr());
            wants.push(self.want(fixed.address.trunc(), choice, Some(fixed.gateway))?);
        }
        check_count(requested, wants.len())?;
        let network_name = self.network_name.clone();
        Ok(Request { owner, network_name, overlapping: self.enable_overlapping_ranges, wants, reserved })
    }

    /// A want in `subnet`; `gateway` is the address' own setting where it has one.
    fn want(
        &self,
        subnet: IpNet,
        choice: Choice,
        gateway: Option<Option<IpAddr>>,
    ) -> Result<Want, FieldError> {
        let pool = PoolName::new(self.network_name.as_deref(), &subnet)
            .map_err(|error| FieldError::missing("ipam.network_name", error.to_string()))?;
        let gateway = gateway.unwrap_or_else(|| self.gateway_of(&subnet));
        Ok(Want { pool, subnet, gateway, choice })
    }

    /// The subnet of the range that a requested address belongs to.
    fn check_requested(
        &self,
        asked: &RequestedAddress,
        reserved: &[IpAddr],
        reach: Reach,
    ) -> Result<IpNet, FieldError> {
        let address = asked.address;
        let text = match asked.prefix_len {
            Some(length) => format!("{address}/{length}"),
            None => address.to_string(),
        };
        let wrong = |remedy: String| Err(FieldError::text(&asked.field, &text, remedy));
        let mut subnets =
            self.ranges.iter().map(Range::subnet).filter(|subnet| subnet.contains(&address)).peekable();
        let Some(first) = subnets.peek().copied() else {
            return wrong(match self.ranges.as_slice() {
                [] => "cannot be requested because the network has no range; remove it".to_owned(),
                ranges => {
                    format!("is in none of the network's ranges; ask for an address of {}", list(ranges))
                }
            });
        };
        let Some(subnet) = subnets.find(|s| asked.prefix_len.is_none_or(|length| length == s.prefix_len()))
        else {
            return wrong(format!(
                "has another prefix length than its range {first}; write /{}",
                first.prefix_len()
            ));
        };
        if !is_host_of(&subnet, address) {
            return wrong(format!("is the first or last address of {subnet}; ask for one between"));
        }
        if reserved.contains(&address) {
            return wrong("is a gateway or a route's next hop; ask for another address".to_owned());
        }
        if self.addresses.iter().any(|fixed| fixed.address.addr() == address) {
            return wrong("is one of ipam.addresses already; remove it here or there".to_owned());
        }
        let mut ranges = self.ranges.iter().filter(|range| range.subnet() == subnet).peekable();
        if reach == Reach::Range
            && let Some(first) = ranges.peek().copied()
            && !ranges.any(|range| range.offers(address))
        {
            return wrong(outside(first, address));
        }
        Ok(subnet)
    }
}

/// Why `range` does not offer `address`, and who can do something about it.
fn outside(range: &Range, address: IpAddr) -> String {
    let bounds = format!("{}-{}", range.first(), range.last());
    let why = match range.exclude().iter().find(|net| net.contains(&address)) {
        Some(net) => format!("is excluded from {bounds} by {net}; ask for another address of it"),
        None => format!("lies outside {bounds}; ask for an address of it"),
    };
    format!("{why}, or let the network allow others by \"capabilities\": {{\"ips\": true}}")
}

/// Refuses more addresses than one attachment may have.
fn check_count(requested: &[RequestedAddress], count: usize) -> Result<(), FieldError> {
    match requested.last() {
        Some(last) if count > MOST_WANTS => Err(FieldError::missing(
            last.field.as_str(),
            format!("makes {count} addresses of one attachment; ask for fewer, {MOST_WANTS} are the most"),
        )),
        _ => Ok(()),
    }
}
