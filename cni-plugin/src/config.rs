//! The network configuration as written: what keys there are, of which JSON type, meaning nothing yet.
//!
//! [`crate::attachment`] gives it meaning. Reading follows Go's decoder (see `octavia_bridge_ipam::document`),
//! because every configuration in the field was written against a Go program.

mod essentials;
mod port_vlans;
mod refusals;

use octavia_bridge_ipam::document::{self, FieldError, Object};
use octavia_bridge_ipam::request::Reach;
use serde_json::Value;

use crate::protocol::result::Dns;
use crate::protocol::{Code, Error, Verb, Version};

pub(crate) use essentials::{Essentials, IpamKind};
pub(crate) use port_vlans::{PortVlansConf, TrunkConf};

/// Stdin, decoded. The bytes are kept: a delegated IPAM plugin must see them unchanged.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) raw: Vec<u8>,
    value: Value,
}

impl Document {
    pub(crate) fn decode(raw: Vec<u8>) -> Result<Self, Error> {
        let undecodable =
            |why: String| Error::new(Code::Decode, format!("network configuration on stdin: {why}"));
        if raw.iter().all(u8::is_ascii_whitespace) {
            return Err(undecodable("nothing there; write a JSON object".into()));
        }
        let value = document::read(&raw).map_err(|cause| undecodable(format!("no JSON: {cause}")))?;
        match value {
            Value::Object(_) => Ok(Self { raw, value }),
            // Go decodes null into an empty configuration, whose first fault is the missing name.
            Value::Null => Ok(Self { raw, value: Value::Object(serde_json::Map::new()) }),
            Value::Array(_) => Err(undecodable("must be a JSON object, not a list".into())),
            _ => Err(undecodable("must be a JSON object, not a single value".into())),
        }
    }

    pub(crate) fn root(&self) -> Result<Object<'_>, FieldError> {
        Object::root(&self.value)
    }

    pub(crate) fn version(&self) -> Result<Version, Error> {
        Version::of_config(self.root()?.string("cniVersion")?)
    }

    /// `cni.dev/valid-attachments` of GC as (container id, interface name), falling back to the mistaken
    /// `cni.dev/attachments` that libcni sends beside it (containernetworking/cni#1101).
    ///
    /// An absent list is an error: it means "unknown", and taking it for "none" would end every attachment.
    pub(crate) fn valid_attachments(&self) -> Result<Vec<(String, String)>, Error> {
        const KEY: &str = "cni.dev/valid-attachments";
        let mut root = self.root()?;
        const OLDER_KEY: &str = "cni.dev/attachments";
        let key = [KEY, OLDER_KEY].into_iter().find(|key| root.present(key)).ok_or_else(|| {
            Error::new(
                Code::InvalidConfig,
                format!("{KEY}: missing; GC needs the list of attachments to keep"),
            )
        })?;
        root.list(key)?
            .into_iter()
            .map(|element| {
                let mut attachment = element.object()?;
                let mut text = |key: &str| match attachment.string(key)? {
                    None | Some("") => Err(FieldError::missing(attachment.path_of(key), "is missing")),
                    Some(text) => Ok(text.to_owned()),
                };
                Ok((text("containerID")?, text("ifname")?))
            })
            .collect()
    }
}

/// The configuration of ADD and CHECK, typed. Keys that the reference bridge plugin knows and this one does not
/// serve yet are in [`Self::refusals`].
#[derive(Debug)]
pub(crate) struct NetConf<'a> {
    pub(crate) essentials: Essentials,
    pub(crate) bridge: Option<&'a str>,
    pub(crate) bridge_mode: Option<&'a str>,
    pub(crate) mtu: Option<i64>,
    pub(crate) mac: Option<&'a str>,
    pub(crate) announce: Option<bool>,
    pub(crate) port_vlans: PortVlansConf<'a>,
    pub(crate) strict: bool,
    pub(crate) disable_container_interface: bool,
    pub(crate) dns: Dns,
    pub(crate) ipam: Option<Object<'a>>,
    /// Addresses and MAC asked for by the pod, with the path of the field that asks: `args.cni` first, then
    /// `runtimeConfig`, which wins.
    pub(crate) asked_macs: Vec<(&'static str, &'a str)>,
    pub(crate) asked_ips: Vec<(&'static str, Vec<&'a str>)>,
    /// `capabilities.ips`: whether they may be any of the ranges' subnets. Runtimes pass `runtimeConfig.ips` to networks that declare
    /// it only; but `CNI_ARGS`, by which multus hands on a pod's annotation as well, asks nobody.
    pub(crate) reach: Reach,
    pub(crate) prev_result: Option<&'a Value>,
    /// First unserved key that asks for something.
    pub(crate) refusals: Option<Error>,
    /// Keys nobody reads; errors when `strict`.
    pub(crate) unknown: Vec<String>,
    /// One of them that is probably one of [`KEYS`].
    pub(crate) near_miss: Option<FieldError>,
}

/// Keys whose default would attach the pod to something else than was meant.
const KEYS: [&str; 6] = ["bridge", "bridgeMode", "ipam", "mtu", "vlan", "vlanTrunk"];

