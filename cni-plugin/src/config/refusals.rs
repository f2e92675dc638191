//! What the reference bridge plugin can do and this one cannot yet.

use octavia_bridge_ipam::document::Object;

use crate::protocol::{Code, Error};

/// The reference plugin's keys that this version does not serve. Each passes while it asks for nothing (absent,
/// null, false), and is refused with code 2 otherwise: a masquerade or an isolation that was silently
/// left out would be found out much later, by somebody else.
pub(super) fn refusals(root: &mut Object<'_>) -> Result<Option<Error>, Error> {
    const SWITCHES: [&str; 9] = [
        "isGateway",
        "isDefaultGateway",
        "forceAddress",
        "ipMasq",
        "hairpinMode",
        "promiscMode",
        "macspoofchk",
        "enabledad",
        "portIsolation",
    ];
    let mut first = None;
    for key in SWITCHES {
        if root.bool(key)?.unwrap_or(false) {
            first.get_or_insert_with(|| {
                let msg = format!("{key}: true is not supported yet; remove the key or set it to false");
                Error::new(Code::UnsupportedField, msg)
            });
        }
    }
    // Without ipMasq a backend does not matter.
    root.string("ipMasqBackend")?;
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::super::{Document, NetConf};
    use super::*;

    fn document(text: &str) -> Document {
        Document::decode(text.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn keys_of_later_versions_are_refused_only_where_they_ask_for_something() {
        let quiet = document(r#"{"name":"n","isGateway":false,"ipMasq":null,"ipMasqBackend":"nftables"}"#);
        assert!(NetConf::read(&quiet).unwrap().refusals.is_none());
        for key in ["isGateway", "hairpinMode"] {
            let asking = document(&format!(r#"{{"name":"n","{key}":true}}"#));
            let refusal = NetConf::read(&asking).unwrap().refusals.unwrap();
            assert_eq!(refusal.code, Code::UnsupportedField);
            assert!(refusal.msg.starts_with(key), "{}", refusal.msg);
        }
    }
}
