//! What is known of the objects: read by two watches, and by every reply to our own requests.
//!
//! Replies and watch events arrive in any order, so an object goes by its version: an older one never replaces a newer,
//! and what was deleted does not come back with a version from before its end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::kubernetes::api::object::{Object, Stored, Version};
use crate::kubernetes::api::reservation::Reservation;
use crate::kubernetes::memory::pool::CachedPool;
use crate::kubernetes::{Shared, lock};

/// No reply is on its way for longer: then neither the end of an object nor a patch of ours need be remembered.
pub(crate) const LATEST_REPLY: Duration = Duration::from_secs(60);

/// Both kinds.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    pub(crate) pools: Objects<CachedPool>,
    pub(crate) reservations: Objects<Reservation>,
}

/// What becomes of an object in the cache when more is seen of it.
pub(crate) trait Merge: Sized {
    /// It is a younger version of what was known.
    fn inherit(&mut self, _earlier: Self) {}

    /// This was seen of it, in its version or an earlier one.
    fn take_older_answer(&mut self, _seen: Self) {}

    /// What is known of it may be what is no longer so, whatever its version.
    fn mark_uncertain(&mut self) {}

    /// It was asked for at this moment.
    fn asked_at(&mut self, _sent: Instant) {}
}

/// The part of the cache that holds one kind.
pub(crate) trait Cached: Object + Merge {
    fn part(cache: &mut Cache) -> &mut Objects<Self>;

    /// The object was seen by a watch.
    fn seen(&self, _shared: &Shared) {}

    /// The object called `name` is gone, and it was not deleted here.
    fn ended(self, _name: &str, _shared: &Shared) {}

    /// The server went back: these are the objects as they were before that.
    fn went_back(_before: &Objects<Self>, _shared: &Shared) {}

    /// The server went back, and all objects were listed again. Returns which of them have to be read as well.
    fn listed_again(_shared: &Shared) -> Vec<String> {
        Vec::new()
    }

    /// The object called `name` was read after that.
    fn was_read_again(_name: &str, _shared: &Shared) {}
}

impl Cached for Reservation {
    fn part(cache: &mut Cache) -> &mut Objects<Self> {
        &mut cache.reservations
    }

    fn seen(&self, shared: &Shared) {
        if self.node().is_empty() {
            *lock(&shared.whereabouts) = Some(Instant::now());
        }
    }

    fn ended(self, name: &str, shared: &Shared) {
        if self.node() == &*shared.node {
            // The watch may report a deletion of ours before the server answers it.
            if lock(&shared.deletions).has(name, &self) {
                return;
            }
            lock(&shared.lost).insert(name.to_owned(), self);
            shared.lost_one.notify_one();
        } else {
            lock(&shared.cache).pools.freed(name, &self);
        }
    }
}

/// The objects of one kind by name.
#[derive(Debug)]
pub(crate) struct Objects<T> {
    held: BTreeMap<String, Held<T>>,
    /// Names whose object up to this version is gone, and since when that is known.
    gone: HashMap<String, (Version, Instant)>,
    /// How often the server had gone back when it was listed last.
    epoch: u64,
    /// How often anything was put here, and how often it had been when the listing under way began.
    puts: u64,
    listing: u64,
}

#[derive(Debug)]
struct Held<T> {
    version: Version,
    /// The server went back since: any version is younger.
    outdated: bool,
    /// Which of the puts brought it.
    put: u64,
    /// Nodes of the tree are half empty, and surveys keep what they found.
    object: Arc<T>,
}

impl<T> Held<T> {
    /// Whether nothing is known of it that is younger than `version`.
    fn is_up_to(&self, version: Version) -> bool {
        self.outdated || self.version <= version
    }
}

/// What a list has ended.
#[derive(Debug)]
pub(crate) struct Unlisted<T> {
    /// These are gone.
    pub(crate) ended: Vec<(String, T)>,
    /// These came in while the list was made: whether they are there has to be asked for each.
    pub(crate) doubtful: Vec<String>,
}

impl<T> Default for Objects<T> {
    fn default() -> Self {
        Self { held: BTreeMap::new(), gone: HashMap::new(), epoch: 0, puts: 0, listing: 0 }
    }
}

impl<T: Clone> Objects<T> {
    pub(crate) fn get(&self, name: &str) -> Option<&T> {
        self.held.get(name).map(|held| &*held.object)
    }

    /// The object with its name as it is kept here.
    pub(crate) fn entry(&self, name: &str) -> Option<(&str, &Arc<T>)> {
        self.held.get_key_value(name).map(|(name, held)| (name.as_str(), &held.object))
    }

