//! One rule: tests in order, and what becomes of a packet that passes them all.

use std::collections::BTreeMap;

use rtnetlink::packet_core::parse_string;

use super::{Decoded, HEADER, attribute, attributes, number};

/// Attributes of a rule.
pub(super) const TABLE: u16 = 1;
const CHAIN: u16 = 2;
const EXPRESSIONS: u16 = 4;
/// Keys of the expression `meta` (`NFT_META_*`).
const META_IIF: u32 = 4;
const META_OIF: u32 = 5;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_NFPROTO: u32 = 15;
const META_BRI_IIFNAME: u32 = 17;
const META_BRI_OIFNAME: u32 = 18;
/// Key of the expression `ct` for the state of a connection (`NFT_CT_STATE`), which is one bit.
const CT_STATE: u32 = 0;

/// A packet that opens a connection.
pub const STATE_NEW: u32 = 8;
/// A packet of a connection of which both sides were heard.
pub const STATE_ESTABLISHED: u32 = 2;

/// A rule, as far as it decides about packets: counters and logging are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterRule {
    /// In order. A verdict ends the rule.
    pub parts: Vec<RulePart>,
}

/// A step of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RulePart {
    /// Packets that fail it leave the rule.
    Test(RuleTest),
    /// What becomes of the packet.
    Verdict(Verdict),
}

/// What a test looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleTest {
    /// The name of the link that the packet came from or goes to.
    Link {
        /// To which it goes.
        outgoing: bool,
        /// Of the bridge to which that link belongs.
        bridge: bool,
        /// As in the rule, without a closing NUL.
        name: Vec<u8>,
        /// Names that only begin so do not pass.
        whole: bool,
        /// Other names pass.
        not: bool,
    },
    /// The index of the link that the packet came from or goes to.
    Index {
        /// To which it goes.
        outgoing: bool,
        /// As in the rule.
        index: u32,
        /// Other indexes pass.
        not: bool,
    },
    /// Whether the packet is of IPv6, or of IPv4.
    Ipv6(bool),
    /// The state of the packet's connection.
    State {
        /// Bits of the states that pass ([`STATE_NEW`], [`STATE_ESTABLISHED`]).
        mask: u32,
        /// Other states pass.
        not: bool,
    },
    /// Something else.
    Other,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has passed this base chain.
    Accept,
    /// It is dropped, with or without an answer.
    Drop,
    /// It goes through this chain, and back.
    Jump(String),
    /// It goes through this chain in place of the rest of its own.
    GoTo(String),
    /// It goes back.
    Return,
    /// A map or another program decides.
    Unknown,
}

/// What a register has.
#[derive(Clone, Copy)]
enum Loaded {
    Meta(u32),
    /// The state of a connection, as far as it is in this mask.
    State(u32),
    Other,
}

/// A rule with its chain.
pub(super) fn decode(_kind: u16, payload: &[u8]) -> Decoded<Option<(String, FilterRule)>> {
    let nested = payload.get(HEADER..).ok_or("a rule without a header")?;
    let chain = attribute(nested, CHAIN)?.map(parse_string).transpose()?.unwrap_or_default();
    let mut rule = FilterRule::default();
    let mut registers = BTreeMap::new();
    for (_, expression) in attributes(attribute(nested, EXPRESSIONS)?.unwrap_or_default())? {
        let name = attribute(expression, 1)?.map(parse_string).transpose()?.unwrap_or_default();
        let data = attribute(expression, 2)?.unwrap_or_default();
        read(&name, data, &mut registers, &mut rule.parts)?;
    }
    Ok(Some((chain, rule)))
}

