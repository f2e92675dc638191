//! What the CNI plugin has to know of the policy: the bridges that this program keeps, their uplinks, and the names of all
//! links that the policy speaks of.
//!
//! A plugin that finds no `octbr` makes one, as the reference plugin does. Where a policy names the bridge, that one
//! would be without its uplink, and its pods would talk to nobody. So the plugin reads this file and waits instead. It
//! is a file and not a question to a running program, since it is needed most after a reboot, before this one runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use octavia_bridge_ipam::conf::places::run_dirs;
use octavia_bridge_ipam::flock::{self, Mode};
use octavia_bridge_ipam::state_file;
use serde::{Deserialize, Serialize};

use super::{Error, Kept, State, failed, in_one_line};
use crate::attachments::record;
use crate::node::desired::{self, Desired, Interface, Kind, ORIGIN_IN_CLUSTER, State as Wanted, Text};
use crate::sha256;

/// Raised when an older plugin would misread the file; it then refuses to attach pods.
const VERSION: u32 = 1;
const FILE: &str = "bridges.json";
/// Longest time the plugin may take to make a bridge.
const PATIENCE: Duration = Duration::from_secs(30);

/// A policy of the cluster, or files, not in force as a whole or in part, with the bridges that pods wait for because of that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NotInForce {
    pub(crate) policy: String,
    /// It is a policy of the cluster.
    #[serde(default)]
    pub(crate) of_cluster: bool,
    /// In one line.
    pub(crate) why: String,
    /// With the ports that it gives them, as far as that can be told.
    pub(crate) bridges: BTreeMap<String, Vec<String>>,
}

impl NotInForce {
    /// Those of the bridges wanted up for which `asks` holds, by the policy that each is from, which could not be brought about.
    pub(crate) fn part(desired: &Desired, kept: &Kept, asks: impl Fn(&str) -> bool, why: &str) -> Vec<Self> {
        let mut parts: BTreeMap<String, Self> = BTreeMap::new();
        let told = Bridges::of(desired, kept);
        for (name, ports) in told.bridges.into_iter().filter(|(name, _)| asks(name)) {
            let origin = told.origins.get(name).unwrap_or(&told.policy);
            let of_cluster = origin.strip_prefix(ORIGIN_IN_CLUSTER);
            let part = parts.entry(origin.clone()).or_insert_with(|| Self {
                policy: of_cluster.unwrap_or(origin).to_owned(),
                of_cluster: of_cluster.is_some(),
                why: in_one_line(why),
                bridges: BTreeMap::new(),
            });
            part.bridges.insert(name.to_owned(), ports.to_vec());
        }
        parts.into_values().collect()
    }
}

impl std::fmt::Display for NotInForce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "policy {} is not in force: {}", self.policy, self.why)
    }
}

/// The file's content.
#[derive(Debug, Serialize)]
pub(crate) struct Bridges<'a> {
    version: u32,
    /// For people: where the policy came from.
    policy: String,
    /// Each bridge that shall be up, with the ports the policy gives it.
    bridges: BTreeMap<&'a str, &'a [String]>,
    /// Every link that the policy names and that is there for it, or may yet come: a bridge of such a name, made for a pod,
    /// would stand in its way. An older plugin passes this over.
    links: BTreeSet<&'a str>,
    /// What each VLAN stands on: a bridge over it waits for that as well. Always written, so that the plugin can tell a policy
    /// without VLANs from an older agent.
    vlans: BTreeMap<&'a str, &'a str>,
    /// Of several origins, the one of each bridge.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    origins: BTreeMap<String, String>,
    /// Their bridges are among those above as well, for older plugins.
    #[serde(skip_serializing_if = "<[NotInForce]>::is_empty")]
    not_in_force: &'a [NotInForce],
}

