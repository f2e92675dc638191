//! What becomes of the connection to the API.

use std::time::Duration;

use octavia_bridge_cluster_tests::{Fault, Refusal, Rule};

use super::chance::Chance;
use super::world::World;

/// Which requests.
const METHODS: [&str; 6] = ["*", "*", "GET", "POST", "PATCH", "DELETE"];
const PATTERNS: [&str; 7] = [
    "",
    "watch=true",
    "/nodenetworkconfigurationpolicies",
    "/nodenetworkconfigurationenactments",
    "/nodenetworkstates",
    "/nodes",
    "/events",
];
const REFUSALS: [u16; 8] = [429, 500, 503, 504, 401, 403, 409, 410];

/// From now on some requests fail, or all connections do for a moment.
pub(super) fn trouble(world: &mut World<'_>, chance: &mut Chance) -> String {
    match chance.below(8) {
        0 => {
            world.node.proxy().down();
            world.node.proxy().up();
            "all connections are cut".into()
        }
        1 => {
            world.node.proxy().down();
            "the API refuses connections".into()
        }
        2 => {
            world.node.proxy().silent();
            "the API does not answer".into()
        }
        3 => {
            world.node.proxy().clear_rules();
            world.node.proxy().up();
            "the API is well again".into()
        }
        4 => {
            let latency = Duration::from_millis(chance.below(300));
            world.node.proxy().latency(latency);
            format!("answers take {latency:?} longer")
        }
        _ => {
            let (method, pattern) = (*chance.of(&METHODS), *chance.of(&PATTERNS));
            let fault = fault(chance);
            let times = u32::try_from(1 + chance.below(5)).unwrap_or(1);
            world.hangs |= matches!(fault, Fault::Hang | Fault::HangAfter);
            let said = format!("{times} times {method} {pattern}: {fault:?}");
            world.node.proxy().rule(Rule::on(method, pattern, fault).first(times));
            said
        }
    }
}

fn fault(chance: &mut Chance) -> Fault {
    let mut refusal = Refusal::new(*chance.of(&REFUSALS));
    if chance.one_in(3) {
        refusal = refusal.retry_after(u32::try_from(chance.below(4)).unwrap_or(0));
    }
    let time = Duration::from_millis(chance.below(3000));
    let bytes = *chance.of(&[0, 1, 100, 1000, 5000]);
    match chance.below(14) {
        0..=2 => Fault::Refuse(refusal),
        3 | 4 => Fault::RefuseAfter(refusal),
        5 => Fault::CutBefore,
        6 => Fault::CutAfter,
        7 => Fault::Hang,
        8 => Fault::HangAfter,
        9 => Fault::Delay(time),
        10 => Fault::DelayAfter(time),
        11 => Fault::End(bytes),
        _ => Fault::Break(bytes),
    }
}

/// From now on no request succeeds.
pub(super) fn take_away(world: &World<'_>, chance: &mut Chance) -> String {
    let proxy = world.node.proxy();
    match chance.below(3) {
        0 => {
            proxy.down();
            "the API is away: it refuses connections".into()
        }
        1 => {
            proxy.silent();
            "the API is away: it does not answer".into()
        }
        _ => {
            let status = *chance.of(&[401, 403, 429, 500, 503]);
            proxy.down();
            proxy.rule(Rule::on("*", "", Fault::answer(status)));
            proxy.up();
            format!("the API is away: it answers {status}")
        }
    }
}
