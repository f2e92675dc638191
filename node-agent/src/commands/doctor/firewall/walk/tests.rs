//! What no test with real rules reaches.

use octavia_bridge_netlink::{FilterFamily, FilterRule};

use super::*;

fn chain(name: &str, forward: Option<bool>, rules: Vec<Vec<RulePart>>) -> FilterChain {
    let rules = rules.into_iter().map(|parts| FilterRule { parts }).collect();
    FilterChain { name: name.into(), forward, rules }
}

fn to(verdict: Verdict) -> Vec<RulePart> {
    vec![RulePart::Verdict(verdict)]
}

fn of(chains: Vec<FilterChain>) -> Option<Dropped> {
    let bridge = Link { index: 3, name: "octbr".into(), ..Link::default() };
    let table = FilterTable { family: FilterFamily::Ip, name: "t".into(), chains };
    dropped(&table, &Way { bridge: &bridge, ports: None, ipv6: false })
}

#[test]
fn a_chain_that_is_left_decides_no_more() {
    let base = |first| chain("fw", Some(true), vec![first, to(Verdict::Accept)]);
    let empty = || chain("other", None, Vec::new());
    assert_eq!(of(vec![base(to(Verdict::Jump("other".into()))), empty()]), None);
    // Not back to the rule that accepts.
    let dropped = of(vec![base(to(Verdict::GoTo("other".into()))), empty()]).unwrap();
    assert_eq!((dropped.by.as_str(), dropped.excepted), ("policy drop", false));
    assert!(of(vec![base(to(Verdict::Return))]).is_some());
    let dropping = chain("other", None, vec![to(Verdict::Return), to(Verdict::Drop)]);
    assert_eq!(of(vec![base(to(Verdict::Jump("other".into()))), dropping]), None);
}

#[test]
fn chains_that_multiply_are_not_walked_to_the_end() {
    let mut chains = vec![chain("0", Some(true), Vec::new())];
    for level in 1..30 {
        chains.push(chain(&level.to_string(), None, Vec::new()));
        let jump = to(Verdict::Jump(level.to_string()));
        chains[level - 1].rules = vec![FilterRule { parts: jump }; 10];
    }
    assert!(of(chains).unwrap().excepted, "it is not known to drop all");
}
