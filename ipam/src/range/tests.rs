//! Bounds as whereabouts' own tests have them.

use super::*;
use crate::address::parse;

fn range(subnet: &str, start: &str, end: &str) -> Result<(Range, Vec<Oddity>), RangeError> {
    Range::new(subnet.parse().unwrap(), parse(start), parse(end), Vec::new())
}

#[test]
fn bounds_are_whereabouts_bounds() {
    for (subnet, start, end, first, last, ignored) in [
        ("192.168.21.100/30", "", "", "192.168.21.101", "192.168.21.102", 0),
        ("192.168.2.200/27", "", "", "192.168.2.193", "192.168.2.222", 0),
        ("192.168.2.200/24", "", "", "192.168.2.1", "192.168.2.254", 0),
        ("192.168.2.200/24", "192.168.2.23", "", "192.168.2.23", "192.168.2.254", 0),
        ("192.168.2.200/24", "", "192.168.2.100", "192.168.2.1", "192.168.2.100", 0),
        ("192.168.2.200/24", "192.168.2.50", "192.168.2.100", "192.168.2.50", "192.168.2.100", 0),
        ("192.168.2.200/24", "192.168.2.50", "192.168.2.50", "192.168.2.50", "192.168.2.50", 0),
        ("192.168.2.200/24", "192.168.1.150", "192.168.3.100", "192.168.2.1", "192.168.2.254", 2),
        ("192.168.2.0/24", "192.168.2.0", "192.168.2.255", "192.168.2.1", "192.168.2.254", 2),
        ("192.168.2.0/24", "192.168.1.9", "192.168.2.9", "192.168.2.1", "192.168.2.9", 1),
        ("2001::/116", "", "", "2001::1", "2001::ffe", 0),
        ("2001:db8:abcd:12::/96", "", "", "2001:db8:abcd:12::1", "2001:db8:abcd:12::ffff:fffe", 0),
        ("2001:db8::/64", "", "2001:db8::100", "2001:db8::1", "2001:db8::100", 0),
        (
            "2001:db8:480:603d::/64",
            "2001:db8:480:603d:304:403::",
            "2001:db8:480:603d:304:403:0:4",
            "2001:db8:480:603d:304:403::",
            "2001:db8:480:603d:304:403:0:4",
            0,
        ),
        ("0.0.0.0/1", "", "", "0.0.0.1", "127.255.255.254", 0),
        ("8000::/1", "", "", "8000::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", 0),
    ] {
        let (range, oddities) = range(subnet, start, end).unwrap();
        let found = (range.first().to_string(), range.last().to_string(), oddities.len());
        assert_eq!(found, (first.to_owned(), last.to_owned(), ignored), "{subnet} {start} {end}");
    }
}

#[test]
fn reversed_bounds_are_refused() {
    for (subnet, start, end) in [
        ("192.168.2.200/24", "192.168.2.100", "192.168.2.50"),
        ("2001:db8::/64", "2001:db8::100", "2001:db8::50"),
    ] {
        assert!(matches!(range(subnet, start, end), Err(RangeError::Reversed(..))), "{subnet} {start} {end}");
    }
    // One that is ignored, with a warning, is in nobody's way.
    assert!(range("192.168.2.200/24", "192.168.3.1", "192.168.2.50").is_ok());
}

#[test]
fn subnets_without_hosts_and_foreign_bounds_are_refused() {
    for subnet in ["10.0.0.0/31", "10.0.0.0/32", "fd00::/127", "fd00::/128"] {
        assert!(matches!(range(subnet, "", ""), Err(RangeError::TooSmall(_))), "{subnet}");
    }
    for subnet in ["0.0.0.0/0", "::/0"] {
        assert!(matches!(range(subnet, "", ""), Err(RangeError::TooLarge(_))), "{subnet}");
    }
    assert!(matches!(range("10.0.0.0/24", "fd00::1", ""), Err(RangeError::Family(..))));
    assert!(matches!(range("fd00::/64", "", "10.0.0.1"), Err(RangeError::Family(..))));
}

#[test]
fn exclusions_outside_are_named_by_index() {
    let nets = ["10.0.0.0/28", "10.0.1.0/28", "fd00::/64", "10.0.0.0/8"];
    let exclude = nets.iter().map(|net| net.parse().unwrap()).collect();
    let (range, oddities) = Range::new("10.0.0.0/24".parse().unwrap(), None, None, exclude).unwrap();
    assert_eq!(oddities, [Oddity::ExcludeOutside(1), Oddity::ExcludeOutside(2)]);
    assert!(!range.offers("10.0.0.77".parse().unwrap()));
}

#[test]
fn offers_what_lies_between_bounds_and_is_not_excluded() {
    let exclude = vec!["172.23.0.40/29".parse().unwrap()];
    let bounds = (parse("172.23.0.30"), parse("172.23.0.70"));
    let (range, _) = Range::new("172.23.0.0/24".parse().unwrap(), bounds.0, bounds.1, exclude).unwrap();
    let offered: Vec<u8> = (0..=255).filter(|n| range.offers([172, 23, 0, *n].into())).collect();
    let expected: Vec<u8> = (30..40).chain(48..=70).collect();
    assert_eq!(offered, expected);
    assert!(!range.offers("fd00::1".parse().unwrap()));
}
