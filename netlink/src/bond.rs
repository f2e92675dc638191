//! Bonds. One table says of each option its name, its attribute, its form and when the kernel takes it.
//!
//! Values are texts, as nmstate writes them, so that comparing, showing and writing down need to know no option by itself.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use rtnetlink::packet_core::{
    DecodeError, DefaultNla, NlasIterator, parse_ip, parse_u8, parse_u16, parse_u32,
};
use rtnetlink::packet_route::link::InfoBond;

use crate::MacAddress;

/// Options of a bond by name, each as text. `primary` has the index of a link, or nothing for none; `arp_ip_target` has
/// IPv4 addresses with commas between them.
pub type BondOptions = BTreeMap<String, String>;

/// An option of a bond.
#[derive(Debug, PartialEq, Eq)]
pub struct BondOption {
    /// nmstate's name for it, which is nearly always the kernel's.
    pub name: &'static str,
    /// What the kernel gives to a new bond.
    pub default: &'static str,
    /// A bond must have no ports while it changes.
    pub without_ports: bool,
    /// A bond must be down while it changes.
    pub while_down: bool,
    /// `IFLA_BOND_…`.
    attribute: u16,
    form: Form,
    /// Modes that have it; all if empty.
    modes: &'static [&'static str],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// One of these, by its place. Bytes it takes.
    Word(&'static [&'static str], usize),
    /// Bytes it takes, the least and the most.
    Number(usize, u32, u32),
    Switch,
    Targets,
    Link,
    Mac,
}

/// Largest value of the kernel's signed options.
const MOST: u32 = i32::MAX as u32;
const TIME: Form = Form::Number(4, 0, MOST);
const MODES: &[&str] =
    &["balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"];
/// Those in which the kernel can watch links by ARP.
const WITH_ARP: &[&str] = &["balance-rr", "active-backup", "balance-xor", "broadcast"];
const WITH_PRIMARY: &[&str] = &["active-backup", "balance-tlb", "balance-alb"];
const LACP: &[&str] = &["802.3ad"];
const VALIDATE: &[&str] = &["none", "active", "backup", "all", "filter", "filter_active", "filter_backup"];
const HASH: &[&str] = &["layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4", "vlan+srcmac"];

const fn option(name: &'static str, attribute: u16, form: Form, default: &'static str) -> BondOption {
    BondOption { name, default, without_ports: false, while_down: false, attribute, form, modes: &[] }
}

/// In the order in which they can be set: the mode resets some, and the times are multiples of `miimon`.
static OPTIONS: [BondOption; 26] = [
    BondOption {
        without_ports: true,
        while_down: true,
        ..option("mode", 1, Form::Word(MODES, 1), "balance-rr")
    },
    option("miimon", 3, TIME, "0"),
    option("updelay", 4, TIME, "0"),
    option("downdelay", 5, TIME, "0"),
    option("use_carrier", 6, Form::Switch, "true"),
    BondOption { modes: WITH_ARP, ..option("arp_interval", 7, TIME, "0") },
    option("arp_ip_target", 8, Form::Targets, ""),
    BondOption { modes: WITH_ARP, ..option("arp_validate", 9, Form::Word(VALIDATE, 4), "none") },
    option("arp_all_targets", 10, Form::Word(&["any", "all"], 4), "any"),
    option("arp_missed_max", 30, Form::Number(1, 1, 255), "2"),
    BondOption { modes: WITH_PRIMARY, ..option("primary", 11, Form::Link, "") },
    option("primary_reselect", 12, Form::Word(&["always", "better", "failure"], 1), "always"),
    BondOption {
        without_ports: true,
        ..option("fail_over_mac", 13, Form::Word(&["none", "active", "follow"], 1), "none")
    },
    option("xmit_hash_policy", 14, Form::Word(HASH, 1), "layer2"),
    option("resend_igmp", 15, Form::Number(4, 0, 255), "1"),
    option("num_grat_arp", 16, Form::Number(1, 0, 255), "1"),
    option("all_slaves_active", 17, Form::Word(&["dropped", "delivered"], 1), "dropped"),
    option("min_links", 18, TIME, "0"),
    option("lp_interval", 19, Form::Number(4, 1, MOST), "1"),
    BondOption { modes: &["balance-rr"], ..option("packets_per_slave", 20, Form::Number(4, 0, 65535), "1") },
    BondOption {
        modes: LACP,
        while_down: true,
        ..option("lacp_rate", 21, Form::Word(&["slow", "fast"], 1), "slow")
    },
    BondOption {
        while_down: true,
        ..option("ad_select", 22, Form::Word(&["stable", "bandwidth", "count"], 1), "stable")
    },
    BondOption {
        modes: LACP,
        while_down: true,
        ..option("ad_actor_sys_prio", 24, Form::Number(2, 1, 65535), "65535")
    },
    BondOption {
        modes: LACP,
        while_down: true,
        ..option("ad_user_port_key", 25, Form::Number(2, 0, 1023), "0")
    },
    BondOption {
        modes: LACP,
        while_down: true,
        ..option("ad_actor_system", 26, Form::Mac, "00:00:00:00:00:00")
    },
    BondOption {
        modes: &["balance-tlb"],
        while_down: true,
        ..option("tlb_dynamic_lb", 27, Form::Switch, "true")
    },
];

