//! The mark on links this program made: the beginning of the link's alias (`IFLA_IFALIAS`).
//!
//! It lives in the kernel with the link, so it cannot disagree with it as a file could, and everyone
//! who looks at `ip link` sees whose the link is. The rest of the alias is the policy's `description`.

const MARK: &str = "octavia-bridge";
const SEPARATOR: &str = ": ";

/// Longest description in bytes: what an alias holds (255) less the mark.
pub(crate) const MAX_DESCRIPTION: usize = 255 - MARK.len() - SEPARATOR.len();

/// Number in a route's protocol field (`RTA_PROTOCOL`) that says the route is ours. Not among those that
/// linux/rtnetlink.h or `rt_protos` of iproute2 give to others.
pub(crate) const ROUTE_PROTOCOL: u8 = 79;

/// The same of a route to a gateway that is there for the moment only, so that it is not taken for a policy's.
pub(crate) const WAY_PROTOCOL: u8 = 78;

/// The alias for a link of ours.
pub(crate) fn alias(description: Option<&str>) -> String {
    match description {
        Some(text) => format!("{MARK}{SEPARATOR}{text}"),
        None => MARK.to_owned(),
    }
}

/// Whether a link with this alias is ours.
pub(crate) fn is_ours(alias: Option<&str>) -> bool {
    alias
        .and_then(|alias| alias.strip_prefix(MARK))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(SEPARATOR))
}

/// The description in the alias of a link of ours.
pub(crate) fn description(alias: Option<&str>) -> Option<&str> {
    alias?.strip_prefix(MARK)?.strip_prefix(SEPARATOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_gives_back_what_was_put_in() {
        for text in [None, Some("Octavia vlan host interface"), Some("octavia-bridge: twice")] {
            let alias = alias(text);
            assert!(is_ours(Some(&alias)));
            assert_eq!(description(Some(&alias)), text);
        }
    }

    #[test]
    fn other_peoples_aliases_are_not_ours() {
        for alias in [None, Some(""), Some("octavia-bridge2"), Some("uplink"), Some("octavia")] {
            assert!(!is_ours(alias), "{alias:?}");
        }
    }
}
