//! The section `link-aggregation`.

use super::{parse, refuse};
use crate::node::desired::Kind;

fn bond(section: &str) -> String {
    format!("interfaces: [{{name: bond0, type: bond, link-aggregation: {section}}}]")
}

#[test]
fn a_bond_is_read_with_words_and_numbers_alike() {
    let text = bond(
        "{mode: 4, options: {lacp_rate: '1', miimon: '100', use_carrier: true, num_unsol_na: 3}, port: [a, b]}",
    );
    let Some(Kind::Bond { options, ports }) = parse(&text).interfaces[0].kind.clone() else {
        panic!("{text}")
    };
    let of = |name: &str| options.get(name).map(String::as_str);
    assert_eq!((of("mode"), of("lacp_rate"), of("miimon")), (Some("802.3ad"), Some("fast"), Some("100")));
    assert_eq!((of("use_carrier"), of("num_grat_arp")), (Some("true"), Some("3")));
    assert_eq!(ports, Some(vec!["a".to_owned(), "b".to_owned()]));
}

#[test]
fn an_option_that_the_mode_or_another_option_forbids_is_named_by_its_path() {
    let options = "interfaces[0].link-aggregation.options";
    for (section, path) in [
        ("{mode: bonded}", "interfaces[0].link-aggregation.mode: \"bonded\" is not allowed"),
        (
            "{mode: active-backup, options: {lacp_rate: fast}}",
            "lacp_rate: a bond of mode active-backup has no",
        ),
        ("{mode: 802.3ad, options: {primary: a}, port: [a]}", "primary: a bond of mode 802.3ad has no"),
        ("{mode: 802.3ad, options: {arp_interval: 9, arp_ip_target: 10.0.0.1}}", "arp_interval: a bond of"),
        (
            "{mode: active-backup, options: {arp_interval: 9, miimon: 9, arp_ip_target: 10.0.0.1}}",
            "arp_interval: a bond watches",
        ),
        ("{mode: active-backup, options: {arp_interval: 9}}", "arp_ip_target: missing"),
        (
            "{mode: active-backup, options: {updelay: 250}}",
            "updelay: 250 is not a multiple of miimon, which is 100",
        ),
        (
            "{mode: active-backup, options: {primary: c}, port: [a]}",
            "primary: c is not one of the bond's ports",
        ),
        ("{mode: active-backup, options: {balance_slb: 1}}", "balance_slb: true: not supported"),
        ("{mode: active-backup, options: {num_grat_arp: 1, num_unsol_na: 2}}", "num_unsol_na: 2 contradicts"),
    ] {
        let problems = refuse(&bond(section));
        let whole =
            if path.starts_with("interfaces") { path.to_owned() } else { format!("{options}.{path}") };
        assert!(problems.len() == 1 && problems[0].starts_with(&whole), "{section}: {problems:?}");
    }
    // What is so anyway is accepted in every mode.
    drop(parse(&bond("{mode: 802.3ad, options: {arp_interval: 0, packets_per_slave: 1, lacp_rate: slow}}")));
}
