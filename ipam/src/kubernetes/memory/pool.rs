//! A pool as it is remembered: its metadata, which are watched, and what is known of its content.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use octavia_bridge_cluster as cluster;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::cache::{Cache, Cached, LATEST_REPLY, Merge, Objects};
use crate::kubernetes::api::name::address_of;
use crate::kubernetes::api::object::{METADATA, Metadata, Object, POOLS, Raw, Stored, Version};
use crate::kubernetes::api::reservation::Reservation;
use crate::kubernetes::survey::Entry;
use crate::kubernetes::write::change::Change;
use crate::kubernetes::{Shared, lock};
use crate::name::{PoolName, network_of};
use crate::pool::{Allocation, KIND, Pool};

/// A pool as the cache keeps it: its metadata, which are watched, and what is known of its content, which is read when it is
/// needed.
#[derive(Debug, Clone)]
pub(crate) struct CachedPool {
    pub(crate) uid: Box<str>,
    /// `metadata.generation`, by which the server counts the changes of a spec.
    pub(crate) generation: Option<u64>,
    /// Its content was read at least once.
    pub(crate) was_read: bool,
    pub(crate) known: Option<Known>,
}

/// What is known of a pool's content. It may be out of date: then it says what to try, and nothing else.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// The version it was read in, or that of the last change that this agent made.
    pub(crate) version: Version,
    /// The generation that this is, unless changes of others are missing in it.
    pub(crate) generation: Option<u64>,
    /// Not before this moment the server was asked for it.
    pub(crate) asked: Instant,
    /// When it is to be read again, once it is known to be out of date.
    pub(crate) again: Option<Instant>,
    /// Bytes of the object as JSON, which is how the server stores it.
    pub(crate) size: usize,
    pub(crate) content: Content,
    /// The version that all of it was last read in.
    read: Version,
    /// This agent's changes since: an answer that was under way meanwhile may not have them.
    own: Vec<OwnPatch>,
    /// Addresses whose reservation has ended since, each after its entry.
    freed: BTreeSet<IpAddr>,
}

/// A patch of this agent, and the version and the generation that it made.
#[derive(Debug, Clone)]
struct OwnPatch {
    version: Version,
    generation: Option<u64>,
    changes: Vec<(IpAddr, Change)>,
    made: Instant,
}

impl CachedPool {
    /// What is known of its content.
    pub(crate) fn content(&self) -> Option<&Content> {
        self.known.as_ref().map(|known| &known.content)
    }

    /// The pool as far as it is known, unless it is damaged.
    pub(crate) fn sound(&self) -> Option<&Arc<Pool>> {
        match self.content()? {
            Content::Sound(pool) => Some(pool),
            Content::Corrupt { .. } => None,
        }
    }

    /// Whether what is known of its content is all there is, as far as changes have been told.
    pub(crate) fn is_current(&self) -> bool {
        let known = self.known.as_ref().and_then(|known| known.generation);
        known.is_some() && known == self.generation
    }

    /// The reservation of an address has ended. Its entry went before it, so that it is not in the way of a choice.
    pub(crate) fn free(&mut self, address: IpAddr) {
        if let Some(known) = &mut self.known {
            known.freed.insert(address);
        }
        self.settle();
    }

    /// This agent's changes made this version of this generation.
    pub(crate) fn advance<'a>(
        &mut self,
        version: Version,
        generation: Option<u64>,
        changes: impl Iterator<Item = (IpAddr, &'a Change)>,
    ) {
        let Some(known) = self.known.as_mut().filter(|known| known.version < version) else { return };
        let changes: Vec<(IpAddr, Change)> =
            changes.map(|(address, change)| (address, change.clone())).collect();
        known.version = version;
        // With a change of somebody else in between, the generation went further.
        let next = known.generation.map(|before| before + 1);
        known.generation = next.filter(|next| Some(*next) == generation);
        if let Content::Sound(pool) = &mut known.content {
            let pool = Arc::make_mut(pool);
            for (address, change) in &changes {
                let address = *address;
                let before = pool.get(address).map_or(0, Allocation::size);
                let now = change.after();
                known.size = (known.size + now.map_or(0, Allocation::size)).saturating_sub(before);
                known.freed.remove(&address);
                pool.set(address, now.cloned());
            }
        }
        known.own.retain(|patch| patch.made.elapsed() < LATEST_REPLY);
        known.own.push(OwnPatch { version, generation, changes, made: Instant::now() });
        self.settle();
    }

    /// Makes this agent's later changes again in what was read before them.
    fn advance_again(&mut self, own: &[OwnPatch]) {
        for OwnPatch { version, generation, changes, .. } in own {
            let changes = changes.iter().map(|(address, change)| (*address, change));
            self.advance(*version, *generation, changes);
        }
    }

    /// Leaves out of what is out of date the entries that have ended.
    fn settle(&mut self) {
        if self.is_current() {
            return;
        }
        let Some(known) = &mut self.known else { return };
        let freed = std::mem::take(&mut known.freed);
        if let (Content::Sound(pool), false) = (&mut known.content, freed.is_empty()) {
            let pool = Arc::make_mut(pool);
            for address in freed {
                pool.set(address, None);
            }
        }
    }
}

impl Merge for CachedPool {
    fn inherit(&mut self, earlier: Self) {
        if self.known.is_none() && self.uid == earlier.uid {
            (self.known, self.was_read) = (earlier.known, earlier.was_read);
            self.settle();
        }
    }

    fn take_older_answer(&mut self, mut seen: Self) {
        let read = |pool: &Self| pool.known.as_ref().map(|known| known.read);
        if self.uid != seen.uid || seen.known.is_none() || read(&seen) < read(self) {
            return;
        }
        // Of the same version what was read is more than what was made of an answer. What was read before a patch of ours
        // has changes of others that the answer to the patch did not tell.
        if let Some(known) = &self.known {
            seen.advance_again(&known.own);
        }
        (self.known, self.was_read) = (seen.known, true);
    }