impl BondOption {
    /// All of them, in an order in which they can be set.
    #[must_use]
    pub fn all() -> &'static [Self] {
        &OPTIONS
    }

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        OPTIONS.iter().find(|option| option.name == name)
    }

    /// Whether a bond of this mode has it.
    #[must_use]
    pub fn is_of(&self, mode: &str) -> bool {
        self.modes.is_empty() || self.modes.contains(&mode)
    }

    /// The value as the kernel's is read; words may be written as numbers.
    ///
    /// # Errors
    /// What is allowed.
    pub fn parse(&self, text: &str) -> Result<String, String> {
        let number = text.parse::<u32>().ok();
        let wrong = |allowed: &str| Err(format!("{text:?} is not allowed; write {allowed}"));
        match self.form {
            Form::Word(words, _) => {
                let place = number.and_then(|place| usize::try_from(place).ok());
                let word = words.iter().find(|word| **word == text);
                match word.or_else(|| words.get(place?)) {
                    Some(word) => Ok((*word).to_owned()),
                    None => wrong(&words.join(", ")),
                }
            }
            Form::Number(_, least, most) => match number.filter(|number| (least..=most).contains(number)) {
                Some(number) => Ok(number.to_string()),
                None => wrong(&format!("a number from {least} to {most}")),
            },
            Form::Switch => match text {
                "true" | "1" | "on" | "yes" => Ok("true".into()),
                "false" | "0" | "off" | "no" => Ok("false".into()),
                _ => wrong("true or false"),
            },
            Form::Targets => match targets(text) {
                Some(list) if list.len() <= MOST_TARGETS => Ok(joined(&list)),
                _ => wrong("at most 16 IPv4 addresses with commas between them"),
            },
            // A name, by which nothing is known here.
            Form::Link => Ok(text.to_owned()),
            Form::Mac => match text.parse::<MacAddress>() {
                Ok(mac) => Ok(mac.to_string()),
                Err(_) => wrong("a MAC address"),
            },
        }
    }

    /// As an attribute; `None` if the value is not one that [`Self::parse`] gives, or an index for `primary`.
    pub(crate) fn attribute(&self, value: &str) -> Option<InfoBond> {
        let number = value.parse::<u32>().ok();
        let (size, number) = match self.form {
            Form::Word(words, size) => {
                (size, u32::try_from(words.iter().position(|word| *word == value)?).ok()?)
            }
            Form::Number(size, ..) => (size, number?),
            Form::Switch => (1, u32::from(value == "true")),
            // No link has the index 0.
            Form::Link => (4, if value.is_empty() { 0 } else { number? }),
            Form::Targets => return Some(InfoBond::ArpIpTarget(targets(value)?)),
            Form::Mac => {
                let octets = value.parse::<MacAddress>().ok()?.octets().to_vec();
                return Some(InfoBond::Other(DefaultNla::new(self.attribute, octets)));
            }
        };
        let all = number.to_ne_bytes();
        let bytes = match size {
            1 => u8::try_from(number).ok()?.to_ne_bytes().to_vec(),
            2 => u16::try_from(number).ok()?.to_ne_bytes().to_vec(),
            _ => all.to_vec(),
        };
        Some(InfoBond::Other(DefaultNla::new(self.attribute, bytes)))
    }

    fn decode(&self, value: &[u8]) -> Result<String, DecodeError> {
        let number = |size: usize| match size {
            1 => parse_u8(value).map(u32::from),
            2 => parse_u16(value).map(u32::from),
            _ => parse_u32(value),
        };
        Ok(match self.form {
            Form::Word(words, size) => {
                let place = number(size)?;
                let word = usize::try_from(place).ok().and_then(|place| words.get(place));
                // Of a newer kernel.
                word.map_or_else(|| place.to_string(), |word| (*word).to_owned())
            }
            Form::Number(size, ..) => number(size)?.to_string(),
            Form::Switch => (number(1)? != 0).to_string(),
            Form::Link => parse_u32(value)?.to_string(),
            Form::Mac => <[u8; 6]>::try_from(value)
                .map(|octets| MacAddress(octets).to_string())
                .map_err(|_| DecodeError::from("a MAC address has six octets"))?,
            Form::Targets => {
                let mut list = Vec::new();
                for nla in NlasIterator::new(value) {
                    if let std::net::IpAddr::V4(ip) = parse_ip(nla?.value())? {
                        list.push(ip);
                    }
                }
                joined(&list)
            }
        })
    }
}

