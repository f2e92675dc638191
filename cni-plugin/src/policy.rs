//! What the node's policy says of the bridge, where octavia-bridge-agent keeps one.
//!
//! A bridge that this plugin makes has no uplink. Where a policy names the bridge, that would be worse than none: pods
//! would be attached to it and talk to nobody. So then the bridge is the agent's to make, and an ADD waits for it.

mod document;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use octavia_bridge_ipam::visible::visible;
use octavia_bridge_netlink::{Event, EventGroups, Events, Link, LinkKind, Netlink};
use tokio::time::{Instant, timeout_at};

use crate::attachment::Attachment;
use crate::patience;
use crate::places::DATA_DIR;
use crate::protocol::{Code, Error};
use document::{Document, read};

/// How long an ADD waits. The agent needs milliseconds, a NIC's driver at boot some seconds. A pod may have several
/// attachments, and container runtimes give all of them together two minutes (kubelet's `runtimeRequestTimeout`).
const PATIENCE: Duration = Duration::from_secs(20);
/// Below the agent's state directory.
const FILE: &str = "agent/bridges.json";

/// A bridge that a policy names.
#[derive(Debug)]
struct Policy {
    /// Where it came from, for people.
    origin: String,
    bridge: String,
    /// Links that the policy makes ports of the bridge.
    uplinks: Vec<String>,
    /// What those and other VLANs stand on, if the agent says so.
    vlans: Option<BTreeMap<String, String>>,
    /// Why the policy is not in force, if it is not.
    why: Option<String>,
}

/// Something that has to come before a pod may be attached.
#[derive(Debug)]
pub(crate) struct Awaited {
    policy: Policy,
    lack: String,
}

/// What the bridge lacks of what the policy says; `None` if no policy names it, or nothing is missing.
///
/// # Errors
/// Code 7 for a link of a policy that is not a bridge, and not there.
pub(crate) async fn awaited(host: &Netlink, attachment: &Attachment) -> Result<Option<Awaited>, Error> {
    let policy = match Word::on(attachment)? {
        Word::Nothing => return Ok(None),
        Word::Link(refusal) => {
            let name = attachment.bridge.as_str();
            let there =
                host.link(name).await.map_err(|cause| Error::kernel("look for the bridge", &cause))?;
            // What it is, then, is for those to judge who are to use it.
            return if there.is_some() { Ok(None) } else { Err(refusal) };
        }
        Word::Bridge(policy) => policy,
    };
    Ok(policy.lack(host).await?.map(|lack| Awaited { policy, lack }))
}

impl Awaited {
    /// Waits until the bridge is as the policy has it.
    ///
    /// # Errors
    /// Code 11 when it is not so in time.
    pub(crate) async fn arrival(self, host: &Netlink, attachment: &Attachment) -> Result<(), Error> {
        let Self { policy, lack } = self;
        tracing::warn!("{lack}; waiting for octavia-bridge-agent, {} s at most", PATIENCE.as_secs());
        let deadline = Instant::now() + patience::within(PATIENCE);
        let deaf = |cause| Error::kernel("listen for changes to the bridge", &cause);
        let groups = EventGroups { links: true, ..EventGroups::default() };
        let mut events = host.events(groups).await.map_err(deaf)?;
        // Looked at after listening has begun: a change between the two would be missed.
        while policy.lack(host).await?.is_some() {
            match timeout_at(deadline, policy.next_change(&mut events)).await {
                Ok(changed) => changed.map_err(deaf)?,
                // Read again, since by now there may be no policy, or another.
                Err(_) => return check(host, attachment).await,
            }
        }
        Ok(())
    }
}

/// The same without waiting.
pub(crate) async fn check(host: &Netlink, attachment: &Attachment) -> Result<(), Error> {
    let Word::Bridge(policy) = Word::on(attachment)? else { return Ok(()) };
    let Some(lack) = policy.lack(host).await? else { return Ok(()) };
    Err(match policy.missing(host).await? {
        Some(name) => policy.not_yet(format!("{lack}; the policy waits for {name}, which does not exist")),
        None => policy.not_yet(lack),
    })
}

