//! What nftables does with forwarded packets: the tables with a base chain in the forward hook, and what their rules test.
//!
//! `iptables-nft` and `ebtables-nft` make such tables as well. Read from the kernel, so that no program of the host is needed.
//! Numbers and names are those of `linux/netfilter/nf_tables.h`; numbers are big-endian.

mod rule;

use std::collections::HashMap;
use std::time::Duration;

use nix::errno::Errno;
use rtnetlink::packet_core::{DecodeError, NLA_HEADER_SIZE, NlasIterator, parse_string};
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use tokio::runtime::Handle;

use crate::channel::{Channel, Decode, Request};
use crate::netlink::{connection, settled, worded};
use crate::{Error, Namespace, Result};

pub use rule::{FilterRule, RulePart, RuleTest, STATE_ESTABLISHED, STATE_NEW, Verdict};

/// Of each dump.
const DEADLINE: Duration = Duration::from_secs(10);
/// `NFNL_SUBSYS_NFTABLES` and a message's number.
const GET_TABLE: u16 = 10 << 8 | 1;
const GET_CHAIN: u16 = 10 << 8 | 4;
const GET_RULE: u16 = 10 << 8 | 7;
/// Length of `struct nfgenmsg`.
const HEADER: usize = 4;
/// `NF_INET_FORWARD`, which is also `NF_BR_FORWARD`.
const FORWARD: u32 = 2;
const NF_DROP: u32 = 0;
/// `NFT_TABLE_F_DORMANT`: its chains see no packets.
const DORMANT: u32 = 1;
/// What the kernel answers if it has no nftables, by its age and its modules.
const ABSENT: [Errno; 3] = [Errno::EINVAL, Errno::EPROTONOSUPPORT, Errno::EOPNOTSUPP];

/// To which packets a table applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterFamily {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// Frames between ports of a bridge.
    Bridge,
}

/// A table that sees forwarded packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterTable {
    /// To which packets it applies.
    pub family: FilterFamily,
    /// Its name.
    pub name: String,
    /// All of its chains: those in the forward hook may lead to others.
    pub chains: Vec<FilterChain>,
}

/// A chain with its rules in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterChain {
    /// Its name.
    pub name: String,
    /// `None` for a chain that is not in the forward hook; else whether the chain drops what its rules let through to the end.
    pub forward: Option<bool>,
    /// Its rules.
    pub rules: Vec<FilterRule>,
}

/// Reads the tables with a base chain in the forward hook, in the calling thread's namespace, without dormant ones. Empty on a kernel without
/// nftables, where only legacy iptables can filter.
///
/// # Errors
/// Those of a request; to read the tables takes root's rights.
pub async fn forward_filters() -> Result<Vec<FilterTable>> {
    let mut channel = match Channel::for_requests_of(NETLINK_NETFILTER, &Handle::current()) {
        Ok(channel) => channel,
        Err(cause) if cause.raw_os_error().is_some_and(is_absent) => return Ok(Vec::new()),
        Err(cause) => return Err(connection(&Namespace::current()?, cause)),
    };
    match read(&mut channel).await {
        Err(Error::Refused { errno, .. }) if is_absent(errno) => Ok(Vec::new()),
        tables => tables,
    }
}

fn is_absent(errno: i32) -> bool {
    ABSENT.contains(&Errno::from_raw(errno))
}

async fn read(channel: &mut Channel) -> Result<Vec<FilterTable>> {
    let mut tables: Vec<FilterTable> = Vec::new();
    for (family, table, chain) in dump(channel, GET_CHAIN, &about(0, None), chain).await? {
        match tables.iter_mut().find(|known| known.family == family && known.name == table) {
            Some(known) => known.chains.push(chain),
            None => tables.push(FilterTable { family, name: table, chains: vec![chain] }),
        }
    }
    for (family, name) in dump(channel, GET_TABLE, &about(0, None), dormant).await? {
        tables.retain(|table| table.family != family || table.name != name);
    }
    tables.retain(|table| table.chains.iter().any(|chain| chain.forward.is_some()));
    for table in &mut tables {
        let mut chains = HashMap::new();
        for chain in &mut table.chains {
            chains.insert(chain.name.as_str(), &mut chain.rules);
        }
        let request = about(table.family.number(), Some(&table.name));
        for (name, rule) in dump(channel, GET_RULE, &request, rule::decode).await? {
            if let Some(rules) = chains.get_mut(name.as_str()) {
                rules.push(rule);
            }
        }
    }
    Ok(tables)
}

