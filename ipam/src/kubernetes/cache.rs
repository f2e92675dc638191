//! What is known of the objects: read by two watches, and by every reply to our own requests.
//!
//! Replies and watch events arrive in any order, so an object goes by its version: an older one never replaces a newer,
//! and what was deleted does not come back with a version from before its end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::object::{CachedPool, Object, Reservation, Stored, Version};
use super::{Shared, lock};

/// No reply is on its way for longer: then the end of an object need not be remembered.
const LATEST_REPLY: Duration = Duration::from_secs(60);

/// Both kinds.
#[derive(Debug, Default)]
pub(super) struct Cache {
    pub(super) pools: Objects<CachedPool>,
    pub(super) reservations: Objects<Reservation>,
}

/// The part of the cache that holds one kind.
pub(super) trait Cached: Object {
    fn part(cache: &mut Cache) -> &mut Objects<Self>;

    /// The object called `name` is gone, and it was not deleted here.
    fn ended(self, _name: &str, _shared: &Shared) {}
}

impl Cached for CachedPool {
    fn part(cache: &mut Cache) -> &mut Objects<Self> {
        &mut cache.pools
    }
}

impl Cached for Reservation {
    fn part(cache: &mut Cache) -> &mut Objects<Self> {
        &mut cache.reservations
    }

    fn ended(self, name: &str, shared: &Shared) {
        if *self.node == *shared.node {
            lock(&shared.lost).insert(name.to_owned(), self);
            shared.lost_one.notify_one();
        }
    }
}

/// The objects of one kind by name.
#[derive(Debug)]
pub(super) struct Objects<T> {
    /// In boxes, because nodes of the tree are half empty.
    held: BTreeMap<String, (Version, Box<T>)>,
    /// Names whose object up to this version is gone, and since when that is known.
    gone: HashMap<String, (Version, Instant)>,
}

impl<T> Default for Objects<T> {
    fn default() -> Self {
        Self { held: BTreeMap::new(), gone: HashMap::new() }
    }
}

impl<T> Objects<T> {
    pub(super) fn get(&self, name: &str) -> Option<&T> {
        self.held.get(name).map(|(_, object)| &**object)
    }

    /// The object with its name as it is kept here.
    pub(super) fn entry(&self, name: &str) -> Option<(&str, &T)> {
        self.held.get_key_value(name).map(|(name, (_, object))| (name.as_str(), &**object))
    }

    pub(super) fn version(&self, name: &str) -> Option<Version> {
        self.held.get(name).map(|(version, _)| *version)
    }

    /// All objects by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Version, &T)> {
        self.held.iter().map(|(name, (version, object))| (name.as_str(), *version, &**object))
    }

    /// An object was seen in this version.
    pub(super) fn put(&mut self, seen: Stored<T>) {
        let Stored { name, version, object } = seen;
        let ended = self.gone.get(&name).is_some_and(|(end, _)| version <= *end);
        if !ended && self.version(&name).is_none_or(|held| held < version) {
            self.held.insert(name, (version, Box::new(object)));
        }
    }

    /// An object has ended: nothing of it up to `version` exists. Returns it, unless its end was known.
    pub(super) fn ended(&mut self, name: &str, version: Version) -> Option<T> {
        let known_here = self.version(name).is_some_and(|held| held <= version);
        let ended = if known_here { self.held.remove(name) } else { None };
        if self.gone.len() > 1000 {
            self.gone.retain(|_, (_, since)| since.elapsed() < LATEST_REPLY);
        }
        let known = self.gone.get(name).map_or(version, |(end, _)| version.max(*end));
        self.gone.insert(name.to_owned(), (known, Instant::now()));
        ended.map(|(_, object)| *object)
    }

    /// The server has no such object. `known` is its version in this cache when the server was asked: one that
    /// came since is younger than the answer. Returns the object, unless its end was known.
    pub(super) fn missing(&mut self, name: &str, known: Option<Version>) -> Option<T> {
        let version = known.filter(|_| self.version(name) == known)?;
        self.ended(name, version)
    }

    /// At `version` these were all objects there are; younger ones stay. Returns those that do not.
    pub(super) fn listed(&mut self, version: Version, names: &BTreeSet<String>) -> Vec<(String, T)> {
        let ended =
            |(name, (held, _)): &(&String, &(Version, Box<T>))| *held <= version && !names.contains(*name);
        let ended: Vec<String> = self.held.iter().filter(ended).map(|(name, _)| name.clone()).collect();
        let gone = |name: String| {
            let (_, object) = self.held.remove(&name)?;
            Some((name, *object))
        };
        ended.into_iter().filter_map(gone).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(version: u64, object: char) -> Stored<char> {
        Stored { name: "a".into(), version: Version(version), object }
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
    async fn a_list_ends_what_it_does_not_name_unless_it_is_younger() {
        let mut objects = Objects::default();
        objects.put(at(7, 'b'));
        objects.listed(Version(6), &BTreeSet::new());
        assert_eq!(objects.get("a"), Some(&'b'));
        objects.listed(Version(7), &BTreeSet::from(["a".to_owned()]));
        assert_eq!(objects.get("a"), Some(&'b'));
        objects.listed(Version(7), &BTreeSet::new());
        assert_eq!(objects.get("a"), None);
    }
}
