//! From a configuration and what the pod asks for to a [`Request`].

use std::net::IpAddr;

use ipnet::IpNet;

use crate::address::is_host_of;
use crate::document::FieldError;
use crate::name::PoolName;
use crate::range::Range;
use crate::request::{Choice, Owner, Request, RequestedAddress, Want};

use super::Ipam;
use super::networks::list;

impl Ipam {
    /// What `owner` needs: an address of each range, the `requested` ones, and the static ones.
    ///
    /// A requested address takes the place of the range it lies in; a second one in the same range comes
    /// on top. It may lie outside the range's bounds or in an exclusion, since naming it is an
    /// administrator's decision, but never be a gateway or next hop.
    pub fn request(&self, owner: Owner, requested: &[RequestedAddress]) -> Result<Request, FieldError> {
        let reserved = self.reserved();
        let mut pinned: Vec<Option<IpAddr>> = vec![None; self.ranges.len()];
        let mut extra: Vec<(IpAddr, IpNet)> = Vec::new();
        let mut seen: Vec<IpAddr> = Vec::new();
        for asked in requested {
            // Multus passes one address both as runtimeConfig.ips and in CNI_ARGS.
            let subnet = self.check_requested(asked, &reserved)?;
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
    fn check_requested(&self, asked: &RequestedAddress, reserved: &[IpAddr]) -> Result<IpNet, FieldError> {
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
        Ok(subnet)
    }
}
