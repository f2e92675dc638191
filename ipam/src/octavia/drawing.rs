//! Who has which part of the two networks, as text.

use std::net::IpAddr;

use super::operator::Part;
use super::review::Review;
use crate::address::{Span, bits, from_bits};

/// A part of a network and its owner.
struct Share {
    part: Part,
    owner: String,
}

/// One line for each part of the range in ascending order, free parts included, and lines for the amphorae's network. Parts that
/// share addresses with an earlier line say so.
pub fn drawing(review: &Review) -> Vec<String> {
    let reading = &review.reading;
    let mut lines = Vec::new();
    if let Some(net) = reading.provider {
        lines.push(format!("{}  provider network: ipam.range, octavia-provider-subnet", net.trunc()));
        let mut all = Span::of(&net);
        if all.len() > 2 {
            // The network's and the broadcast address belong to no part.
            all = Span { first: all.first + 1, last: all.last - 1 };
        }
        let mut shares = shares(review);
        shares.retain(|share| net.contains(&share.part.first) || net.contains(&share.part.last));
        shares.sort_by_key(|share| (share.part.first, share.part.last));
        let mut next = all.first;
        for share in &shares {
            let (first, last) = (bits(share.part.first), bits(share.part.last));
            if first > next {
                let free = Part { first: from_bits(next, &net), last: from_bits(first - 1, &net) };
                lines.push(line(&free, "free"));
            }
            let overlaps = first < next && next > all.first;
            let outside = !net.contains(&share.part.first) || !net.contains(&share.part.last);
            let mut owner = share.owner.clone();
            if overlaps {
                owner.push_str("  <-- overlaps the part above");
            }
            if outside {
                owner.push_str("  <-- leaves the network");
            }
            lines.push(line(&share.part, &owner));
            next = next.max(last.saturating_add(1));
        }
        if next <= all.last {
            lines.push(line(&Part { first: from_bits(next, &net), last: from_bits(all.last, &net) }, "free"));
        }
    }
    if let Some(net) = reading.tenant {
        lines.push(format!("{}  tenant network: ipam.routes[0].dst, lb-mgmt-subnet", net.trunc()));
        if let Some(amphorae) = reading.amphorae {
            lines.push(line(&amphorae, "amphorae and lb-mgmt-router-port"));
        }
    }
    lines
}

fn shares(review: &Review) -> Vec<Share> {
    let reading = &review.reading;
    let mut shares = Vec::new();
    if let Some(pods) = &review.pods {
        let nodes = review.capacity.map_or(0, |capacity| capacity.nodes_by_pods);
        let owner = format!("pods: range_start to range_end, enough for {}", count(nodes));
        shares.push(Share { part: Part { first: pods.first(), last: pods.last() }, owner });
    }
    if let Some(part) = reading.neutron {
        shares.push(Share { part, owner: "Neutron's allocation pool".to_owned() });
    }
    if let Some(part) = reading.predictable {
        let nodes = review.capacity.map_or(0, |capacity| capacity.nodes_by_predictable);
        let owner =
            format!("predictable addresses of health managers and rsyslog, enough for {}", count(nodes));
        shares.push(Share { part, owner });
    }
    if let Some(router) = reading.router {
        let part = Part { first: router, last: router };
        shares.push(Share { part, owner: "octavia-link-router: ipam.routes[0].gw".to_owned() });
    }
    shares
}

fn count(nodes: u128) -> String {
    if nodes == 1 { "1 node".to_owned() } else { format!("{nodes} nodes") }
}

fn line(part: &Part, owner: &str) -> String {
    let run = if part.first == part.last { part.first.to_string() } else { part.to_string() };
    let size = match (part.first, part.last) {
        (IpAddr::V4(_), IpAddr::V4(_)) if part.first <= part.last => {
            (bits(part.last) - bits(part.first) + 1).to_string()
        }
        (IpAddr::V6(_), IpAddr::V6(_)) if part.first <= part.last => {
            let size = (bits(part.last) - bits(part.first)).saturating_add(1);
            // Beyond any use of counting.
            if size > 1 << 32 { "many".to_owned() } else { size.to_string() }
        }
        _ => "0".to_owned(),
    };
    format!("  {run:33} {size:>6}  {owner}")
}
