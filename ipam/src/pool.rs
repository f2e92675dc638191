//! One `IPPool` document: which addresses of a subnet are in use, and by whom.
//!
//! The schema is whereabouts' custom resource: a map from offset to holder. An offset is the distance
//! from the subnet's network address in decimal, so 172.23.0.30 in 172.23.0.0/24 is `"30"`. Offsets take
//! all 128 bits here; whereabouts itself reads back only those below 2^63 and deletes the others.
//!
//! A document that is not what its name says is refused, never repaired: an entry that cannot be read is
//! an address that would be given out twice. Everything in the document that is not ours survives.

mod allocation;
mod json;
mod layout;

#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;
use serde_json::{Map, Serializer, Value};

use crate::address::{Span, bits, from_bits, parse_net, same_family};
use crate::name::{self, PoolName};
use crate::request::Holder;
use layout::LineEach;

pub use allocation::Allocation;

/// `apiVersion` of every pool document.
pub const API_VERSION: &str = "whereabouts.cni.cncf.io/v1alpha1";
/// `kind` of every pool document.
pub const KIND: &str = "IPPool";

/// Why a text is not the pool it should be.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// Not JSON, or a field has another type than the schema says.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// JSON of another kind, or another pool under this name.
    #[error("{field} is \"{found}\", expected {expected}")]
    Foreign {
        /// Path of the field that tells.
        field: &'static str,
        /// Its value.
        found: String,
        /// What a pool of this name has there.
        expected: String,
    },
    /// An allocation that is no address of the subnet.
    #[error("allocation \"{key}\" is not an offset in {subnet}")]
    Key {
        /// The key as written.
        key: String,
        /// The pool's subnet.
        subnet: IpNet,
    },
}

/// The addresses in use in one subnet.
#[derive(Debug, Clone)]
pub struct Pool {
    name: String,
    subnet: IpNet,
    /// By offset, ascending. Clones share the texts: each claim looks at a clone, and may change a few.
    allocations: Vec<(u128, Allocation)>,
    metadata: Map<String, Value>,
    spec_extra: Map<String, Value>,
    extra: Map<String, Value>,
    changed: bool,
}

impl Pool {
    /// An empty pool of `subnet`.
    pub fn new(name: &PoolName, subnet: IpNet) -> Self {
        let name = name.to_string();
        let mut metadata = Map::new();
        metadata.insert("name".to_owned(), Value::from(name.as_str()));
        Self {
            name,
            subnet: subnet.trunc(),
            allocations: Vec::new(),
            metadata,
            spec_extra: Map::new(),
            extra: Map::new(),
            changed: false,
        }
    }

    /// Reads the document of the pool called `name`, whatever its address domain.
    pub fn parse(name: &str, text: &[u8]) -> Result<Self, PoolError> {
        Self::checked(name, serde_json::from_slice(text)?)
    }

    /// As [`Pool::parse`], with a document that need not be in memory as a whole.
    ///
    /// # Errors
    /// [`PoolError`]; one of reading is a [`PoolError::Json`] that says so ([`serde_json::Error::is_io`]).
    pub(crate) fn read(name: &str, document: impl io::Read) -> Result<Self, PoolError> {
        Self::checked(name, serde_json::from_reader(document)?)
    }

    fn checked(name: &str, raw: json::Document) -> Result<Self, PoolError> {
        let differs = |field, found: &str, expected: String| {
            Err(PoolError::Foreign { field, found: found.to_owned(), expected })
        };
        if raw.api_version != API_VERSION {
            return differs("apiVersion", &raw.api_version, API_VERSION.to_owned());
        }
        if raw.kind != KIND {
            return differs("kind", &raw.kind, KIND.to_owned());
        }
        let found = raw.metadata.get("name").and_then(Value::as_str).unwrap_or_default();
        if found != name {
            return differs("metadata.name", found, format!("\"{name}\""));
        }
        Self::of_spec(name, raw.spec, raw.metadata, raw.extra)
    }

    /// Reads the `spec` of the pool called `name`, where everything else of the object is somebody else's to keep: what
    /// [`Pool::to_json`] writes of such a pool has no metadata.
    pub fn parse_spec(name: &str, spec: &str) -> Result<Self, PoolError> {
        Self::of_spec(name, serde_json::from_str(spec)?, Map::new(), Map::new())
    }

    fn of_spec(
        name: &str,
        spec: json::Spec,
        metadata: Map<String, Value>,
        extra: Map<String, Value>,
    ) -> Result<Self, PoolError> {
        // Offsets count from the address in spec.range, so only the masked form is unambiguous.
        let subnet = parse_net(&spec.range).filter(|net| *net == net.trunc());
        let Some(subnet) = subnet.filter(|net| bears(name, net)) else {
            let expected = format!("the subnet that \"{name}\" names");
            return Err(PoolError::Foreign { field: "spec.range", found: spec.range, expected });
        };
        let last = Span::of(&subnet).last - Span::of(&subnet).first;
        let json::Entries { by_offset: allocations, wrong } = spec.allocations;
        let beyond = allocations.last().filter(|(offset, _)| *offset > last);
        if let Some(key) = wrong.or(beyond.map(|(offset, _)| offset.to_string())) {
            return Err(PoolError::Key { key, subnet });
        }
        let (name, spec_extra) = (name.to_owned(), spec.extra);
        Ok(Self { name, subnet, allocations, metadata, spec_extra, extra, changed: false })
    }

