//! 48-bit hardware addresses.

use std::fmt;
use std::str::FromStr;

/// An Ethernet hardware address, in transmission order.
///
/// Written in lower case with colons; read with colons or hyphens in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// The group bit is set (this includes broadcast): no interface may have such an address.
    #[must_use]
    pub fn is_multicast(&self) -> bool {
        self.0[0] & 1 == 1
    }

    /// All octets are zero: no interface may have it. An empty bridge without an explicit address reports it.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 6]
    }

    /// The six octets, in transmission order.
    #[must_use]
    pub fn octets(&self) -> [u8; 6] {
        self.0
    }
}

impl From<[u8; 6]> for MacAddress {
    fn from(octets: [u8; 6]) -> Self {
        Self(octets)
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// The text is not a 48-bit hardware address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a MAC address of six octets such as 02:00:ac:17:00:05")]
pub struct ParseMacError(String);

impl FromStr for MacAddress {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let malformed = || ParseMacError(text.to_owned());
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut octets = [0; 6];
        let mut parts = text.split(separator);
        for octet in &mut octets {
            let part = parts.next().ok_or_else(malformed)?;
            // from_str_radix alone would accept "+5" and "5".
            if part.len() != 2 || !part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(malformed());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| malformed())?;
        }
        // Eight octets are an InfiniBand or EUI-64 address, not a 48-bit address with a tail.
        if parts.next().is_some() { Err(malformed()) } else { Ok(Self(octets)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_separators_and_any_case_and_writes_one_form() {
        for text in ["0A:58:ac:17:00:05", "0a-58-AC-17-00-05"] {
            assert_eq!(text.parse::<MacAddress>().unwrap().to_string(), "0a:58:ac:17:00:05");
        }
    }

    #[test]
    fn refuses_what_is_not_six_octets() {
        for text in [
            "",
            "0a:58:ac:17:00",
            "0a:58:ac:17:00:05:06:07",
            "0a:58:ac:17:00:5",
            "0a:58:ac:17:00:+5",
            "0a:58:ac:17:00:0g",
            "0a:58-ac:17:00:05",
            "0a58ac170005",
            "0a:58:ac:17:00:05 ",
        ] {
            assert!(text.parse::<MacAddress>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn knows_addresses_no_interface_may_bear() {
        assert!(MacAddress([0; 6]).is_zero());
        assert!(MacAddress([0xff; 6]).is_multicast());
        assert!(MacAddress([0x33, 0x33, 0, 0, 0, 1]).is_multicast());
        assert!(!MacAddress([2, 0, 0, 0, 0, 0]).is_multicast());
        assert!(!MacAddress([2, 0, 0, 0, 0, 0]).is_zero());
    }
}