/// Most targets of ARP (`BOND_MAX_ARP_TARGETS`).
const MOST_TARGETS: usize = 16;

fn targets(text: &str) -> Option<Vec<Ipv4Addr>> {
    let mut list = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        list.push(part.parse().ok()?);
    }
    Some(list)
}

fn joined(list: &[Ipv4Addr]) -> String {
    list.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// What the kernel reports of a bond. It leaves out what is none, and so does this with values of an unexpected form: one must not
/// make all links of the node unreadable.
pub(crate) fn decode(data: &[u8]) -> Result<BondOptions, DecodeError> {
    let mut options = BondOptions::new();
    for name in ["primary", "arp_ip_target"] {
        options.insert(name.to_owned(), String::new());
    }
    for nla in NlasIterator::new(data) {
        let nla = nla?;
        if let Some(option) = OPTIONS.iter().find(|option| option.attribute == nla.kind()) {
            match option.decode(nla.value()) {
                Ok(value) => drop(options.insert(option.name.to_owned(), value)),
                Err(_) => drop(options.remove(option.name)),
            }
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtnetlink::packet_core::Emitable;

    #[test]
    fn every_default_is_a_value_that_is_written_and_read_alike() {
        for option in BondOption::all() {
            assert_eq!(option.parse(option.default).as_deref(), Ok(option.default), "{}", option.name);
            let attribute = option.attribute(option.default).unwrap();
            let mut bytes = vec![0; attribute.buffer_len()];
            attribute.emit(&mut bytes);
            let read = decode(&bytes).unwrap();
            let wanted = if option.name == "primary" { "0" } else { option.default };
            assert_eq!(read[option.name], wanted, "{}", option.name);
        }
    }

    #[test]
    fn a_value_of_another_length_hides_no_other_one() {
        let attributes =
            [DefaultNla::new(1, vec![4]), DefaultNla::new(3, vec![1]), DefaultNla::new(18, vec![2, 0, 0, 0])];
        let mut bytes = vec![0; attributes.as_slice().buffer_len()];
        attributes.as_slice().emit(&mut bytes);
        let read = decode(&bytes).unwrap();
        assert_eq!((read["mode"].as_str(), read.get("miimon")), ("802.3ad", None));
        assert_eq!(read["min_links"], u32::from_ne_bytes([2, 0, 0, 0]).to_string());
    }

    #[test]
    fn a_word_may_be_a_number_and_nothing_else_is_taken() {
        let mode = BondOption::named("mode").unwrap();
        assert_eq!(mode.parse("4").as_deref(), Ok("802.3ad"));
        assert!(mode.parse("7").unwrap_err().contains("active-backup"));
        let targets = BondOption::named("arp_ip_target").unwrap();
        assert_eq!(targets.parse("10.0.0.1, 10.0.0.2").as_deref(), Ok("10.0.0.1,10.0.0.2"));
        assert!(targets.parse("fe80::1").is_err());
    }
}
