//! What a plugin and the node's agent say to each other: one line of JSON each way per call.
//!
//! A plugin connects to the agent's socket, writes one [`Call`], and reads one [`Reply`]. Both bear a version, so
//! that a plugin and an agent of different releases, which every upgrade brings together, understand each other or
//! say why not. Lines end with a newline and have at most [`MAX_LINE`] bytes.
//!
//! Within a version keys may be added that a reader can do without, and kinds of failures; what is written today has to be
//! read by every later release of it. Another version is refused by [`Kind::Version`], which names both.
//!
//! A claim may need to know whether another sandbox of the same pod still exists, and only the plugin can tell. The
//! agent answers [`Answer::Contested`] then, having changed nothing, and the plugin claims again with what it found.

mod check;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::allocate::Usage;
use crate::name::PoolName;
use crate::range::Range;
use crate::request::{Assigned, Request};

/// The version of calls and replies written here.
pub const VERSION: u32 = 1;

/// Longest line, newline included, in bytes. Requests come from network configurations, which are bounded alike.
pub const MAX_LINE: usize = 1 << 20;

/// What a plugin asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// The question.
    #[serde(flatten)]
    pub verb: Verb,
}

/// The questions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verb {
    /// Reserve addresses. Answered by [`Answer::Assigned`] or [`Answer::Contested`].
    Claim(Box<Claim>),
    /// Free every address of an attachment, in every pool. Answered by [`Answer::Released`]; repeating it is no error.
    Release(Attachment),
    /// Which addresses an attachment has. Answered by [`Answer::Held`].
    Held(Lookup),
    /// How full ranges are. Answered by [`Answer::Usage`].
    Usage(Inquiry),
}

/// An attachment as CNI names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`; empty, in [`Answer::Contested`] and [`Sandbox`] only, for any interface of the container.
    pub ifname: String,
}

/// A request for addresses with what the agent cannot know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// Who asks for what.
    pub request: Request,
    /// `K8S_POD_UID`, if the runtime said it: the proof by which an address is reclaimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
    /// How long the agent has to answer, in milliseconds. The plugin waits half a second longer.
    pub patience_ms: u64,
    /// What the plugin knows of other sandboxes of the same pod: empty at first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sandboxes: Vec<Sandbox>,
}

/// Another sandbox of the claimant's pod, which has addresses that this one could take over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sandbox {
    /// The sandbox and its interface.
    #[serde(flatten)]
    pub attachment: Attachment,
    /// Whether it still exists, or its ADD is still under way.
    pub alive: bool,
}

/// Whose addresses to look up, and in which pools.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lookup {
    /// Whose.
    #[serde(flatten)]
    pub attachment: Attachment,
    /// The pools with their subnets, see [`crate::conf::Ipam::pools`].
    pub pools: Vec<(PoolName, IpNet)>,
}

/// Which ranges to count in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inquiry {
    /// The address domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_name: Option<String>,
    /// Whether addresses in use in overlapping pools of the domain count.
    pub overlapping: bool,
    /// The ranges.
    pub ranges: Vec<Range>,
    /// Addresses that are never handed out, see [`crate::conf::Ipam::reserved`].
    pub reserved: Vec<std::net::IpAddr>,
}

/// What the agent answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// The answer.
    #[serde(flatten)]
    pub answer: Answer,
}

/// The answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    /// One address per want, in order. They are written down where every node sees them.
    Assigned(Vec<Assigned>),
    /// Nothing was changed: these sandboxes of the same pod hold what the claimant could take over if they are gone.
    Contested(Vec<Attachment>),
    /// How many addresses were freed.
    Released(usize),
    /// The attachment's addresses, lowest first within each pool.
    Held(Vec<IpNet>),
    /// One for each range, in order. Of the holders at most a few are named.
    Usage(Vec<Usage>),
    /// It could not be done.
    Failed(Failure),
}