/// Whether a policy names the bridge, so that it is the agent's to make. To be asked with the bridges locked: the agent
/// waits for that lock between writing its file and looking at the links, so either sees what the other has done.
///
/// # Errors
/// Code 7 if no bridge of that name may be made.
pub(crate) fn names_bridge(attachment: &Attachment) -> Result<bool, Error> {
    match Word::on(attachment)? {
        Word::Nothing => Ok(false),
        Word::Bridge(_) => Ok(true),
        Word::Link(refusal) => Err(refusal),
    }
}

/// What the node's policies say of the name that the network gives to its bridge.
#[derive(Debug)]
enum Word {
    Nothing,
    /// It is one of theirs.
    Bridge(Policy),
    /// It is another link of theirs, so no bridge of that name may be made.
    Link(Error),
}

impl Word {
    fn on(attachment: &Attachment) -> Result<Self, Error> {
        let own = attachment.data_dir.join(FILE);
        // The agent's state directory, too. A network does not choose which policies there are.
        let default = Path::new(DATA_DIR).join(FILE);
        let mut documents = vec![read(&own)?];
        if own != default {
            documents.push(read(&default)?);
        }
        Ok(Self::of(documents.into_iter().flatten(), &attachment.bridge))
    }

    fn of(documents: impl Iterator<Item = Document>, name: &str) -> Self {
        let mut word = Self::Nothing;
        for Document { policy, mut bridges, links, vlans, mut origins, not_in_force } in documents {
            if let Some(uplinks) = bridges.remove(name) {
                let failed = not_in_force.into_iter().find(|failed| failed.bridges.contains_key(name));
                let (origin, why) = match failed {
                    // Others' words, which end up in an event.
                    Some(failed) => {
                        (format!("policy {}", failed.policy), Some(visible(&failed.why).to_string()))
                    }
                    None => (origins.remove(name).unwrap_or(policy), None),
                };
                return Self::Bridge(Policy { origin, bridge: name.to_owned(), uplinks, vlans, why });
            }
            if links.contains(name) {
                let text =
                    format!("bridge: {name:?} is in the node's policy ({policy}), but not as a bridge");
                let details =
                    "set \"bridge\" to the name of a bridge; the plugin does not create one of this name";
                word = Self::Link(Error::new(Code::InvalidConfig, text).with_details(details));
            }
        }
        word
    }
}

impl Policy {
    /// What is missing, in words.
    async fn lack(&self, host: &Netlink) -> Result<Option<String>, Error> {
        let failed = |cause| Error::kernel("compare the bridge with the node's policy", &cause);
        let Some(bridge) = host.link(self.bridge.as_str()).await.map_err(failed)? else {
            return Ok(Some(self.words("does not exist")));
        };
        // Another kind of link is refused for what it is.
        if !matches!(bridge.kind, LinkKind::Bridge(_)) {
            return Ok(None);
        }
        if !bridge.up {
            return Ok(Some(self.words("is down")));
        }
        for name in &self.uplinks {
            let uplink = host.link(name.as_str()).await.map_err(failed)?;
            // Whether it is up is no matter here: a cable may be out as well, and comes back without the agent.
            if uplink.is_none_or(|uplink| uplink.master != Some(bridge.index)) {
                return Ok(Some(self.words(&format!("lacks its uplink {name}"))));
            }
        }
        Ok(None)
    }

    /// The link for which the policy waits, because no policy creates it. One that is not in force waits for nothing.
    async fn missing(&self, host: &Netlink) -> Result<Option<String>, Error> {
        let Some(vlans) = self.vlans.as_ref().filter(|_| self.why.is_none()) else { return Ok(None) };
        for uplink in &self.uplinks {
            let mut name = uplink;
            // VLANs may stand on VLANs; the file is not trusted to come to an end.
            for _ in 0..=vlans.len() {
                let link = host.link(name.as_str()).await;
                if link.map_err(|cause| Error::kernel("look for the bridge's uplink", &cause))?.is_some() {
                    break;
                }
                let Some(base) = vlans.get(name) else { return Ok(Some(name.clone())) };
                name = base;
            }
        }
        Ok(None)
    }

    fn words(&self, lack: &str) -> String {
        let words =
            format!("bridge: {:?}, which the node's policy ({}) names, {lack}", self.bridge, self.origin);
        match &self.why {
            Some(why) => format!("{words}; that policy is not in force: {why}"),
            None => words,
        }
    }

