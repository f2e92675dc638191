//! The part of a configuration that every verb needs, whatever else is missing in it.

use std::path::PathBuf;

use octavia_bridge_ipam::conf::SERVED_TYPES;
use octavia_bridge_ipam::document::{FieldError, Object};

use super::Document;
use crate::places::{self, AGENT_SOCKET, DATA_DIR};
use crate::protocol::environment::is_identifier;
use crate::protocol::{Code, Error};

/// Longest path of a socket, in bytes: `sun_path` of unix(7) less its end.
const SOCKET_PATH_MAX: usize = 107;

/// What every verb needs, and all that DEL, GC and STATUS may rely on: for a NAD that is a list of plugins,
/// multus' cache hands DEL a configuration stripped to `cniVersion`, `name`, `type` and `ipam.type` (multus-cni#755).
#[derive(Debug, Clone)]
pub(crate) struct Essentials {
    pub(crate) name: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) agent_socket: PathBuf,
    pub(crate) ipam: IpamKind,
    /// `ipam.datastore` is `file`, so the agent has no addresses of it. A stripped configuration does not tell.
    pub(crate) says_file: bool,
    /// What is wrong with the configuration, for verbs that must not fail: the fields above are the defaults then.
    pub(crate) refused: Option<Error>,
}

/// Who gives the addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IpamKind {
    /// `ipam` absent, null, `{}` or without a type: layer 2 only.
    None,
    /// One of [`SERVED_TYPES`]: served in this process.
    BuiltIn,
    /// Any other type: a program in `CNI_PATH`.
    Delegated(String),
}

impl Essentials {
    pub(crate) fn read(document: &Document) -> Result<Self, Error> {
        let essentials = Self::read_to_release(document)?;
        essentials.refused.clone().map_or(Ok(essentials), Err)
    }

    /// The same for a verb that must not fail. What is wrong is in [`Self::refused`], and the defaults take its place, for the
    /// name an empty one: the record knows better, and a directory that is refused is not looked into.
    pub(crate) fn read_to_release(document: &Document) -> Result<Self, Error> {
        let mut root = document.root()?;
        let mut refused = None;
        let name = network_name(&mut root).map(str::to_owned);
        let name = or_first_error(name, &mut refused).unwrap_or_default();
        let (ipam, mut block) =
            or_first_error(ipam(&mut root), &mut refused).unwrap_or((IpamKind::None, None));
        // Whether it is a text at all is for ADD to say.
        let says_file =
            block.as_mut().is_some_and(|block| matches!(block.string("datastore"), Ok(Some("file"))));
        let data_dir = place(&mut root, block.as_mut(), "dataDir", DATA_DIR).and_then(keeps_apart);
        let data_dir = or_first_error(data_dir, &mut refused).unwrap_or_else(|| DATA_DIR.into());
        let agent_socket =
            place(&mut root, block.as_mut(), "agentSocket", AGENT_SOCKET).and_then(fits_socket);
        let agent_socket = or_first_error(agent_socket, &mut refused).unwrap_or_else(|| AGENT_SOCKET.into());
        Ok(Self { name, data_dir, agent_socket, ipam, says_file, refused })
    }

    /// Says by what DEL goes instead of what is wrong in the configuration.
    pub(crate) fn warn_of_refusal(&self) {
        if let Some(refused) = &self.refused {
            let place = self.data_dir.display();
            tracing::warn!("{refused}; DEL goes by the records in {place} and by the name of the link");
        }
    }
}

/// The value, or `None` with the error kept if it is the first.
fn or_first_error<T>(outcome: Result<T, Error>, first: &mut Option<Error>) -> Option<T> {
    outcome.map_err(|error| first.get_or_insert(error)).ok()
}

/// Who gives the addresses, and the `ipam` block if it is ours to read: a delegated plugin's keys are its own, and host-local
/// has a `dataDir`, too.
fn ipam<'a>(root: &mut Object<'a>) -> Result<(IpamKind, Option<Object<'a>>), Error> {
    let Some(mut block) = root.object("ipam")? else { return Ok((IpamKind::None, None)) };
    let kind = IpamKind::of(block.string("type")?.unwrap_or_default())?;
    let ours = kind == IpamKind::BuiltIn;
    Ok((kind, ours.then_some(block)))
}

fn keeps_apart(path: PathBuf) -> Result<PathBuf, Error> {
    places::require_own("dataDir", &path)?;
    Ok(path)
}

fn fits_socket(path: PathBuf) -> Result<PathBuf, Error> {
    if path.as_os_str().len() > SOCKET_PATH_MAX {
        let remedy = format!("is too long for a socket; use at most {SOCKET_PATH_MAX} bytes");
        return Err(FieldError::text("agentSocket", &path.to_string_lossy(), remedy).into());
    }
    Ok(path)
}

fn network_name<'a>(root: &mut Object<'a>) -> Result<&'a str, Error> {
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

/// A path of ours, at the root or within our `ipam` block: the IPAM-only face is called with other plugins'
/// configurations, which have none of our keys. It must be a place that a network may name.
fn place(
    root: &mut Object<'_>,
    ipam: Option<&mut Object<'_>>,
    key: &str,
    default: &str,
) -> Result<PathBuf, Error> {
    let outer = absolute(root, key, default)?;
    let inner = ipam.map(|ipam| absolute(ipam, key, default)).transpose()?.flatten();
    if let (Some(outer), Some(inner)) = (&outer, &inner)
        && outer != inner
    {
        let remedy = format!("differs from {key} {}; write one of the two", outer.display());
        return Err(FieldError::text(format!("ipam.{key}"), &inner.to_string_lossy(), remedy).into());
    }
    let path = outer.or(inner).unwrap_or_else(|| default.into());
    places::require(key, &path)?;
    Ok(path)
}

