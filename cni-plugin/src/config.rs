//! The network configuration as written: what keys there are, of which JSON type, meaning nothing yet.
//!
//! [`crate::attachment`] gives it meaning. Reading follows Go's decoder (see `octavia_bridge_ipam::document`),
//! because every configuration in the field was written against a Go program.

mod refusals;

use std::path::PathBuf;

use octavia_bridge_ipam::document::{self, FieldError, Object};
use serde_json::Value;

use crate::protocol::environment::is_identifier;
use crate::protocol::result::Dns;
use crate::protocol::{Code, Error, Version};

/// Where records, tombstones and the `file` store's pools live unless `dataDir` says otherwise.
pub(crate) const DATA_DIR: &str = "/var/lib/octavia-bridge";

/// Stdin, decoded. The bytes are kept: a delegated IPAM plugin must see them unchanged.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) raw: Vec<u8>,
    value: Value,
}

/// What every verb needs, and all that DEL, GC and STATUS may rely on: for a NAD that is a list of plugins,
/// multus' cache hands DEL a configuration stripped to `cniVersion`, `name`, `type` and `ipam.type` (multus-cni#755).
#[derive(Debug, Clone)]
pub(crate) struct Essentials {
    pub(crate) name: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) ipam: IpamKind,
}

/// Who gives the addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IpamKind {
    /// `ipam` absent, null, `{}` or without a type: layer 2 only.
    None,
    /// `whereabouts` or `octavia-ipam`: served in this process.
    BuiltIn,
    /// Any other type: a program in `CNI_PATH`.
    Delegated(String),
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
            other => Err(undecodable(format!("must be a JSON object, not {other:.40}"))),
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

impl Essentials {
    pub(crate) fn read(document: &Document) -> Result<Self, Error> {
        let mut root = document.root()?;
        let name = network_name(&mut root)?.to_owned();
        let mut data_dir = directory(&mut root, "dataDir")?;
        let mut kind = IpamKind::None;
        if let Some(mut ipam) = root.object("ipam")? {
            kind = ipam_kind(&mut ipam)?;
            // A delegated plugin's dataDir is its own; host-local has one, too.
            if kind == IpamKind::BuiltIn {
                let own = directory(&mut ipam, "dataDir")?;
                if let (Some(outer), Some(inner)) = (&data_dir, &own)
                    && outer != inner
                {
                    let remedy = format!("differs from dataDir {}; write one of the two", outer.display());
                    return Err(FieldError::text("ipam.dataDir", &inner.to_string_lossy(), remedy).into());
                }
                // The IPAM-only face is called with other plugins' configurations, which have none of ours.
                data_dir = data_dir.or(own);
            }
        }
        Ok(Self { name, data_dir: data_dir.unwrap_or_else(|| DATA_DIR.into()), ipam: kind })
    }
}

pub(crate) fn network_name<'a>(root: &mut Object<'a>) -> Result<&'a str, Error> {
    let name = root.string("name")?.unwrap_or_default();
    if name.is_empty() {
        return Err(Error::new(Code::InvalidConfig, "missing network name").with_details("set \"name\""));
    }
    if !is_identifier(name) {
        return Err(Error::new(
            Code::InvalidConfig,
            format!("name: {name:?} must start with a letter or digit and go on with letters, digits, '_', '.' or '-'"),
        )
        .with_details(name));
    }
    Ok(name)
}

/// A directory of ours. Relative ones are refused: thick multus starts the plugin in a working directory outside
/// its own root.
fn directory(object: &mut Object<'_>, key: &str) -> Result<Option<PathBuf>, Error> {
    match object.string(key)? {
        None | Some("") => Ok(None),
        Some(path) if path.starts_with('/') => Ok(Some(path.into())),
        Some(path) => {
            let remedy = format!("must be an absolute path such as {DATA_DIR}");
            Err(FieldError::text(object.path_of(key), path, remedy).into())
        }
    }
}

pub(crate) fn ipam_kind(ipam: &mut Object<'_>) -> Result<IpamKind, Error> {
    match ipam.string("type")? {
        None | Some("") => Ok(IpamKind::None),
        Some("whereabouts" | "octavia-ipam") => Ok(IpamKind::BuiltIn),
        Some(name) if name.contains('/') => Err(FieldError::text(
            "ipam.type",
            name,
            "must be the name of a program in CNI_PATH, without any '/'",
        )
        .into()),
        Some(name) => Ok(IpamKind::Delegated(name.to_owned())),
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
    pub(crate) strict: bool,
    pub(crate) disable_container_interface: bool,
    pub(crate) dns: Dns,
    pub(crate) ipam: Option<Object<'a>>,
    /// Addresses and MAC asked for by the pod, with the path of the field that asks: `args.cni` first, then
    /// `runtimeConfig`, which wins.
    pub(crate) asked_macs: Vec<(&'static str, &'a str)>,
    pub(crate) asked_ips: Vec<(&'static str, Vec<&'a str>)>,
    pub(crate) prev_result: Option<&'a Value>,
    /// First unserved key that asks for something.
    pub(crate) refusals: Option<Error>,
    /// Keys nobody reads; errors when `strict`.
    pub(crate) unknown: Vec<String>,
}

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
            "capabilities",
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
        let mut conf = Self {
            essentials: Essentials::read(document)?,
            bridge: root.string("bridge")?,
            bridge_mode: root.string("bridgeMode")?,
            mtu: root.int("mtu")?,
            mac: root.string("mac")?,
            announce: root.bool("announce")?,
            strict: root.bool("strict")?.unwrap_or(false),
            disable_container_interface: root.bool("disableContainerInterface")?.unwrap_or(false),
            dns: dns(&mut root, &mut unknown)?,
            ipam: root.object("ipam")?,
            asked_macs,
            asked_ips,
            prev_result: root.value("prevResult"),
            refusals: refusals::refusals(&mut root)?,
            unknown,
        };
        root.present("agentSocket");
        conf.unknown.extend(root.unknown());
        Ok(conf)
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
    fn a_stripped_configuration_is_enough_for_the_essentials() {
        let document = document(
            r#"{"cniVersion":"0.3.1","name":"octavia","type":"octavia-bridge","ipam":{"type":"whereabouts"}}"#,
        );
        let essentials = Essentials::read(&document).unwrap();
        assert_eq!(essentials.ipam, IpamKind::BuiltIn);
        assert_eq!(essentials.data_dir, PathBuf::from(DATA_DIR));
    }

    #[test]
    fn no_ipam_has_four_spellings() {
        for ipam in ["", r#","ipam":{}"#, r#","ipam":null"#, r#","ipam":{"type":""}"#] {
            let document = document(&format!(r#"{{"name":"n"{ipam}}}"#));
            assert_eq!(Essentials::read(&document).unwrap().ipam, IpamKind::None, "{ipam}");
        }
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