    fn not_yet(&self, lack: String) -> Error {
        let details = match &self.why {
            Some(_) => format!("correct the {}; octavia-bridge-agent then creates the bridge", self.origin),
            None => "octavia-bridge-agent repairs it; see its log or readiness \
                     (kubectl exec POD -- /octavia-bridge-agent health ready)"
                .into(),
        };
        Error::new(Code::TryAgainLater, lack).with_details(details)
    }

    /// Whether it is the bridge or an uplink, which a policy may call by an alternative name.
    fn concerns(&self, link: &Link) -> bool {
        link.is_called(&self.bridge) || self.uplinks.iter().any(|name| link.is_called(name))
    }

    /// Returns at the next event that may bring what is missing.
    async fn next_change(&self, events: &mut Events) -> octavia_bridge_netlink::Result<()> {
        loop {
            match events.next().await? {
                Event::Link(link) if self.concerns(&link) => break,
                Event::Overrun => break,
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_s_bridge_comes_before_another_s_link_of_that_name() {
        let document = |bridges: &[&str], links: &[&str]| Document {
            policy: "octavia.yaml".into(),
            bridges: bridges.iter().map(|name| ((*name).to_owned(), Vec::new())).collect(),
            links: links.iter().map(|name| (*name).to_owned()).collect(),
            ..Document::default()
        };
        let on = |name: &str| {
            let documents =
                [document(&["br-a"], &["br-a", "eth0", "br-b"]), document(&["br-b"], &["br-b", "br-a"])];
            Word::of(documents.into_iter(), name)
        };
        for name in ["br-a", "br-b"] {
            assert!(matches!(on(name), Word::Bridge(policy) if policy.bridge == name), "{name}");
        }
        assert!(matches!(on("octbr"), Word::Nothing));
        let Word::Link(refusal) = on("eth0") else { panic!("made in its place") };
        assert_eq!(refusal.code, Code::InvalidConfig);
    }

    #[test]
    fn of_several_policies_the_one_of_the_bridge_is_named() {
        for (origins, named) in
            [("{}", "policy a, policy b"), (r#"{"br-a": "policy a", "octbr": "policy b"}"#, "policy b")]
        {
            let text = format!(
                r#"{{"policy": "policy a, policy b", "bridges": {{"octbr": [], "br-a": []}}, "origins": {origins}}}"#
            );
            let document = serde_json::from_str::<Document>(&text).unwrap();
            let Word::Bridge(policy) = Word::of([document].into_iter(), "octbr") else { panic!("a bridge") };
            assert_eq!(policy.origin, named);
        }
    }

    #[tokio::test]
    async fn only_a_policy_in_force_waits_for_a_nic() {
        let host = Netlink::open().await.unwrap();
        let vlans = || Some(BTreeMap::from([("nosuch0.24".to_owned(), "nosuch0".to_owned())]));
        for (vlans, why, missing) in [
            (vlans(), None, Some("nosuch0")),
            (vlans(), Some("a conflict".to_owned()), None),
            // Of an older agent.
            (None, None, None),
        ] {
            let uplinks = vec!["lo".to_owned(), "nosuch0.24".to_owned()];
            let (origin, bridge) = ("octavia.yaml".into(), "octbr".into());
            let policy = Policy { origin, bridge, uplinks, vlans, why };
            assert_eq!(policy.missing(&host).await.unwrap().as_deref(), missing);
        }
    }

    #[test]
    fn an_uplink_is_known_by_each_of_its_names() {
        let policy = Policy {
            origin: "octavia.yaml".into(),
            bridge: "octbr".into(),
            uplinks: vec!["ens3".into()],
            vlans: None,
            why: None,
        };
        let link = |name: &str, alternative: &str| Link {
            name: name.into(),
            alternative_names: vec![alternative.into()],
            ..Link::default()
        };
        assert!(policy.concerns(&link("ens3", "enp6s0")));
        assert!(policy.concerns(&link("enp6s0", "ens3")));
        assert!(policy.concerns(&link("octbr", "br7")));
        assert!(!policy.concerns(&link("enp7s0", "ens4")));
    }
}