impl<'a> NetConf<'a> {
    pub(crate) fn read(document: &'a Document) -> Result<Self, Error> {
        let mut root = document.root()?;
        // Read elsewhere, claimed here so that they do not count as unknown.
        for key in [
            "cniVersion",
            "cniVersions",
            "name",
            "type",
            "dataDir",
            "agentSocket",
            "disableCheck",
            "disableGC",
            "cni.dev/valid-attachments",
            "cni.dev/attachments",
        ] {
            root.present(key);
        }
        let mut unknown = Vec::new();
        let mut asked_macs = Vec::new();
        let mut asked_ips = Vec::new();
        if let Some(mut cni) = root.object("args")?.map(|mut args| args.object("cni")).transpose()?.flatten()
        {
            asked_macs.extend(some(cni.string("mac")?).map(|mac| ("args.cni.mac", mac)));
            asked_ips.push(("args.cni.ips", all_some(cni.strings("ips")?)));
            unknown.extend(cni.unknown());
        }
        if let Some(mut runtime) = root.object("runtimeConfig")? {
            asked_macs.extend(some(runtime.string("mac")?).map(|mac| ("runtimeConfig.mac", mac)));
            asked_ips.push(("runtimeConfig.ips", all_some(runtime.strings("ips")?)));
            unknown.extend(runtime.unknown());
        }
        let reach = match root.object("capabilities")?.map(|mut declared| declared.bool("ips")).transpose()? {
            Some(Some(true)) => Reach::Subnet,
            _ => Reach::Range,
        };
        let mut conf = Self {
            essentials: Essentials::read(document)?,
            bridge: root.string("bridge")?,
            bridge_mode: root.string("bridgeMode")?,
            mtu: root.int("mtu")?,
            mac: root.string("mac")?,
            announce: root.bool("announce")?,
            port_vlans: PortVlansConf::read(&mut root, &mut unknown)?,
            strict: root.bool("strict")?.unwrap_or(false),
            disable_container_interface: root.bool("disableContainerInterface")?.unwrap_or(false),
            dns: dns(&mut root, &mut unknown)?,
            ipam: root.object("ipam")?,
            asked_macs,
            asked_ips,
            reach,
            prev_result: root.value("prevResult"),
            refusals: refusals::refusals(&mut root)?,
            unknown,
            near_miss: None,
        };
        conf.near_miss = root.near_miss(&KEYS).err();
        conf.unknown.extend(root.unknown());
        Ok(conf)
    }

    /// Whether an address may be asked for is ADD's to say. CHECK is about one that was given, perhaps by other rules.
    pub(crate) fn allow_what_was_given(&mut self, verb: Verb) {
        if verb != Verb::Add {
            self.reach = Reach::Subnet;
        }
    }
}

/// Go's zero value of a string, the empty one, is an absent one.
fn some(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

fn all_some(texts: Vec<&str>) -> Vec<&str> {
    texts.into_iter().filter(|text| !text.is_empty()).collect()
}

fn dns(root: &mut Object<'_>, unknown: &mut Vec<String>) -> Result<Dns, Error> {
    let Some(mut dns) = root.object("dns")? else { return Ok(Dns::default()) };
    let mut texts = |key| -> Result<Vec<String>, FieldError> {
        Ok(dns.strings(key)?.into_iter().map(str::to_owned).collect())
    };
    let (nameservers, search, options) = (texts("nameservers")?, texts("search")?, texts("options")?);
    let domain = dns.string("domain")?.unwrap_or_default().to_owned();
    unknown.extend(dns.unknown());
    Ok(Dns { nameservers, domain, search, options })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document {
        Document::decode(text.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn what_is_no_object_is_code_6_and_null_is_a_missing_name() {
        for text in ["", " \n", "{", "[]", "\"x\"", "{\"a\":1} trailing"] {
            assert_eq!(Document::decode(text.into()).unwrap_err().code, Code::Decode, "{text:?}");
        }
        let error = Essentials::read(&document("null")).unwrap_err();
        assert_eq!((error.code, error.msg.as_str()), (Code::InvalidConfig, "missing network name"));
    }

    #[test]
    fn gc_without_a_list_is_refused_and_the_older_key_is_read() {
        assert!(document(r#"{"name":"n"}"#).valid_attachments().is_err());
        let older = document(r#"{"name":"n","cni.dev/attachments":[{"containerID":"c","ifname":"net1"}]}"#);
        assert_eq!(older.valid_attachments().unwrap(), [("c".to_owned(), "net1".to_owned())]);
        let empty = document(r#"{"name":"n","cni.dev/valid-attachments":[]}"#);
        assert_eq!(empty.valid_attachments().unwrap(), []);
    }

    #[test]
    fn requests_are_collected_with_the_stronger_last() {
        let document = document(
            r#"{"name":"n","runtimeConfig":{"mac":"b","ips":["2"]},"args":{"cni":{"mac":"a","ips":["1"]}},"x":1}"#,
        );
        let conf = NetConf::read(&document).unwrap();
        assert_eq!(conf.asked_macs.last(), Some(&("runtimeConfig.mac", "b")));
        assert_eq!(conf.asked_ips.last().unwrap().1, ["2"]);
        assert_eq!(conf.unknown, ["x"]);
    }
}
