//! Values the kernel limits, checked before they are sent.

use nix::libc;
use rtnetlink::packet_core::DefaultNla;
use rtnetlink::packet_route::link::LinkAttribute;

use crate::{Error, Result};

/// Longest link name in bytes: `IFNAMSIZ` less the terminating NUL.
pub const MAX_NAME: usize = 15;
/// Longest alias in bytes: `IFALIASZ` less the terminating NUL.
const MAX_ALIAS: usize = 255;

/// Checks a link name by the kernel's rule (`dev_valid_name` in net/core/dev.c): 1 to 15 bytes, no
/// `/`, `:` or white space, neither `.` nor `..`. Also refuses names with another meaning for the kernel: a name with a
/// `%` is a pattern (`__dev_alloc_name`); `all` and `default` are directories beside those of links in /proc/sys/net. And
/// control characters, which the kernel takes: they change what a terminal shows.
///
/// The kernel's own answers to a bad name ("Attribute failed policy validation") name neither the
/// value nor the rule.
///
/// # Errors
/// [`Error::Invalid`] with the name and the rule it breaks.
pub fn validate_link_name(name: &str) -> Result<()> {
    let reason = if name.is_empty() {
        "it is empty".to_owned()
    } else if name.len() > MAX_NAME {
        format!("it has {} bytes, at most {MAX_NAME} are allowed", name.len())
    } else if name == "." || name == ".." {
        "it would be a directory's own name under /proc/sys and /sys/class/net".to_owned()
    } else if matches!(name, "all" | "default") {
        "under /proc/sys it means every link, not one".to_owned()
    } else if name.contains('%') {
        "it contains '%', which the kernel replaces by a number".to_owned()
    } else if let Some(bad) =
        name.chars().find(|c| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control())
    {
        format!("it contains {bad:?}")
    } else {
        return Ok(());
    };
    Err(Error::Invalid { attempt: format!("use link name {name:?}"), reason })
}

/// The attribute that sets an alias, or removes it if the text is empty.
///
/// Without the usual terminating NUL, which the kernel would count: with it the longest alias would
/// be refused as too long. A single NUL stands for "none" because the attribute must not be empty.
pub(crate) fn alias_attribute(alias: &str) -> Result<LinkAttribute> {
    if alias.len() > MAX_ALIAS {
        let reason = format!("the alias has {} bytes, at most {MAX_ALIAS} are allowed", alias.len());
        return Err(Error::Invalid { attempt: "set the alias of a link".into(), reason });
    }
    let bytes = if alias.is_empty() { vec![0] } else { alias.as_bytes().to_vec() };
    Ok(LinkAttribute::Other(DefaultNla::new(libc::IFLA_IFALIAS, bytes)))
}

/// Refuses index 0, which the kernel reads as "no link stated": a filter would match every link.
pub(crate) fn validate_index(index: u32, attempt: impl FnOnce() -> String) -> Result<()> {
    if index != 0 {
        return Ok(());
    }
    Err(Error::Invalid { attempt: attempt(), reason: "0 is not a link index".into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_names_in_use() {
        for name in ["lo", "octbr", "enp6s0.24", "veth1234567890a", "...", "é"] {
            validate_link_name(name).unwrap();
        }
    }

    #[test]
    fn refuses_what_the_kernel_refuses_and_names_it() {
        for name in ["", ".", "..", "a/b", "a:b", "a b", "a\tb", "a\n", "a\u{b}", "a\0", "exactly16bytes!!"] {
            let error = validate_link_name(name).unwrap_err().to_string();
            assert!(error.contains(&format!("{name:?}")), "{error}");
        }
        assert!(validate_link_name("exactly16bytes!!").unwrap_err().to_string().contains("16 bytes"));
    }

    #[test]
    fn an_alias_has_at_most_255_bytes() {
        alias_attribute(&"x".repeat(255)).unwrap();
        assert!(alias_attribute(&"x".repeat(256)).unwrap_err().to_string().contains("256 bytes"));
    }
}