/// Why the agent could not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What a caller can do about it.
    pub kind: Kind,
    /// What was attempted, on which object, and why it failed, in words.
    pub message: String,
}

/// Failures by what a caller can do about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// The two speak different versions: update the older.
    Version,
    /// The call is not one: a defect of its writer.
    Malformed,
    /// A range has no free address.
    Exhausted,
    /// An address asked for by name is somebody else's.
    Held,
    /// A pool's object is not what its name says; it was left alone, and somebody has to look.
    Corrupt,
    /// It would never succeed as it is configured, as with a pool that outgrows one object.
    Unsupported,
    /// The API, or the agent itself, cannot answer now: try again later. Nothing is reserved, or a release follows.
    /// Also what a later release may add: its message says what it is.
    #[serde(other)]
    Unavailable,
}

/// Counts of addresses, written as text: JSON readers lose digits of numbers beyond 2^53, and serde cannot read ones
/// beyond 2^64 in a flattened value at all.
pub(crate) mod decimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(count: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(count)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use crate::request::{Choice, Owner, Want};

    use super::*;

    fn call() -> Call {
        let subnet: IpNet = "172.23.0.0/24".parse().unwrap();
        let start = Some("172.23.0.30".parse().unwrap());
        let (range, _) = Range::new(subnet, start, None, vec!["172.23.0.40/32".parse().unwrap()]).unwrap();
        let attachment = Attachment { container_id: "3f2a".into(), ifname: "net1".into() };
        let owner = Owner {
            container_id: attachment.container_id.clone(),
            ifname: attachment.ifname.clone(),
            pod: Some("openstack/octavia-worker-0".into()),
        };
        let want = Want {
            pool: PoolName::new(None, &subnet).unwrap(),
            subnet,
            gateway: None,
            choice: Choice::Lowest(range),
        };
        let request = Request {
            owner,
            network_name: None,
            overlapping: true,
            wants: vec![want],
            reserved: vec!["172.23.0.150".parse().unwrap()],
        };
        let sandboxes = vec![Sandbox { attachment, alive: false }];
        let claim = Claim { request, pod_uid: Some("8a0c".into()), patience_ms: 25_000, sandboxes };
        Call { version: VERSION, verb: Verb::Claim(Box::new(claim)) }
    }

    /// The text is a contract with plugins and agents of other releases.
    #[test]
    fn a_claim_is_written_as_every_release_of_this_version_reads_it() {
        let text = serde_json::to_string(&call()).unwrap();
        assert_eq!(
            text,
            r#"{"version":1,"claim":{"request":{"owner":{"containerId":"3f2a","ifname":"net1","#.to_owned()
                + r#""pod":"openstack/octavia-worker-0"},"networkName":null,"overlapping":true,"wants":["#
                + r#"{"pool":"172.23.0.0-24","subnet":"172.23.0.0/24","gateway":null,"choice":{"lowest":"#
                + r#"{"subnet":"172.23.0.0/24","first":"172.23.0.30","last":"172.23.0.254","#
                + r#""exclude":["172.23.0.40/32"]}}}],"reserved":["172.23.0.150"]},"podUid":"8a0c","#
                + r#""patienceMs":25000,"sandboxes":[{"containerId":"3f2a","ifname":"net1","alive":false}]}}"#
        );
        assert_eq!(serde_json::from_str::<Call>(&text).unwrap(), call());
    }

    #[test]
    fn other_questions_are_written_as_every_release_of_this_version_reads_them() {
        let attachment = Attachment { container_id: "3f2a".into(), ifname: "net1".into() };
        let subnet: IpNet = "172.23.0.0/24".parse().unwrap();
        let (range, _) = Range::new(subnet, None, None, Vec::new()).unwrap();
        let pools = vec![(PoolName::new(None, &subnet).unwrap(), subnet)];
        let inquiry =
            Inquiry { network_name: None, overlapping: true, ranges: vec![range], reserved: Vec::new() };
        for (verb, text) in [
            (
                Verb::Release(attachment.clone()),
                r#"{"version":1,"release":{"containerId":"3f2a","ifname":"net1"}}"#.to_owned(),
            ),
            (
                Verb::Held(Lookup { attachment, pools }),
                r#"{"version":1,"held":{"containerId":"3f2a","ifname":"net1","#.to_owned()
                    + r#""pools":[["172.23.0.0-24","172.23.0.0/24"]]}}"#,
            ),
            (
                Verb::Usage(inquiry),
                r#"{"version":1,"usage":{"overlapping":true,"ranges":[{"subnet":"172.23.0.0/24","#.to_owned()
                    + r#""first":"172.23.0.1","last":"172.23.0.254"}],"reserved":[]}}"#,
            ),
        ] {
            let call = Call { version: VERSION, verb };
            assert_eq!(serde_json::to_string(&call).unwrap(), text);
            assert_eq!(serde_json::from_str::<Call>(&text).unwrap(), call);
        }
    }

    #[test]
    fn what_a_later_release_adds_is_passed_over() {
        let text = serde_json::to_string(&call()).unwrap();
        let more = text.replace(r#""podUid""#, r#""zone":{"name":"a"},"podUid""#);
        let more = more
            .replace(r#""pool":"#, r#""weight":3,"pool":"#)
            .replace(r#"{"version":1,"#, r#"{"version":1,"trace":"7","#);
        assert_ne!(more, text);
        assert_eq!(serde_json::from_str::<Call>(&more).unwrap(), call());
        let refusal = r#"{"version":1,"failed":{"kind":"quotaExceeded","message":"no more","retryMs":5}}"#;
        let failure = Failure { kind: Kind::Unavailable, message: "no more".into() };
        assert_eq!(serde_json::from_str::<Reply>(refusal).unwrap().answer, Answer::Failed(failure));
    }

    #[test]
    fn answers_are_written_as_every_release_of_this_version_reads_them() {
        let address = "172.23.0.30/24".parse().unwrap();
        let failure = Failure { kind: Kind::Exhausted, message: "pool is full".into() };
        for (answer, text) in [
            (
                Answer::Assigned(vec![Assigned { address, gateway: None }]),
                r#"{"version":1,"assigned":[{"address":"172.23.0.30/24","gateway":null}]}"#,
            ),
            (Answer::Released(1), r#"{"version":1,"released":1}"#),
            (
                Answer::Failed(failure),
                r#"{"version":1,"failed":{"kind":"exhausted","message":"pool is full"}}"#,
            ),
        ] {
            let reply = Reply { version: VERSION, answer };
            assert_eq!(serde_json::to_string(&reply).unwrap(), text);
            assert_eq!(serde_json::from_str::<Reply>(text).unwrap(), reply);
        }
    }

    #[test]
    fn ranges_of_any_size_can_be_counted() {
        let (range, _) = Range::new("fd00::/48".parse().unwrap(), None, None, Vec::new()).unwrap();
        let usage = crate::allocate::usage(&range, "fd00---48", [].iter(), &[]);
        let reply = Reply { version: VERSION, answer: Answer::Usage(vec![usage]) };
        let text = serde_json::to_string(&reply).unwrap();
        assert!(text.contains(r#""free":"1208925819614629174706174""#), "{text}");
        assert_eq!(serde_json::from_str::<Reply>(&text).unwrap(), reply);
    }

    #[test]
    fn what_would_widen_a_range_or_name_no_object_is_refused() {
        let text = serde_json::to_string(&call()).unwrap();
        for (right, wrong) in [
            (r#""first":"172.23.0.30""#, r#""first":"172.23.1.30""#),
            (r#""first":"172.23.0.30""#, r#""first":"172.23.0.255""#),
            (r#""pool":"172.23.0.0-24""#, r#""pool":"../172.23.0.0-24""#),
        ] {
            assert!(serde_json::from_str::<Call>(&text.replace(right, wrong)).is_err(), "{wrong}");
        }
    }
}
