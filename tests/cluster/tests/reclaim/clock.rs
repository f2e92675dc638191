//! Wall clocks that jump: what is counted is counted by others.

use std::thread;
use std::time::{Duration, Instant};

use octavia_bridge_cluster_tests::{Agent, Proxy, Range, WallClock};

use crate::scene::Scene;

/// The agents' grace period.
const GRACE: Duration = Duration::from_secs(5);

#[test]
fn a_clock_that_jumps_frees_nothing_early_and_holds_nothing_back() {
    let scene = Scene::new("clock");
    let node = scene.node("w1");
    let clock = WallClock::new();
    let grace = GRACE.as_secs().to_string();
    let agent = Agent::start_by(&clock, &scene.admin, &node, &["--reclaim-grace", &grace]);
    let range = Range::of("172.23.0", 30, 70);
    let lives = scene.pod("lives", &node).claims(&agent, &range, "c-lives");
    for (name, days) in [("ahead", 400), ("back", -400)] {
        let pod = scene.pod(name, &node);
        let address = pod.claims(&agent, &range, &format!("c-{name}"));
        let gone = Instant::now();
        scene.delete(&pod);
        clock.set(days);
        scene.becomes_free(&address, &[&agent]);
        assert!(gone.elapsed() >= GRACE, "{name}: freed {:?} after the pod was deleted", gone.elapsed());
        assert!(scene.stands(&lives), "{name}");
    }
    // It has seen that clock: lines of its log begin with the date.
    let years: Vec<String> = agent.log().lines().map(|line| line.chars().take(4).collect()).collect();
    assert!(years.iter().max() > years.iter().min(), "{}", agent.log());
}

#[test]
fn a_clock_that_jumps_neither_ends_nor_stretches_a_wait_for_the_server() {
    let scene = Scene::new("patience");
    let node = scene.node("w1");
    let proxy = Proxy::start(&scene.admin);
    let clock = WallClock::new();
    let agent = Agent::start_by(&clock, &proxy.access(), &node, &[]);
    let range = Range::of("172.23.0", 30, 70);
    assert!(agent.claim(&range, "c-first", "first", &[])["assigned"].is_array());
    for (name, days) in [("ahead", 400), ("back", -400)] {
        proxy.silent();
        let (answer, took) = thread::scope(|scope| {
            let claim = scope.spawn(|| {
                let started = Instant::now();
                (agent.claim(&range, &format!("c-{name}"), name, &[]), started.elapsed())
            });
            thread::sleep(Duration::from_secs(1));
            clock.set(days);
            claim.join().expect("an answer")
        });
        assert_eq!(answer["failed"]["kind"], "unavailable", "{answer}");
        let seconds = took.as_secs_f64();
        assert!((3.0..20.0).contains(&seconds), "{name}: {took:?}");
        proxy.up();
        agent.ready();
    }
}

#[test]
fn a_node_whose_clock_is_ahead_does_not_take_anothers_lease() {
    let scene = Scene::new("lease");
    let grace = GRACE.as_secs().to_string();
    let first = Agent::start_with(&scene.admin, &scene.node("w1"), &["--reclaim-grace", &grace]);
    let won = "this agent is now elected";
    first.wait("is elected", |agent| agent.log().contains(won).then_some(()));
    let clock = WallClock::new();
    clock.set(400);
    let second = Agent::start_by(&clock, &scene.admin, &scene.node("w2"), &["--reclaim-grace", &grace]);
    second.ready();
    // Twice as long as the lease lasts without being renewed.
    thread::sleep(GRACE * 2);
    assert!(!second.log().contains(won), "{}", second.log());
    drop(first);
    second.wait("is elected", |agent| agent.log().contains(won).then_some(()));
}