fn read(
    name: &str,
    data: &[u8],
    registers: &mut BTreeMap<u32, Loaded>,
    parts: &mut Vec<RulePart>,
) -> Decoded<()> {
    match name {
        "meta" => {
            if let (Some(register), Some(key)) = (field(data, 1)?, field(data, 2)?) {
                registers.insert(register, Loaded::Meta(key));
            }
        }
        "ct" => {
            let loaded =
                if field(data, 2)? == Some(CT_STATE) { Loaded::State(u32::MAX) } else { Loaded::Other };
            registers.extend(field(data, 1)?.map(|register| (register, loaded)));
        }
        "bitwise" => {
            let loaded = match field(data, 1)?.and_then(|source| registers.get(&source)) {
                Some(Loaded::State(known)) => {
                    masked(data)?.map_or(Loaded::Other, |mask| Loaded::State(known & mask))
                }
                _ => Loaded::Other,
            };
            registers.extend(field(data, 2)?.map(|register| (register, loaded)));
        }
        "byteorder" => {
            registers.extend(field(data, 2)?.map(|register| (register, Loaded::Other)));
        }
        "cmp" => {
            let loaded = field(data, 1)?.and_then(|register| registers.get(&register)).copied();
            let value = attribute(attribute(data, 3)?.unwrap_or_default(), 1)?.unwrap_or_default();
            parts.push(RulePart::Test(compared(loaded, field(data, 2)?, value)));
        }
        "lookup" => {
            parts.push(RulePart::Test(RuleTest::Other));
            match field(data, 3)? {
                Some(0) => parts.push(RulePart::Verdict(Verdict::Unknown)),
                register => registers.extend(register.map(|register| (register, Loaded::Other))),
            }
        }
        "immediate" => {
            let verdict = attribute(attribute(data, 2)?.unwrap_or_default(), 2)?;
            match (field(data, 1)?, verdict) {
                (Some(0), Some(verdict)) => parts.extend(decided(verdict)?.map(RulePart::Verdict)),
                (register, _) => registers.extend(register.map(|register| (register, Loaded::Other))),
            }
        }
        "reject" => parts.push(RulePart::Verdict(Verdict::Drop)),
        "target" => match attribute(data, 1)?.map(parse_string).transpose()?.as_deref() {
            Some("REJECT") => parts.push(RulePart::Verdict(Verdict::Drop)),
            // ebtables' `mark` has a verdict, which accepts unless it is told otherwise.
            Some("NFQUEUE" | "QUEUE" | "SYNPROXY" | "mark") => {
                parts.push(RulePart::Verdict(Verdict::Unknown));
            }
            // All packets pass other targets of this hook.
            _ => {}
        },
        "queue" | "fwd" | "synproxy" | "tproxy" => parts.push(RulePart::Verdict(Verdict::Unknown)),
        "match" => match attribute(data, 1)?.map(parse_string).transpose()?.as_deref() {
            Some("comment") => {}
            _ => parts.push(RulePart::Test(RuleTest::Other)),
        },
        // Of these every packet passes.
        "counter" | "log" | "notrack" | "objref" | "dynset" | "last" | "dup" | "flow_offload" => {}
        // What these load is tested next. Into which register differs, so that none is known any more.
        "payload" | "exthdr" | "fib" | "rt" | "socket" | "numgen" | "hash" | "osf" | "xfrm" | "tunnel" => {
            registers.clear();
        }
        _ => parts.push(RulePart::Test(RuleTest::Other)),
    }
    Ok(())
}

fn field(data: &[u8], kind: u16) -> Decoded<Option<u32>> {
    attribute(data, kind)?.map(number).transpose()
}

/// The mask of a `bitwise` that does no more than mask a number.
fn masked(data: &[u8]) -> Decoded<Option<u32>> {
    let value = |kind| attribute(attribute(data, kind)?.unwrap_or_default(), 1);
    let (mask, xor): (_, Option<&[u8]>) = (value(4)?, value(5)?);
    let only_masks =
        field(data, 6)?.unwrap_or_default() == 0 && xor.unwrap_or_default().iter().all(|byte| *byte == 0);
    Ok(mask.and_then(|mask| mask.try_into().ok()).filter(|_| only_masks).map(u32::from_ne_bytes))
}

/// Which states have this value in the bits that are known.
fn state(known: u32, not: bool, value: &[u8]) -> RuleTest {
    match value.try_into().map(u32::from_ne_bytes) {
        Ok(0) => RuleTest::State { mask: known, not: !not },
        Ok(bit) if bit.is_power_of_two() && known & bit != 0 => RuleTest::State { mask: bit, not },
        // No state is two.
        Ok(_) => RuleTest::State { mask: 0, not },
        Err(_) => RuleTest::Other,
    }
}

/// A comparison for equality (0) or difference (1); others are not of names.
fn compared(loaded: Option<Loaded>, operator: Option<u32>, value: &[u8]) -> RuleTest {
    let not = match operator {
        Some(0) => false,
        Some(1) => true,
        _ => return RuleTest::Other,
    };
    let key = match loaded {
        Some(Loaded::Meta(key)) => key,
        Some(Loaded::State(known)) => return state(known, not, value),
        Some(Loaded::Other) | None => return RuleTest::Other,
    };
    let outgoing = matches!(key, META_OIF | META_OIFNAME | META_BRI_OIFNAME);
    match (key, value) {
        (META_IIFNAME | META_OIFNAME | META_BRI_IIFNAME | META_BRI_OIFNAME, _) => {
            // A pattern such as `oct*` is compared by its first bytes only.
            let whole = value.contains(&0);
            let name = value.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
            let bridge = matches!(key, META_BRI_IIFNAME | META_BRI_OIFNAME);
            RuleTest::Link { outgoing, bridge, name, whole, not }
        }
        (META_IIF | META_OIF, [a, b, c, d]) => {
            RuleTest::Index { outgoing, index: u32::from_ne_bytes([*a, *b, *c, *d]), not }
        }
        (META_NFPROTO, [2]) => RuleTest::Ipv6(not),
        (META_NFPROTO, [10]) => RuleTest::Ipv6(!not),
        _ => RuleTest::Other,
    }
}

/// `None` for `continue`, which does not end the rule. Numbers are `NF_*` and `NFT_*`.
fn decided(verdict: &[u8]) -> Decoded<Option<Verdict>> {
    let code = attribute(verdict, 1)?.map(number).transpose()?.unwrap_or_default();
    let chain = attribute(verdict, 2)?.map(parse_string).transpose()?.unwrap_or_default();
    Ok(match code.cast_signed() {
        -1 => None,
        -3 => Some(Verdict::Jump(chain)),
        -4 => Some(Verdict::GoTo(chain)),
        // `break` ends a rule only, and stands at no rule's end.
        -5 => Some(Verdict::Return),
        // The upper half is the errno to return.
        code => Some(match code & 0xff {
            0 => Verdict::Drop,
            1 => Verdict::Accept,
            _ => Verdict::Unknown,
        }),
    })
}
