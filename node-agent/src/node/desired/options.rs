//! Options of VLANs, bridges and ports that the kernel has as one number each: nmstate's keys, bounds and units.

use octavia_bridge_netlink::{LinkOption, LinkOptions};
use serde_json::{Map, Value, json};

use super::field::Fields;

/// How nmstate writes the value.
#[derive(Clone, Copy)]
enum Form {
    Flag,
    /// Least and most, and how many of the kernel's units one is.
    Number(u64, u64, u64),
    /// A word for each of the kernel's numbers.
    Words(&'static [(&'static str, u64)]),
}

/// One key.
struct Row {
    key: &'static str,
    option: LinkOption,
    form: Form,
    /// What a new link has, in the kernel's units; `None` where that depends on the hardware.
    default: Option<u64>,
}

const fn row(key: &'static str, option: LinkOption, form: Form, default: u64) -> Row {
    Row { key, option, form, default: Some(default) }
}

const SECOND: u64 = 100;
const COUNT: Form = Form::Number(0, u32::MAX as u64, 1);
/// Hundredths of a second. More than a day is a mistake, and the kernel's clock would turn over at some point.
const INTERVAL: Form = Form::Number(0, 24 * 3600 * SECOND, 1);
/// The kernel raises these to a second without a word (`br_multicast_set_query_intvl` in `net/bridge/br_multicast.c`).
const LONG_INTERVAL: Form = Form::Number(SECOND, 24 * 3600 * SECOND, 1);

const VLAN: &[Row] = &[
    row("reorder-headers", LinkOption::ReorderHeaders, Form::Flag, 1),
    row("loose-binding", LinkOption::LooseBinding, Form::Flag, 0),
];

const STP: &[Row] = &[
    row("forward-delay", LinkOption::ForwardDelay, Form::Number(2, 30, SECOND), 15 * SECOND),
    row("hello-time", LinkOption::HelloTime, Form::Number(1, 10, SECOND), 2 * SECOND),
    row("max-age", LinkOption::MaxAge, Form::Number(6, 40, SECOND), 20 * SECOND),
    row("priority", LinkOption::Priority, Form::Number(0, u16::MAX as u64, 1), 32_768),
];

const BRIDGE: &[Row] = &[
    row("group-forward-mask", LinkOption::GroupForwardMask, Form::Number(0, u16::MAX as u64, 1), 0),
    row("hash-max", LinkOption::HashMax, Form::Number(1, u32::MAX as u64, 1), 4096),
    row("mac-ageing-time", LinkOption::MacAgeingTime, Form::Number(0, 1_000_000, SECOND), 300 * SECOND),
    row("multicast-last-member-count", LinkOption::MulticastLastMemberCount, COUNT, 2),
    row("multicast-last-member-interval", LinkOption::MulticastLastMemberInterval, INTERVAL, 100),
    row("multicast-membership-interval", LinkOption::MulticastMembershipInterval, INTERVAL, 26_000),
    row("multicast-querier", LinkOption::MulticastQuerier, Form::Flag, 0),
    row("multicast-querier-interval", LinkOption::MulticastQuerierInterval, INTERVAL, 25_500),
    row("multicast-query-interval", LinkOption::MulticastQueryInterval, LONG_INTERVAL, 12_500),
    row("multicast-query-response-interval", LinkOption::MulticastQueryResponseInterval, INTERVAL, 1000),
    row("multicast-query-use-ifaddr", LinkOption::MulticastQueryUseIfaddr, Form::Flag, 0),
    row(
        "multicast-router",
        LinkOption::MulticastRouter,
        Form::Words(&[("disabled", 0), ("auto", 1), ("enabled", 2)]),
        1,
    ),
    row("multicast-snooping", LinkOption::MulticastSnooping, Form::Flag, 1),
    row("multicast-startup-query-count", LinkOption::MulticastStartupQueryCount, COUNT, 2),
    row("multicast-startup-query-interval", LinkOption::MulticastStartupQueryInterval, LONG_INTERVAL, 3125),
];

const PORT: &[Row] = &[
    row("stp-hairpin-mode", LinkOption::PortHairpin, Form::Flag, 0),
    Row {
        key: "stp-path-cost",
        option: LinkOption::PortPathCost,
        form: Form::Number(1, 65_535, 1),
        default: None,
    },
    row("stp-priority", LinkOption::PortPriority, Form::Number(0, 63, 1), 32),
];