    fn mark_uncertain(&mut self) {
        if let Some(known) = &mut self.known {
            known.generation = None;
        }
    }

    fn asked_at(&mut self, sent: Instant) {
        if let Some(known) = &mut self.known {
            known.asked = sent;
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Content {
    Sound(Arc<Pool>),
    /// Not what its name says, and who may need it nevertheless.
    Corrupt {
        why: Arc<str>,
        containers: Arc<HashSet<String>>,
    },
}

impl Object for CachedPool {
    const PLURAL: &'static str = POOLS;
    const PAGE: u32 = 64;
    const KIND: &'static str = KIND;

    fn unreadable(uid: &str, why: &str) -> Self {
        let content = Content::Corrupt { why: why.into(), containers: Arc::default() };
        let known = Some(Known::new(Version(0), None, 0, content));
        Self { uid: uid.into(), generation: None, was_read: true, known }
    }
}

impl Known {
    fn new(version: Version, generation: Option<u64>, size: usize, content: Content) -> Self {
        let asked = Instant::now();
        let (own, freed) = (Vec::new(), BTreeSet::new());
        Self { version, generation, asked, again: None, size, content, read: version, own, freed }
    }
}

impl cluster::Content for CachedPool {
    /// A pool of 1,000 entries has 143 KB: each change would bring them to each agent.
    const METADATA: bool = true;

    /// Reads a pool, or, where the server was asked for no more, its metadata.
    fn read(text: &str) -> serde_json::Result<Self> {
        let raw: Raw<'_> = serde_json::from_str(text)?;
        let Metadata { generation, .. } = raw.metadata;
        let uid: Box<str> = raw.metadata.uid.as_ref().into();
        if raw.kind == METADATA || raw.kind.is_empty() && raw.spec.is_none() {
            return Ok(Self { uid, generation, was_read: false, known: None });
        }
        let name = raw.metadata.name.into_owned();
        let version = Version(raw.metadata.resource_version.parse().unwrap_or(0));
        let spec = raw.spec.map_or("null", RawValue::get);
        let content = match Pool::parse_spec(&name, spec) {
            Ok(pool) => Content::Sound(Arc::new(pool)),
            Err(error) => {
                let why = error.to_string().into();
                Content::Corrupt { why, containers: Arc::new(containers(spec)) }
            }
        };
        let known = Some(Known::new(version, generation, text.len(), content));
        Ok(Self { uid, generation, was_read: true, known })
    }
}

/// The container ids that can be made out in a spec that is no pool's.
fn containers(spec: &str) -> HashSet<String> {
    let spec: Value = serde_json::from_str(spec).unwrap_or_default();
    let entries = spec["allocations"].as_object().into_iter().flat_map(Map::values);
    entries.filter_map(|entry| entry["id"].as_str().map(str::to_owned)).collect()
}

impl Cached for CachedPool {
    fn part(cache: &mut Cache) -> &mut Objects<Self> {
        &mut cache.pools
    }

    fn went_back(before: &Objects<Self>, shared: &Shared) {
        let pools =
            before.iter().filter_map(|(name, _, pool)| Some((name.to_owned(), pool.sound()?.clone())));
        lock(&shared.attachments).went_back();
        // Of two restores in a row the first one has shown what was lost by both.
        for (name, pool) in pools {
            lock(&shared.before).entry(name).or_insert(pool);
        }
    }

    fn listed_again(shared: &Shared) -> Vec<String> {
        lock(&shared.before).keys().cloned().collect()
    }

    fn was_read_again(name: &str, shared: &Shared) {
        let Some(before) = lock(&shared.before).remove(name) else { return };
        let Ok(pool_name) = PoolName::try_from(name.to_owned()) else { return };
        let now = lock(&shared.cache).pools.get(name).and_then(Self::sound).cloned();
        let mut lost = Vec::new();
        for (address, allocation) in before.iter() {
            if now.as_ref().is_none_or(|now| now.get(address).is_none()) {
                let (pool, subnet, allocation) = (pool_name.clone(), before.subnet(), allocation.clone());
                lost.push(Entry { pool, subnet, address, allocation });
            }
        }
        if !lost.is_empty() {
            tracing::warn!("{} addresses in use are not known to the API server any more", lost.len());
            lock(&shared.lost_entries).extend(lost);
            shared.lost_entry.notify_one();
        }
    }
}

impl Objects<CachedPool> {
    /// A patch of ours was carried out with this answer, which has no content: what is known of that goes with it.
    pub(crate) fn patched<'a>(
        &mut self,
        answer: Stored<CachedPool>,
        changes: impl Iterator<Item = (IpAddr, &'a Change)>,
    ) {
        let (name, version, epoch) = (answer.name.clone(), answer.version, answer.epoch);
        let generation = answer.object.generation;
        self.put(answer);
        if let Some(pool) = self.get_mut(&name, epoch) {
            pool.advance(version, generation, changes);
        }
    }

    /// Reservation `name` of another node has ended, and the entry that it stood for before it.
    pub(crate) fn freed(&mut self, name: &str, reservation: &Reservation) {
        for (pool_name, cached) in self.iter_mut() {
            let Some(pool) = cached.sound() else { continue };
            let address = address_of(network_of(pool_name, &pool.subnet()), name);
            let entry = address.and_then(|address| Some((address, pool.get(address)?)));
            if let Some((address, _)) = entry.filter(|(_, entry)| reservation.goes_with(entry)) {
                cached.free(address);
            }
        }
    }
}
