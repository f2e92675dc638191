use std::fs;

use tempfile::TempDir;

use super::*;
use crate::node::desired::{Choice, Text, read};

fn link(index: u32, name: &str, last: u8, alias: Option<&str>) -> Link {
    Link {
        index,
        name: name.into(),
        mac: Some([2, 0, 0, 0, 0, last].into()),
        alias: alias.map(ToOwned::to_owned),
        kind: LinkKind::Vrf { table: 10 },
        ..Link::default()
    }
}

fn witness() -> Witness {
    let mut witness = Witness::default();
    assert!(witness.note(&link(7, "octbr", 1, Some("octavia-bridge: one"))));
    witness
}

#[test]
fn only_the_very_link_has_lost_its_mark() {
    let witness = witness();
    assert_eq!(witness.judge(&link(7, "octbr", 1, Some("octavia-bridge"))), Verdict::Marked);
    let lost = Verdict::Lost("octavia-bridge: one".into());
    assert_eq!(witness.judge(&link(7, "octbr", 1, None)), lost);
    assert_eq!(witness.judge(&link(7, "octbr", 1, Some("sw1"))), lost);
    assert_eq!(witness.judge(&link(8, "octbr", 1, None)), Verdict::Replaced, "made anew");
    let other = Link { kind: LinkKind::Vrf { table: 11 }, ..link(7, "octbr", 1, None) };
    assert_eq!(witness.judge(&other), Verdict::Replaced, "of another kind, with the index used again");
    assert!(matches!(witness.judge(&link(7, "octbr", 2, None)), Verdict::Doubtful(_)));
    assert_eq!(witness.judge(&link(7, "other", 1, None)), Verdict::Unknown, "the index used again");
}

#[test]
fn a_link_that_was_renamed_is_told() {
    let witness = witness();
    assert!(witness.notes(&[link(7, "other", 1, None)])[0].contains("the agent created it as octbr"));
    assert!(witness.notes(&[link(7, "other", 2, None)]).is_empty(), "the index used again");
}

#[test]
fn what_is_gone_or_replaced_is_forgotten() {
    let mut witness = witness();
    witness.learn(&[link(7, "octbr", 1, None)], &Desired::default());
    assert_eq!(witness.names().count(), 1, "the mark is lost and the link is there");
    let mut other = witness.clone();
    other.learn(&[link(9, "octbr", 1, None)], &Desired::default());
    assert_eq!(other.names().count(), 0);
    witness.learn(
        &[link(9, "octbr", 1, Some("octavia-bridge")), link(10, "eth0", 3, None)],
        &Desired::default(),
    );
    assert_eq!(witness.judge(&link(9, "octbr", 1, None)), Verdict::Lost("octavia-bridge".into()));
    witness.gone(9);
    assert_eq!(witness, Witness::default());
}

#[test]
fn ports_are_known_while_they_are_where_a_policy_put_them() {
    let yaml =
        "interfaces: [{name: octbr, type: linux-bridge, bridge: {port: [{name: eth0}, {name: eth1}]}}]";
    let desired = read(&[Text { origin: "-".into(), yaml: yaml.into() }], &Choice::default()).unwrap();
    let port = |index, name, master| Link { master, ..link(index, name, 3, None) };
    let other_name = Link { alternative_names: vec!["eth0".into()], ..port(8, "enp6s0", Some(7)) };
    let links = [link(7, "octbr", 1, None), other_name, port(9, "eth1", None), port(10, "veth1", Some(7))];
    let mut witness = Witness::default();
    witness.learn(&links, &desired);
    assert_eq!(witness.ports(&links), ["enp6s0".to_owned()].into());
    // The policy is gone, the port is not.
    witness.learn(&links, &Desired::default());
    assert_eq!(witness.ports(&links), ["enp6s0".to_owned()].into());
    assert!(witness.ports(&[port(8, "enp6s0", Some(6))]).is_empty());
    witness.learn(&[port(8, "enp6s0", Some(6))], &Desired::default());
    assert_eq!(witness, Witness::default());
}

#[test]
fn a_file_that_is_damaged_or_of_another_release_is_set_aside_and_one_of_another_boot_says_nothing() {
    let folder = TempDir::new().unwrap();
    let state = State::lock(folder.path()).unwrap();
    let path = state.journal().join("links.json");
    assert_eq!(state.witness(), Witness::default());
    state.keep_witness(&witness()).unwrap();
    assert_eq!(state.witness(), witness());
    let whole = fs::read_to_string(&path).unwrap();
    let boot = super::super::state::boot_id().unwrap();
    for (text, usable) in [
        (whole.replace("\"version\": 1", "\"version\": 2"), false),
        (whole[..whole.len() / 2].to_owned(), false),
        (whole.replace("octbr", "\u{0}"), false),
        (String::new(), false),
        (whole.replace(&boot, "another").replace("\"index\"", "\"indices\""), true),
    ] {
        fs::write(&path, &text).unwrap();
        assert_eq!(State::peek_witness(folder.path()).is_ok(), usable, "{text}");
        assert_eq!(state.witness(), Witness::default());
        let bad = path.with_extension("json.bad");
        assert_eq!((path.exists(), bad.exists()), (usable, !usable), "{text}");
        drop(fs::remove_file(bad));
    }
    state.keep_witness(&witness()).unwrap();
    state.keep_witness(&Witness::default()).unwrap();
    assert!(!path.exists(), "nothing to know");
}