    pub(crate) fn version(&self, name: &str) -> Option<Version> {
        self.held.get(name).map(|held| held.version)
    }

    /// The version of an object, unless the server went back since it was seen.
    pub(crate) fn sure_version(&self, name: &str) -> Option<Version> {
        self.held.get(name).filter(|held| !held.outdated).map(|held| held.version)
    }

    /// All objects by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, Version, &Arc<T>)> {
        self.held.iter().map(|(name, held)| (name.as_str(), held.version, &held.object))
    }

    /// All objects by name, to change what is remembered of them.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut T)> {
        self.held.iter_mut().map(|(name, held)| (name.as_str(), Arc::make_mut(&mut held.object)))
    }

    /// An object to change what is remembered of it, unless the server went back since `epoch`.
    pub(crate) fn get_mut(&mut self, name: &str, epoch: u64) -> Option<&mut T> {
        let held = self.held.get_mut(name).filter(|held| !held.outdated && epoch >= self.epoch)?;
        Some(Arc::make_mut(&mut held.object))
    }

    /// An object was seen in this version. An answer from before the server went back says nothing.
    pub(crate) fn put(&mut self, seen: Stored<T>)
    where
        T: Merge,
    {
        let Stored { name, version, epoch, mut object } = seen;
        // One of a later epoch is younger whatever its version, also before the list of that epoch has begun.
        let later = epoch > self.epoch;
        let is_over = self.gone.get(&name).is_some_and(|(end, _)| version <= *end);
        if epoch < self.epoch || (is_over && !later) {
            return;
        }
        let known_here = self.held.get_mut(&name).filter(|held| !held.outdated && !later);
        if let Some(held) = known_here.filter(|held| version <= held.version) {
            Arc::make_mut(&mut held.object).take_older_answer(object);
            return;
        }
        if let Some(earlier) = self.held.remove(&name).filter(|held| !held.outdated && !later) {
            object.inherit(Arc::unwrap_or_clone(earlier.object));
        }
        self.puts += 1;
        let held = Held { version, outdated: false, put: self.puts, object: Arc::new(object) };
        self.held.insert(name, held);
    }

    /// An object has ended: nothing of it up to `version` exists. Returns it, unless its end was known.
    pub(crate) fn ended(&mut self, name: &str, version: Version) -> Option<T> {
        let known_here = self.held.get(name).is_some_and(|held| held.is_up_to(version));
        let ended = if known_here { self.held.remove(name) } else { None };
        self.note_end(name, version);
        ended.map(|held| Arc::unwrap_or_clone(held.object))
    }

    fn note_end(&mut self, name: &str, version: Version) {
        if self.gone.len() > 1000 {
            self.gone.retain(|_, (_, since)| since.elapsed() < LATEST_REPLY);
        }
        let known = self.gone.get(name).map_or(version, |(end, _)| version.max(*end));
        self.gone.insert(name.to_owned(), (known, Instant::now()));
    }

    /// The server has no such object. `known` is its version in this cache when the server was asked: one that
    /// came since is younger than the answer. Returns the object, unless its end was known.
    pub(crate) fn missing(&mut self, name: &str, known: Option<Version>) -> Option<T> {
        let version = known.filter(|_| self.version(name) == known)?;
        if self.held.get(name)?.outdated {
            // Its version says nothing about what may come after it.
            return self.held.remove(name).map(|held| Arc::unwrap_or_clone(held.object));
        }
        self.ended(name, version)
    }

    /// Nothing is known any more: changes do not arrive from now on.
    pub(crate) fn forget(&mut self) {
        self.held.clear();
        self.gone.clear();
    }

    /// All objects are being listed. In a new `epoch` the server went back since the last time: what is remembered stays until
    /// the list is there, but any version of it is younger, and what was deleted may be there again.
    ///
    /// Returns whether that is so.
    pub(crate) fn begin_listing(&mut self, epoch: u64) -> bool
    where
        T: Merge,
    {
        self.listing = self.puts;
        if epoch == self.epoch {
            return false;
        }
        self.epoch = epoch;
        self.gone.clear();
        for held in self.held.values_mut() {
            held.outdated = true;
            Arc::make_mut(&mut held.object).mark_uncertain();
        }
        true
    }

    /// Whether an object of the list that was made since [`Objects::list`] is older than what was known of it before: then the
    /// server's data went back, although its version may not have, as after a restore of etcd with `--bump-revision`.
    pub(crate) fn went_back(&self, name: &str, version: Version) -> Option<Version> {
        let held = self.held.get(name).filter(|held| !held.outdated && held.put <= self.listing)?;
        (version < held.version).then_some(held.version)
    }

    /// These were all objects there are, some time since [`Objects::list`]. What was known before that and is not among them
    /// ended.
    pub(crate) fn end_listing(&mut self, names: &BTreeSet<String>) -> Unlisted<T> {
        let (mut ended, mut doubtful) = (Vec::new(), Vec::new());
        let unlisted: Vec<String> = self.held.keys().filter(|name| !names.contains(*name)).cloned().collect();
        for name in unlisted {
            let Some(held) = self.held.get(&name) else { continue };
            if held.put > self.listing {
                doubtful.push(name);
                continue;
            }
            let (version, outdated) = (held.version, held.outdated);
            if let Some(held) = self.held.remove(&name) {
                // A reply that is under way must not bring it back.
                if !outdated {
                    self.note_end(&name, version);
                }
                ended.push((name, Arc::unwrap_or_clone(held.object)));
            }
        }
        Unlisted { ended, doubtful }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Merge for char {}

    fn at(version: u64, object: char) -> Stored<char> {
        Stored { name: "a".into(), version: Version(version), epoch: 0, object }
    }

    #[tokio::test]
    async fn an_older_version_replaces_nothing() {
        let mut objects = Objects::default();
        objects.put(at(7, 'b'));
        objects.put(at(6, 'a'));
        assert_eq!(objects.get("a"), Some(&'b'));
        objects.put(at(8, 'c'));
        assert_eq!(objects.get("a"), Some(&'c'));
    }

    #[tokio::test]
    async fn the_dead_do_not_return() {
        let mut objects = Objects::default();
        objects.put(at(7, 'b'));
        objects.ended("a", Version(7));
        // The watch tells only now that it was made and changed.
        objects.put(at(6, 'a'));
        objects.put(at(7, 'b'));
        assert_eq!(objects.get("a"), None);
        objects.put(at(9, 'c'));
        assert_eq!(objects.get("a"), Some(&'c'));
        // The watch tells only now of the first one's end.
        objects.ended("a", Version(8));
        assert_eq!(objects.get("a"), Some(&'c'));
    }

    #[tokio::test]
    async fn an_answer_from_before_our_own_write_removes_nothing() {
        let mut objects = Objects::default();
        objects.put(at(7, 'b'));
        objects.missing("a", None);
        objects.missing("a", Some(Version(5)));
        assert_eq!(objects.get("a"), Some(&'b'));
        objects.missing("a", Some(Version(7)));
        assert_eq!(objects.get("a"), None);
    }

    #[tokio::test]
    async fn a_list_ends_what_it_does_not_name_unless_it_came_meanwhile() {
        let mut objects = Objects::default();
        objects.begin_listing(0);
        objects.put(at(7, 'b'));
        let unlisted = objects.end_listing(&BTreeSet::new());
        assert_eq!((unlisted.ended.len(), unlisted.doubtful), (0, vec!["a".to_owned()]));
        assert_eq!(objects.get("a"), Some(&'b'));
        objects.begin_listing(0);
        objects.end_listing(&BTreeSet::from(["a".to_owned()]));
        assert_eq!(objects.get("a"), Some(&'b'));
        let unlisted = objects.end_listing(&BTreeSet::new());
        assert_eq!((unlisted.ended, unlisted.doubtful.len()), (vec![("a".to_owned(), 'b')], 0));
        // A reply that was under way does not bring it back.
        objects.put(at(7, 'b'));
        assert_eq!(objects.get("a"), None);
    }

    /// As after a restore of etcd: what is listed is older than what is remembered, and right.
    #[tokio::test]
    async fn after_the_server_went_back_older_versions_replace_younger_ones() {
        let mut objects = Objects::default();
        objects.put(at(700, 'c'));
        objects.ended("x", Version(650));
        objects.begin_listing(1);
        assert_eq!(objects.get("a"), Some(&'c'), "it stays until the list is there");
        // A reply from before.
        objects.put(at(701, 'd'));
        assert_eq!(objects.get("a"), Some(&'c'));
        objects.put(Stored { epoch: 1, ..at(300, 'b') });
        assert_eq!(objects.get("a"), Some(&'b'));
        objects.put(Stored { name: "x".into(), epoch: 1, ..at(301, 'x') });
        assert_eq!(objects.get("x"), Some(&'x'));
        // What the restore has lost is ended.
        objects.begin_listing(2);
        assert_eq!(objects.end_listing(&BTreeSet::from(["x".to_owned()])).ended, [("a".to_owned(), 'b')]);
    }
}
