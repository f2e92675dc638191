//! The `ipam` blocks of a whole network configuration.

use crate::document::{self, FieldError, Object};

use super::Ipam;

/// Values of `ipam.type` that this program serves: whereabouts' and its own.
pub const SERVED_TYPES: [&str; 2] = ["whereabouts", "octavia-ipam"];

/// Every `ipam` block of a configuration, or of a list's plugins, that this program serves. Leaves out blocks that cannot be read.
pub fn served_by(config: &str) -> Vec<Ipam> {
    let Ok(config) = document::read(config.as_bytes()) else { return Vec::new() };
    let mut served = Vec::new();
    let Ok(mut root) = Object::root(&config) else { return served };
    served.extend(served_block(&mut root).ok().flatten());
    for plugin in root.list("plugins").unwrap_or_default() {
        if let Ok(mut plugin) = plugin.object() {
            served.extend(served_block(&mut plugin).ok().flatten());
        }
    }
    served
}

/// The block of one plugin; `None` if another program serves it.
///
/// # Errors
/// It cannot be served as it is.
pub fn served_block(plugin: &mut Object<'_>) -> Result<Option<Ipam>, FieldError> {
    let Some(mut ipam) = plugin.object("ipam")? else { return Ok(None) };
    let kind = ipam.string("type")?.unwrap_or_default();
    if !SERVED_TYPES.contains(&kind) {
        return Ok(None);
    }
    match Ipam::parse(ipam, false) {
        Ok(parsed) => Ok(Some(parsed)),
        Err(super::ConfError::Field(error) | super::ConfError::Unsupported(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_a_configuration_and_of_a_list_are_found() {
        let ipam = r#""ipam": {"type": "whereabouts", "range": "10.0.0.0/24", "range_end": "10.0.0.9"}"#;
        let last = |text: &str| {
            served_by(text).iter().map(|ipam| ipam.ranges[0].last().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(last(&format!("{{{ipam}}}")), ["10.0.0.9"]);
        assert_eq!(last(&format!(r#"{{"plugins": [{{{ipam}}}, {{"type": "tuning"}}]}}"#)), ["10.0.0.9"]);
        let other = ipam.replace("whereabouts", "host-local");
        for text in [&format!("{{{other}}}"), &format!("{{{}}}", ipam.replace("/24", "/99")), "{", "[]"] {
            assert_eq!(last(text), [""; 0], "{text}");
        }
    }
}