impl FilterFamily {
    fn of(number: u8) -> Option<Self> {
        [Self::Inet, Self::Ip, Self::Ip6, Self::Bridge].into_iter().find(|family| family.number() == number)
    }

    /// `NFPROTO_*`
    fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ip => 2,
            Self::Ip6 => 10,
            Self::Bridge => 7,
        }
    }

    /// The word of `nft` for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Bridge => "bridge",
        }
    }
}

async fn dump<T>(channel: &mut Channel, kind: u16, payload: &[u8], decode: Decode<T>) -> Result<Vec<T>> {
    let attempt = || "read the rules of nftables".to_owned();
    let request = Request::dump_of(kind, payload);
    let read = async || channel.exchange(&request, decode).await.map_err(|fault| worded(fault, attempt()));
    settled(DEADLINE, attempt, read).await
}

type Decoded<T> = std::result::Result<T, DecodeError>;

/// A table that is dormant; `None` for another.
fn dormant(_kind: u16, payload: &[u8]) -> Decoded<Option<(FilterFamily, String)>> {
    let (family, nested) = payload.split_at_checked(HEADER).ok_or("a table without a header")?;
    let name = attribute(nested, 1)?.map(parse_string).transpose()?.unwrap_or_default();
    let flags = attribute(nested, 2)?.map(number).transpose()?.unwrap_or_default();
    Ok(FilterFamily::of(family[0]).filter(|_| flags & DORMANT != 0).map(|family| (family, name)))
}

/// A chain with its table; `None` for a family by which no packet is forwarded.
fn chain(_kind: u16, payload: &[u8]) -> Decoded<Option<(FilterFamily, String, FilterChain)>> {
    let (family, nested) = payload.split_at_checked(HEADER).ok_or("a chain without a header")?;
    let Some(family) = FilterFamily::of(family[0]) else { return Ok(None) };
    let (mut table, mut name, mut hook, mut policy) = (String::new(), String::new(), None, None);
    for (kind, value) in attributes(nested)? {
        match kind {
            1 => table = parse_string(value)?,
            3 => name = parse_string(value)?,
            4 => hook = attribute(value, 1)?.map(number).transpose()?,
            5 => policy = Some(number(value)?),
            _ => {}
        }
    }
    let forward = (hook == Some(FORWARD)).then_some(policy == Some(NF_DROP));
    Ok(Some((family, table, FilterChain { name, forward, rules: Vec::new() })))
}

/// The attributes in a message or in another attribute.
fn attributes(nested: &[u8]) -> Decoded<Vec<(u16, &[u8])>> {
    let mut attributes = Vec::new();
    for nla in NlasIterator::new(nested) {
        let nla = nla?;
        let (kind, end) = (nla.kind(), usize::from(nla.length()));
        attributes.push((kind, &nla.into_inner()[NLA_HEADER_SIZE..end]));
    }
    Ok(attributes)
}

/// The one of this kind.
fn attribute(nested: &[u8], kind: u16) -> Decoded<Option<&[u8]>> {
    let found = attributes(nested)?.into_iter().find(|(known, _)| *known == kind);
    Ok(found.map(|(_, value)| value))
}

fn number(value: &[u8]) -> Decoded<u32> {
    let bytes = value.try_into().map_err(|_| format!("a number of {} bytes", value.len()))?;
    Ok(u32::from_be_bytes(bytes))
}

/// The header of a request, and the table that it is about.
fn about(family: u8, table: Option<&str>) -> Vec<u8> {
    let mut bytes = vec![family, 0, 0, 0];
    if let Some(table) = table {
        let length = u16::try_from(NLA_HEADER_SIZE + table.len() + 1).unwrap_or(u16::MAX);
        bytes.extend(length.to_ne_bytes());
        bytes.extend(rule::TABLE.to_ne_bytes());
        bytes.extend(table.as_bytes());
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}
