//! The `CNI_*` variables: which verb, which container, which interface.

use std::ffi::OsString;
use std::path::PathBuf;

use octavia_bridge_ipam::request::check_container_id;
use octavia_bridge_netlink::validate_link_name;

use super::{Code, Error};

pub(crate) use octavia_bridge_ipam::request::is_identifier;

/// The operations of the specification, section 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Add,
    Del,
    Check,
    Status,
    Gc,
    Version,
}

impl Verb {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Add, "ADD"),
        (Self::Del, "DEL"),
        (Self::Check, "CHECK"),
        (Self::Status, "STATUS"),
        (Self::Gc, "GC"),
        (Self::Version, "VERSION"),
    ];

    pub(crate) fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(verb, _)| *verb == self).map_or("", |(_, name)| name)
    }

    fn needs_attachment(self) -> bool {
        matches!(self, Self::Add | Self::Del | Self::Check)
    }
}

/// The environment of one call, checked.
#[derive(Debug, Clone)]
pub(crate) struct Environment {
    pub(crate) verb: Verb,
    /// Empty for the verbs that are about no container (STATUS, GC, VERSION).
    pub(crate) container_id: String,
    /// Path of the pod's network namespace, verbatim: it is echoed as `sandbox`. DEL may come without one.
    pub(crate) netns: Option<String>,
    /// Name of the interface in the pod; empty where `container_id` is.
    pub(crate) ifname: String,
    /// `CNI_ARGS`, not yet taken apart: DEL must work whatever it says.
    pub(crate) args: OsString,
    /// Where delegated plugins are looked for, in order.
    pub(crate) path: Vec<PathBuf>,
    /// `CNI_NETNS_OVERRIDE`: attach even the plugin's own namespace (the reference library's escape hatch).
    pub(crate) netns_override: bool,
    /// For DEL: no attachment can have this container id and interface name, since ADD refuses them. So there is nothing to remove.
    pub(crate) impossible: Option<Error>,
}

impl Environment {
    /// Reads the variables through `lookup`. `None` when `CNI_COMMAND` is unset or empty: then a person, not a
    /// runtime, has started the program.
    pub(crate) fn read(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Option<Self>, Error> {
        let text = |key: &str| -> Result<Option<String>, Error> {
            match lookup(key).map(OsString::into_string) {
                None => Ok(None),
                Some(Ok(value)) if value.is_empty() => Ok(None),
                Some(Ok(value)) => Ok(Some(value)),
                Some(Err(raw)) => Err(invalid(key, &raw.to_string_lossy(), "must be UTF-8 text")),
            }
        };
        let Some(command) = text("CNI_COMMAND")? else { return Ok(None) };
        let verb =
            Verb::ALL.into_iter().find(|(_, name)| *name == command).map(|(verb, _)| verb).ok_or_else(
                || invalid("CNI_COMMAND", &command, "is unknown; use ADD, DEL, CHECK, STATUS, GC or VERSION"),
            )?;
        let mut environment = Self {
            verb,
            container_id: text("CNI_CONTAINERID")?.unwrap_or_default(),
            netns: text("CNI_NETNS")?,
            ifname: text("CNI_IFNAME")?.unwrap_or_default(),
            // DEL must work whatever it says, even if it is no text.
            args: lookup("CNI_ARGS").unwrap_or_default(),
            path: lookup("CNI_PATH").map(|list| std::env::split_paths(&list).collect()).unwrap_or_default(),
            netns_override: matches!(
                text("CNI_NETNS_OVERRIDE")?.as_deref(),
                Some("1" | "true" | "TRUE" | "True")
            ),
            impossible: None,
        };
        environment.require_all()?;
        match environment.validate() {
            Err(error) if verb == Verb::Del => environment.impossible = Some(error),
            checked => checked?,
        }
        Ok(Some(environment))
    }

    /// `CNI_ARGS` as text.
    pub(crate) fn args(&self) -> Result<&str, Error> {
        let text = self.args.to_str();
        text.ok_or_else(|| invalid("CNI_ARGS", &self.args.to_string_lossy(), "must be UTF-8 text"))
    }

    fn require_all(&self) -> Result<(), Error> {
        if !self.verb.needs_attachment() {
            return Ok(());
        }
        // All that is missing is named at once, as the reference library does.
        let needs_netns = self.verb != Verb::Del;
        let missing: Vec<_> = [
            ("CNI_CONTAINERID", self.container_id.is_empty()),
            ("CNI_NETNS", needs_netns && self.netns.is_none()),
            ("CNI_IFNAME", self.ifname.is_empty()),
        ]
        .into_iter()
        .filter_map(|(key, absent)| absent.then_some(key))
        .collect();
        if !missing.is_empty() {
            return Err(Error::new(
                Code::InvalidEnvironment,
                format!("required env variables [{}] missing for {}", missing.join(","), self.verb.as_str()),
            ));
        }
        Ok(())
    }

    fn validate(&self) -> Result<(), Error> {
        if !self.verb.needs_attachment() {
            return Ok(());
        }
        check_container_id(&self.container_id)
            .map_err(|remedy| invalid("CNI_CONTAINERID", &self.container_id, remedy))?;
        validate_link_name(&self.ifname).map_err(|_| {
            let remedy = "is not an interface name; it takes 1 to 15 bytes without '/', ':', '%' and spaces";
            invalid("CNI_IFNAME", &self.ifname, remedy)
        })
    }
}

fn invalid(key: &str, value: &str, remedy: &str) -> Error {
    Error::new(Code::InvalidEnvironment, format!("{key} {value:?} {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Option<Environment>, Error> {
        Environment::read(|key| pairs.iter().find(|(name, _)| *name == key).map(|(_, value)| value.into()))
    }

    const ADD: [(&str, &str); 4] = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "cid1"),
        ("CNI_NETNS", "/run/netns/p"),
        ("CNI_IFNAME", "net1"),
    ];