/// Relative paths are refused: thick multus starts the plugin in a working directory outside its own root.
fn absolute(object: &mut Object<'_>, key: &str, example: &str) -> Result<Option<PathBuf>, Error> {
    match object.string(key)? {
        None | Some("") => Ok(None),
        Some(path) if path.starts_with('/') => Ok(Some(path.into())),
        Some(path) => {
            let remedy = format!("must be an absolute path such as {example}");
            Err(FieldError::text(object.path_of(key), path, remedy).into())
        }
    }
}

impl IpamKind {
    /// Who gives the addresses of an `ipam.type`. An IPAM plugin is the name of a program in `CNI_PATH`, and never a path: a network
    /// definition, or a record, would choose what root runs (CVE-2021-20206 of the reference library).
    ///
    /// # Errors
    /// The name has a '/', or means a directory.
    pub(crate) fn of(name: &str) -> Result<Self, FieldError> {
        match name {
            "" => Ok(Self::None),
            _ if SERVED_TYPES.contains(&name) => Ok(Self::BuiltIn),
            "." | ".." => Err(wrong_program(name)),
            _ if name.contains(['/', '\0']) => Err(wrong_program(name)),
            _ => Ok(Self::Delegated(name.to_owned())),
        }
    }
}

fn wrong_program(name: &str) -> FieldError {
    FieldError::text("ipam.type", name, "must be the name of a program in CNI_PATH, without any '/'")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document {
        Document::decode(text.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn a_stripped_configuration_is_enough_for_the_essentials() {
        let document = document(
            r#"{"cniVersion":"0.3.1","name":"octavia","type":"octavia-bridge","ipam":{"type":"whereabouts"}}"#,
        );
        let essentials = Essentials::read(&document).unwrap();
        assert_eq!(essentials.ipam, IpamKind::BuiltIn);
        assert_eq!(essentials.data_dir, PathBuf::from(DATA_DIR));
        assert_eq!(essentials.agent_socket, PathBuf::from(AGENT_SOCKET));
        assert!(!essentials.says_file);
    }

    #[test]
    fn no_ipam_has_four_spellings() {
        for ipam in ["", r#","ipam":{}"#, r#","ipam":null"#, r#","ipam":{"type":""}"#] {
            let document = document(&format!(r#"{{"name":"n"{ipam}}}"#));
            assert_eq!(Essentials::read(&document).unwrap().ipam, IpamKind::None, "{ipam}");
        }
    }

    #[test]
    fn our_paths_may_stand_in_the_ipam_block_but_must_not_differ() {
        let read = |text: &str| Essentials::read(&document(text));
        let (data_dir, agent_socket) = ("/var/lib/octavia-bridge/a", "/run/octavia-bridge/b");
        let ipam =
            format!(r#"{{"type":"octavia-ipam","dataDir":"{data_dir}","agentSocket":"{agent_socket}"}}"#);
        let essentials = read(&format!(r#"{{"name":"n","ipam":{ipam}}}"#)).unwrap();
        assert_eq!((essentials.data_dir, essentials.agent_socket), (data_dir.into(), agent_socket.into()));
        let delegated = r#"{"name":"n","ipam":{"type":"host-local","dataDir":"x","agentSocket":"y"}}"#;
        assert_eq!(read(delegated).unwrap().agent_socket, PathBuf::from(AGENT_SOCKET));
        let both = r#"{"name":"n","agentSocket":"/a","ipam":{"type":"octavia-ipam","agentSocket":"/b"}}"#;
        let message = read(both).unwrap_err().msg;
        assert!(message.starts_with("ipam.agentSocket: \"/b\" differs from agentSocket /a"), "{message}");
        for (path, words) in [
            ("run/a.sock".to_owned(), "absolute"),
            (format!("/run/octavia-bridge/{}", "a".repeat(107)), "107 bytes"),
        ] {
            let message = read(&format!(r#"{{"name":"n","agentSocket":"{path}"}}"#)).unwrap_err().msg;
            assert!(message.starts_with("agentSocket: ") && message.contains(words), "{message}");
        }
    }

    #[test]
    fn what_is_refused_is_replaced_for_those_who_must_not_fail() {
        for key in ["dataDir", "agentSocket"] {
            let document = document(&format!(r#"{{"name":"n","{key}":"/srv/x"}}"#));
            let message = Essentials::read(&document).unwrap_err().msg;
            assert!(message.starts_with(&format!("{key}: \"/srv/x\" is not below")), "{message}");
            let essentials = Essentials::read_to_release(&document).unwrap();
            assert_eq!(essentials.refused.unwrap().msg, message);
            assert_eq!(essentials.data_dir, PathBuf::from(DATA_DIR));
            assert_eq!(essentials.agent_socket, PathBuf::from(AGENT_SOCKET));
        }
    }

    #[test]
    fn only_a_clear_word_says_where_addresses_are() {
        for (ipam, expected) in [
            (r#"{"type":"whereabouts","datastore":"file"}"#, true),
            (r#"{"type":"whereabouts","datastore":7}"#, false),
            (r#"{"type":"whereabouts"}"#, false),
            (r#"{"type":"other","datastore":"file"}"#, false),
        ] {
            let text = format!(r#"{{"name":"n","ipam":{ipam}}}"#);
            assert_eq!(Essentials::read(&document(&text)).unwrap().says_file, expected, "{ipam}");
        }
    }
}