/// Which keys to read or write.
#[derive(Clone, Copy)]
pub(crate) struct Section(&'static [Row]);

pub(crate) const OF_VLAN: Section = Section(VLAN);
pub(crate) const OF_STP: Section = Section(STP);
pub(crate) const OF_BRIDGE: Section = Section(BRIDGE);
pub(crate) const OF_PORT: Section = Section(PORT);

impl Section {
    /// Takes the section's keys out of `fields`.
    pub(crate) fn read(self, fields: &mut Fields<'_>) -> LinkOptions {
        let mut options = LinkOptions::new();
        for row in self.0 {
            if let Some(value) = row.read(fields) {
                options.insert(row.option, value);
            }
        }
        options
    }

    /// Adds to `map` what a link has and a new one would not have, as far as a policy can state it.
    pub(crate) fn show(self, options: &LinkOptions, map: &mut Map<String, Value>) {
        for row in self.0 {
            let Some(value) = options.get(&row.option) else { continue };
            if row.default.is_some_and(|default| !row.option.is_same(*value, default))
                && let Some(value) = row.written(*value)
            {
                map.insert(row.key.to_owned(), value);
            }
        }
    }
}

impl Row {
    fn read(&self, fields: &mut Fields<'_>) -> Option<u64> {
        match self.form {
            Form::Flag => fields.boolean(self.key).map(u64::from),
            Form::Number(least, most, unit) => {
                let bound = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
                fields.number_as::<u64>(self.key, bound(least), bound(most)).map(|number| number * unit)
            }
            Form::Words(words) => {
                let text = fields.text(self.key)?.to_ascii_lowercase();
                let is_it = |(word, number): &&(&str, u64)| *word == text || number.to_string() == text;
                let found = words.iter().find(is_it).map(|(_, number)| *number);
                if found.is_none() {
                    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                    fields.invalid(self.key, format!("{text:?} is none of {}", known.join(", ")));
                }
                found
            }
        }
    }

    fn written(&self, value: u64) -> Option<Value> {
        match self.form {
            Form::Flag => Some(json!(value != 0)),
            Form::Number(least, most, unit) => {
                let number = value / unit;
                ((least..=most).contains(&number) && number * unit == value).then(|| json!(number))
            }
            Form::Words(words) => {
                words.iter().find(|(_, number)| *number == value).map(|(word, _)| json!(word))
            }
        }
    }
}

/// The option in nmstate's words, with its value: `mac-ageing-time 10`.
pub(crate) fn in_words(option: LinkOption, value: u64) -> (&'static str, String) {
    let flag = if value == 0 { "off" } else { "on" };
    let mut rows = VLAN.iter().chain(STP).chain(BRIDGE).chain(PORT);
    if let Some(row) = rows.find(|row| row.option == option) {
        let text = match (row.form, row.written(value)) {
            (Form::Flag, _) => flag.to_owned(),
            (Form::Number(_, _, SECOND), Some(number)) => format!("{number} s"),
            (_, Some(Value::String(word))) => word,
            (_, Some(number)) => number.to_string(),
            (Form::Number(_, _, SECOND), None) => format!("{value}/100 s"),
            (_, None) => value.to_string(),
        };
        return (row.key, text);
    }
    if option == LinkOption::VlanFiltering {
        return ("VLAN filtering", flag.to_owned());
    }
    // The two that one key sets.
    (if option == LinkOption::Gvrp { "GVRP" } else { "MVRP" }, flag.to_owned())
}

/// Protocols by which a VLAN tells switches of itself, by nmstate's word for each.
const REGISTRATION: [(&str, u64, u64); 3] = [("none", 0, 0), ("gvrp", 1, 0), ("mvrp", 0, 1)];

pub(crate) fn read_registration(vlan: &mut Fields<'_>, options: &mut LinkOptions) {
    const KEY: &str = "registration-protocol";
    let Some(text) = vlan.text(KEY) else { return };
    let Some((_, gvrp, mvrp)) = REGISTRATION.iter().find(|(word, ..)| *word == text) else {
        return vlan.invalid(KEY, format!("{text:?} is none of none, gvrp, mvrp"));
    };
    options.extend([(LinkOption::Gvrp, *gvrp), (LinkOption::Mvrp, *mvrp)]);
}

pub(crate) fn show_registration(options: &LinkOptions, map: &mut Map<String, Value>) {
    let has = |option| options.get(&option).copied().unwrap_or_default();
    let now = (has(LinkOption::Gvrp), has(LinkOption::Mvrp));
    for (word, gvrp, mvrp) in &REGISTRATION[1..] {
        if now == (*gvrp, *mvrp) {
            map.insert("registration-protocol".to_owned(), json!(word));
        }
    }
}