    #[test]
    fn a_person_starting_the_program_is_not_an_error() {
        assert!(read(&[]).unwrap().is_none());
        assert!(read(&[("CNI_COMMAND", "")]).unwrap().is_none());
    }

    #[test]
    fn everything_missing_is_named_at_once() {
        let error = read(&[("CNI_COMMAND", "ADD")]).unwrap_err();
        assert_eq!(error.code, Code::InvalidEnvironment);
        assert!(error.msg.contains("[CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME]"), "{}", error.msg);
        let error = read(&[("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "x")]).unwrap_err();
        assert!(error.msg.contains("[CNI_IFNAME]"), "{}", error.msg);
    }

    #[test]
    fn a_path_of_plugins_is_not_demanded_since_our_ipam_is_built_in() {
        assert!(read(&ADD).unwrap().unwrap().path.is_empty());
    }

    #[test]
    fn verbs_are_upper_case_and_wrong_values_are_shown() {
        for command in ["add", "FOO"] {
            let error = read(&[("CNI_COMMAND", command)]).unwrap_err();
            assert!(error.msg.contains(command), "{}", error.msg);
        }
        for (key, value) in [
            ("CNI_CONTAINERID", "a/b"),
            ("CNI_CONTAINERID", "-abc"),
            ("CNI_IFNAME", "sixteen-bytes-xx"),
            ("CNI_IFNAME", ".."),
            ("CNI_IFNAME", "a b"),
        ] {
            let pairs: Vec<_> =
                ADD.iter().map(|&(k, v)| if k == key { (k, value) } else { (k, v) }).collect();
            let error = read(&pairs).unwrap_err();
            assert_eq!(error.code, Code::InvalidEnvironment);
            assert!(error.msg.contains(key) && error.msg.contains(value), "{}", error.msg);
        }
    }

    #[test]
    fn del_of_what_add_refuses_has_nothing_to_do() {
        for (key, value) in [("CNI_IFNAME", "default"), ("CNI_IFNAME", "a%b"), ("CNI_CONTAINERID", "-abc")] {
            let mut pairs = ADD.map(|(k, v)| if k == key { (k, value) } else { (k, v) });
            assert!(read(&pairs).is_err());
            pairs[0].1 = "DEL";
            let environment = read(&pairs).unwrap().unwrap();
            assert!(environment.impossible.unwrap().msg.contains(value), "{value}");
        }
    }

    #[test]
    fn status_and_gc_concern_no_container() {
        for command in ["STATUS", "GC", "VERSION"] {
            assert!(read(&[("CNI_COMMAND", command)]).unwrap().is_some());
        }
    }
}