    /// The document, a line for each entry, ending in a newline.
    pub fn to_json(&self) -> Vec<u8> {
        let mut text = Vec::new();
        // Strings and maps with string keys always have a JSON form, and a Vec takes every byte.
        self.write(&mut text).expect("a pool is plain JSON");
        text
    }

    /// Writes [`Pool::to_json`], in many small pieces.
    pub(crate) fn write(&self, to: &mut impl io::Write) -> io::Result<()> {
        self.serialize(&mut Serializer::with_formatter(&mut *to, LineEach::default()))?;
        to.write_all(b"\n")
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The subnet, masked.
    pub fn subnet(&self) -> IpNet {
        self.subnet
    }

    /// How many addresses are in use.
    pub fn len(&self) -> usize {
        self.allocations.len()
    }

    /// Whether no address is in use.
    pub fn is_empty(&self) -> bool {
        self.allocations.is_empty()
    }

    /// Whether entries differ from those read or, for a new pool, from none.
    pub fn is_changed(&self) -> bool {
        self.changed
    }

    /// The entry for `address`, if it is in use.
    pub fn get(&self, address: IpAddr) -> Option<&Allocation> {
        let at = self.position(self.offset(address)?).ok()?;
        Some(&self.allocations[at].1)
    }

    /// Where the entry of an offset is, or belongs.
    fn position(&self, offset: u128) -> Result<usize, usize> {
        self.allocations.binary_search_by_key(&offset, |(offset, _)| *offset)
    }

    /// All addresses in use with their entries, lowest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (IpAddr, &Allocation)> {
        let base = bits(self.subnet.addr());
        let entries = self.allocations.iter();
        entries.map(move |(offset, entry)| (from_bits(base + offset, &self.subnet), entry))
    }

    /// All addresses in use with their holders, lowest first.
    pub fn holders(&self) -> impl DoubleEndedIterator<Item = Holder> {
        self.iter().map(|(address, entry)| Holder::new(address, entry))
    }

    /// Makes `address` the owner's. An entry it has there is brought up to date, its unknown fields kept.
    /// Addresses outside the subnet are no part of this pool; `false` says so.
    #[must_use]
    pub fn assign(&mut self, address: IpAddr, id: &str, podref: Option<&str>, ifname: &str) -> bool {
        let Some(offset) = self.offset(address) else { return false };
        match self.position(offset) {
            Err(at) => {
                let new = Allocation::new(id, podref.unwrap_or_default(), ifname);
                self.allocations.insert(at, (offset, new));
                self.changed = true;
            }
            Ok(at) => {
                let entry = &mut self.allocations[at].1;
                // A caller that knows no pod does not erase what an earlier one knew.
                let new = entry.renewed(id, podref.unwrap_or(entry.podref()), ifname);
                self.changed |= new != *entry;
                *entry = new;
            }
        }
        true
    }

    /// Takes over another pool's entry for `address`, unless there is one here.
    pub(crate) fn adopt(&mut self, address: IpAddr, entry: &Allocation) {
        let Some(offset) = self.offset(address) else { return };
        if let Err(at) = self.position(offset) {
            self.allocations.insert(at, (offset, entry.clone()));
            self.changed = true;
        }
    }

    /// Makes this the entry for `address`, or leaves none, in what is remembered of a pool that was changed elsewhere.
    #[cfg(feature = "kubernetes")]
    pub(crate) fn set(&mut self, address: IpAddr, entry: Option<Allocation>) {
        let Some(offset) = self.offset(address) else { return };
        match (self.position(offset), entry) {
            (Ok(at), Some(entry)) => self.allocations[at].1 = entry,
            (Err(at), Some(entry)) => self.allocations.insert(at, (offset, entry)),
            (Ok(at), None) => drop(self.allocations.remove(at)),
            (Err(_), None) => {}
        }
    }

    /// Frees every address whose entry `gone` says so of; how many.
    pub fn release(&mut self, mut gone: impl FnMut(IpAddr, &Allocation) -> bool) -> usize {
        let before = self.allocations.len();
        let (base, subnet) = (bits(self.subnet.addr()), self.subnet);
        self.allocations.retain(|(offset, entry)| !gone(from_bits(base + offset, &subnet), entry));
        let released = before - self.allocations.len();
        self.changed |= released > 0;
        released
    }

    /// The addresses in use as numbers, ascending.
    pub(crate) fn taken(&self) -> impl Iterator<Item = u128> {
        let base = bits(self.subnet.addr());
        self.allocations.iter().map(move |(offset, _)| base + offset)
    }

    /// The distance of `address` from the subnet's network address, the key of its entry; `None` outside the subnet.
    pub fn offset(&self, address: IpAddr) -> Option<u128> {
        let inside = same_family(&self.subnet, address) && self.subnet.contains(&address);
        inside.then(|| bits(address) - bits(self.subnet.addr()))
    }
}

/// Whether a pool of `subnet` may be called `name`: alone, or after a network name and '-'.
fn bears(name: &str, subnet: &IpNet) -> bool {
    match name.strip_suffix(&name::of_subnet(subnet)) {
        Some(network) => network.is_empty() || (network.ends_with('-') && network.len() > 1),
        None => false,
    }
}