impl<'a> Bridges<'a> {
    /// Those that `desired`, which was read from `kept`, wants to be up.
    pub(crate) fn of(desired: &'a Desired, kept: &Kept) -> Self {
        let origins: Vec<&str> = kept.all().map(shown).collect();
        let kept_up =
            |entry: &&Interface| entry.state == Wanted::Up && matches!(entry.kind, Some(Kind::Bridge { .. }));
        let bridges = desired.interfaces.iter().filter(kept_up);
        let (mut links, mut vlans) = (BTreeSet::new(), BTreeMap::new());
        // What is to be absent, or left to others, may be anybody's.
        let named = |entry: &&Interface| matches!(entry.state, Wanted::Up | Wanted::Down);
        for entry in desired.interfaces.iter().filter(named) {
            links.insert(entry.name.as_str());
            links.extend(entry.ports().iter().map(String::as_str));
            if let Some(Kind::Vlan { base: Some(base), .. }) = &entry.kind {
                links.insert(base);
                vlans.insert(entry.name.as_str(), base.as_str());
            }
        }
        let by_routes = desired.routes.iter().filter(|route| !route.absent);
        links.extend(by_routes.filter_map(|route| route.interface.as_deref()));
        Self {
            version: VERSION,
            policy: origins.join(", "),
            bridges: bridges.map(|entry| (entry.name.as_str(), entry.ports())).collect(),
            links,
            vlans,
            origins: if origins.len() > 1 { by_bridge(kept) } else { BTreeMap::new() },
            not_in_force: &[],
        }
    }

    /// With the bridges of policies that are not in force.
    pub(crate) fn and(mut self, not_in_force: &'a [NotInForce]) -> Self {
        for (name, ports) in not_in_force.iter().flat_map(|policy| &policy.bridges) {
            self.bridges.entry(name).or_insert(ports);
            self.links.insert(name);
            self.links.extend(ports.iter().map(String::as_str));
        }
        self.not_in_force = not_in_force;
        self
    }

    /// Whether there is nothing to tell.
    pub(crate) fn is_empty(&self) -> bool {
        self.bridges.is_empty() && self.links.is_empty()
    }

    /// The bridges' names.
    pub(crate) fn names(&self) -> Vec<&'a str> {
        self.bridges.keys().copied().collect()
    }

    /// What the plugin is told; `None` if there is nothing to tell.
    ///
    /// # Errors
    /// None that is known.
    pub(crate) fn told(&self) -> Result<Option<Vec<u8>>, Error> {
        if self.is_empty() { Ok(None) } else { self.text().map(Some) }
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// None that is known.
    fn text(&self) -> Result<Vec<u8>, Error> {
        let text = serde_json::to_vec_pretty(self);
        let mut text = text.map_err(|cause| failed("word what the plugin is told")(cause.into()))?;
        text.push(b'\n');
        Ok(text)
    }
}

/// Where a text came from, for people.
pub(super) fn shown(text: &Text) -> &str {
    if text.origin == "-" { "standard input" } else { &text.origin }
}

/// Where these texts came from, for people.
pub(crate) fn origins(texts: &[Text]) -> String {
    texts.iter().map(shown).collect::<Vec<_>>().join(", ")
}

/// Which text each bridge is from. One that speaks of a link that another one declares has none.
fn by_bridge(kept: &Kept) -> BTreeMap<String, String> {
    let mut origins = BTreeMap::new();
    for text in kept.all() {
        let Ok(desired) = desired::read_any([text], &kept.choice) else { continue };
        for entry in desired.interfaces {
            if matches!(entry.kind, Some(Kind::Bridge { .. })) {
                origins.insert(entry.name, shown(text).to_owned());
            }
        }
    }
    origins
}

impl State {
    /// Tells the plugin which bridges are kept from now on. When this returns, no plugin is about to make one of them
    /// that did not know. Writes nothing if the plugin has been told the same. It is on disk for good with the next
    /// [`State::keep`].
    ///
    /// # Errors
    /// Those of writing, and a plugin that does not let go of its lock.
    pub(crate) fn promise(&self, bridges: &Bridges<'_>) -> Result<(), Error> {
        self.promise_text(bridges.told()?.as_deref())
    }

