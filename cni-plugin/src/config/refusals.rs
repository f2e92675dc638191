//! What the reference bridge plugin can do and this one cannot yet.

use octavia_bridge_ipam::document::Object;

use crate::protocol::{Code, Error};

/// The reference plugin's keys that this version does not serve. Each passes while it asks for nothing (absent,
/// null, false, 0, empty), and is refused with code 2 otherwise: a masquerade or an isolation that was silently
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
    let mut refuse = |key: &str, value: String, remedy: &str| {
        first.get_or_insert_with(|| {
            Error::new(Code::UnsupportedField, format!("{key}: {value} is not supported yet; {remedy}"))
        });
    };
    for key in SWITCHES {
        if root.bool(key)?.unwrap_or(false) {
            refuse(key, "true".into(), "remove the key or set it to false");
        }
    }
    match root.int("vlan")? {
        None | Some(0) => {}
        Some(id) => {
            refuse("vlan", id.to_string(), "remove the key and put a VLAN interface into the bridge instead");
        }
    }
    let trunk = root.list("vlanTrunk")?;
    if !trunk.is_empty() {
        refuse("vlanTrunk", format!("[{} entries]", trunk.len()), "remove the key");
    }
    // Without ipMasq a backend does not matter, nor what would become of the default VLAN without another.
    root.string("ipMasqBackend")?;
    root.bool("preserveDefaultVlan")?;
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
        let quiet = document(
            r#"{"name":"n","isGateway":false,"vlan":0,"vlanTrunk":[],"ipMasq":null,"ipMasqBackend":"nftables"}"#,
        );
        assert!(NetConf::read(&quiet).unwrap().refusals.is_none());
        for (key, value) in
            [("isGateway", "true"), ("hairpinMode", "true"), ("vlan", "24"), ("vlanTrunk", "[{\"id\":1}]")]
        {
            let asking = document(&format!(r#"{{"name":"n","{key}":{value}}}"#));
            let refusal = NetConf::read(&asking).unwrap().refusals.unwrap();
            assert_eq!(refusal.code, Code::UnsupportedField);
            assert!(refusal.msg.starts_with(key), "{}", refusal.msg);
        }
    }
}
