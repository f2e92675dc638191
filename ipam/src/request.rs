//! What one attachment asks of the pools, and who it is.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::address;
use crate::document::FieldError;
use crate::name::PoolName;
use crate::pool::Allocation;
use crate::range::Range;

/// Most addresses of one attachment: of ranges, static ones, and those asked for. Each costs a pool's object, a
/// reservation, and time of the node's agent, which serves all pods of the node.
pub const MOST_WANTS: usize = 64;
/// Most routes of one attachment, and so most next hops that its ranges must not hand out.
pub const MOST_ROUTES: usize = 1024;
/// Most exclusions of one attachment, in all its ranges together: the agent remembers them for as long as it runs.
pub const MOST_EXCLUDES: usize = 1024;
/// Longest container id, in bytes: the record of an attachment is a file named after it and the interface, and file names end at
/// 255 bytes.
const MAX_CONTAINER_ID: usize = 200;

/// The form the CNI specification demands of container ids and network names: `^[A-Za-z0-9][A-Za-z0-9_.-]*$`.
pub fn is_identifier(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// Checks a `CNI_CONTAINERID`.
///
/// # Errors
/// What it must be instead; continues the sentence that the id begins.
pub fn check_container_id(id: &str) -> Result<(), &'static str> {
    if !is_identifier(id) {
        return Err("must start with a letter or digit and go on with letters, digits, '_', '.' or '-'");
    }
    if id.len() > MAX_CONTAINER_ID {
        return Err("must not exceed 200 bytes");
    }
    Ok(())
}

/// The attachment that holds, or wants, addresses.
///
/// Known pods are recognised by pod and interface, so a new sandbox of the same pod gets its addresses
/// again, unless the old one still lives. Runtimes that name no pod are recognised by container id and
/// interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// `CNI_CONTAINERID`, the sandbox.
    pub container_id: String,
    /// `CNI_IFNAME`, the interface inside the pod.
    pub ifname: String,
    /// `namespace/name` of the pod, if the runtime says it.
    pub pod: Option<String>,
}

/// An address that the pod's configuration asks for by name (`runtimeConfig.ips`, or `IP` in
/// `CNI_ARGS`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestedAddress {
    /// The address.
    pub address: IpAddr,
    /// The prefix length written after it, if any.
    pub prefix_len: Option<u8>,
    /// Where it was written, for messages: `runtimeConfig.ips[0]`, `CNI_ARGS IP`.
    pub field: String,
}

impl RequestedAddress {
    /// Reads `address` or `address/length`, found at `field`.
    pub fn parse(field: impl Into<String>, text: &str) -> Result<Self, FieldError> {
        let field = field.into();
        if let Some(address) = address::parse(text) {
            return Ok(Self { address, prefix_len: None, field });
        }
        match address::parse_net(text) {
            Some(net) => Ok(Self { address: net.addr(), prefix_len: Some(net.prefix_len()), field }),
            None => {
                let remedy = "is not an IP address; write one like 172.23.0.40 or 172.23.0.40/24";
                Err(FieldError::text(field, text, remedy))
            }
        }
    }
}

/// Everything one ADD needs of the pools, in the order of the result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Who asks.
    pub owner: Owner,
    /// The address domain: pools of other domains do not matter.
    pub network_name: Option<String>,
    /// Whether addresses in use in any overlapping pool of the domain are taken.
    pub overlapping: bool,
    /// What is asked for, one address each, all or nothing.
    pub wants: Vec<Want>,
    /// Gateways and next hops: this request is never given them. They are known from its own configuration
    /// only, see [`crate::conf::Ipam::reserved`].
    pub reserved: Vec<IpAddr>,
}

impl Request {
    /// The pools involved with their subnets, each once, in order of first need.
    pub fn pools(&self) -> Vec<(PoolName, IpNet)> {
        let mut pools: Vec<(PoolName, IpNet)> = Vec::new();
        for want in &self.wants {
            if !pools.iter().any(|(name, _)| *name == want.pool) {
                pools.push((want.pool.clone(), want.subnet));
            }
        }
        pools
    }
}

/// How far an address that is asked for by name may lie from what its range hands out by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Between the range's bounds, and in none of its exclusions.
    Range,
    /// Anywhere in the range's subnet. The network has to allow it, by `"capabilities": {"ips": true}`.
    Subnet,
}

/// One address wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Want {
    /// The pool that keeps it.
    pub pool: PoolName,
    /// The pool's subnet, masked; gives the result its prefix length.
    pub subnet: IpNet,
    /// The gateway to report with it.
    pub gateway: Option<IpAddr>,
    /// Which address.
    pub choice: Choice,
}

/// How an address is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Choice {
    /// The one the owner already has in this range, else the lowest free.
    Lowest(Range),
    /// This one or none.
    Exactly(IpAddr),
}

/// An address that now belongs to the request's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assigned {
    /// The address with its subnet's prefix length.
    pub address: IpNet,
    /// Its gateway, if the configuration names one of its subnet.
    pub gateway: Option<IpAddr>,
}

/// Who holds an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// The address held.
    pub address: IpAddr,
    /// Container id.
    pub id: String,
    /// `namespace/name` of the pod; empty when the runtime named none.
    pub pod: String,
    /// Interface in the pod; empty in entries of whereabouts before 0.8.
    pub ifname: String,
}

impl Holder {
    pub(crate) fn new(address: IpAddr, entry: &Allocation) -> Self {
        Self {
            address,
            id: entry.id().to_owned(),
            pod: entry.podref().to_owned(),
            ifname: entry.ifname().unwrap_or_default().to_owned(),
        }
    }
}

impl fmt::Display for Holder {
    /// The pod if known, the interface, and enough of the container id to find it in `crictl ps`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pod = if self.pod.is_empty() { "unnamed pod" } else { &self.pod };
        let ifname = if self.ifname.is_empty() { "unnamed interface" } else { &self.ifname };
        let id: String = self.id.chars().take(13).collect();
        write!(f, "{pod} {ifname} (container {id})")
    }
}