    /// The same of what [`Bridges::told`] says.
    ///
    /// # Errors
    /// Those of [`State::promise`].
    pub(crate) fn promise_text(&self, text: Option<&[u8]>) -> Result<(), Error> {
        let Some(text) = text else { return self.promise_nothing() };
        let path = self.promise_path();
        let attempt = format!("write {}", path.display());
        // What cannot be read is written anew.
        if !state_file::read(&path, state_file::LONGEST).is_ok_and(|now| now == text) {
            let draft = path.with_extension("json.tmp");
            self.changing(&path, Some(sha256::hex(text)), || {
                fs::write(&draft, text).and_then(|()| fs::rename(&draft, &path)).map_err(failed(attempt))
            })?;
            self.unheard.store(true, Ordering::Relaxed);
        }
        // Also when an earlier try has written the file and then waited in vain.
        if self.unheard.load(Ordering::Relaxed) {
            self.await_plugins()?;
            self.unheard.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether the file still has these bytes.
    pub(crate) fn tells(&self, text: &[u8]) -> bool {
        state_file::read(&self.promise_path(), state_file::LONGEST).is_ok_and(|now| now == text)
    }

    /// Leaves all bridges to the plugin.
    ///
    /// # Errors
    /// Those of removing a file that is there.
    pub(crate) fn promise_nothing(&self) -> Result<(), Error> {
        self.remove(&self.promise_path())
    }

    /// Policies of the cluster of which the plugin has been told that they are not in force. Takes no lock. None where the
    /// file cannot be read: it is written anew then.
    pub(crate) fn not_in_force(state_dir: &Path) -> Vec<NotInForce> {
        #[derive(Deserialize)]
        struct Told {
            #[serde(default)]
            not_in_force: Vec<NotInForce>,
        }
        let path = state_dir.join(super::FOLDER).join(FILE);
        let told = state_file::read(&path, state_file::LONGEST).ok();
        let told = told.and_then(|text| serde_json::from_slice::<Told>(&text).ok());
        told.map(|told| told.not_in_force).unwrap_or_default()
    }

    /// Whether the plugin has been told of exactly these. Takes no lock.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub(crate) fn promises(state_dir: &Path, bridges: &Bridges<'_>) -> Result<bool, Error> {
        let path = state_dir.join(super::FOLDER).join(FILE);
        match state_file::read(&path, state_file::LONGEST) {
            Ok(text) => Ok(text == bridges.text()?),
            Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(bridges.is_empty()),
            Err(cause) => Err(failed(format!("read {}", path.display()))(cause)),
        }
    }

    /// The file.
    pub(super) fn promise_path(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    /// Waits until every plugin that may have looked for the file before it was there is done making a bridge. Those
    /// that come later look at the file while they hold the lock.
    fn await_plugins(&self) -> Result<(), Error> {
        let state_dir = self.directory.parent().unwrap_or(Path::new("/"));
        // Also for a plugin of an older release, which has the folder on disk.
        for directory in run_dirs(state_dir) {
            // The plugin locks this folder while it makes a bridge.
            Self::await_holder(&directory.join(record::FOLDER))?;
        }
        Ok(())
    }

    fn await_holder(folder: &Path) -> Result<(), Error> {
        let attempt = || format!("wait for plugins that hold {}", folder.display());
        let file = match File::open(folder) {
            Ok(file) => file,
            // No plugin has been here yet.
            Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(()),
            Err(cause) => return Err(failed(attempt())(cause)),
        };
        match flock::lock(&file, Mode::Shared, Instant::now() + PATIENCE) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let late = format!("still locked after {} s", PATIENCE.as_secs());
                Err(failed(attempt())(io::Error::new(ErrorKind::TimedOut, late)))
            }
            Err(cause) => Err(failed(attempt())(cause)),
        }
    }
}
