//! Chaos: an agent on a node where other programs interfere between any two of its steps.
//!
//! Each seed is a node of its own with a random policy, pods' ports and links of others. Commands of `ip`, kills, a full
//! disk, damaged files and new policies come at random moments. At quiet points everything has to be as the policy says.
//! The same seed has the same interventions in the same order; when they meet the agent is chance, so a seed that
//! found something is run many times: `scripts/chaos --seed N --times 50`.

#![expect(clippy::unwrap_used, reason = "everything here is a test, also what clippy does not see as one")]

mod acts;
mod chance;
mod policy;
mod world;

#[path = "../node/scene.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod scene;

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use chance::Chance;
use world::World;

/// Nodes at a time.
const NODES: usize = 3;
/// Interventions between two quiet points, and quiet points of a seed.
const ACTS: u64 = 8;
const QUIET_POINTS: usize = 4;

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// So many so far.
static INTERVENTIONS: AtomicU64 = AtomicU64::new(0);

/// What became of a seed, if it found something.
fn run(seed: u64) -> Option<String> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = told.clone();
    let story = move |node: &scene::Node| {
        let say = |what: String| heard.lock().unwrap().push(what);
        let mut chance = Chance::new(seed);
        let mut world = World::new(node, &mut chance);
        world.quiet();
        for _ in 0..QUIET_POINTS {
            for _ in 0..=chance.below(ACTS) {
                say(acts::act(&mut world, &mut chance));
                INTERVENTIONS.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_micros(chance.below(8000)));
            }
            say("-- quiet".into());
            world.quiet();
        }
    };
    let panic = catch_unwind(AssertUnwindSafe(|| scene::on_a_node(story))).err()?;
    let why = panic.downcast_ref::<String>().cloned();
    let why = why.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    Some(format!("{}\n{}", told.lock().unwrap().join("\n"), why.unwrap_or_default()))
}

#[test]
fn whatever_others_do_in_between_it_ends_well() {
    let until = Instant::now() + Duration::from_secs(number("CHAOS_SECONDS", 45));
    let first = number("CHAOS_SEED", 1);
    let times = number("CHAOS_TIMES", 0);
    let next = AtomicU64::new(0);
    let found = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..NODES {
            scope.spawn(|| {
                while Instant::now() < until {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    if times > 0 && turn >= times {
                        return;
                    }
                    // Many times the same one, or one after the other.
                    let seed = if times > 0 { first } else { first + turn };
                    if let Some(why) = run(seed) {
                        found.lock().unwrap().push(format!("seed {seed}:\n{why}"));
                    }
                }
            });
        }
    });
    let (found, seeds) = (found.into_inner().unwrap(), next.load(Ordering::Relaxed));
    let interventions = INTERVENTIONS.load(Ordering::Relaxed);
    eprintln!("{interventions} interventions by {seeds} seeds from {first} on");
    assert!(found.is_empty(), "{} of {seeds} seeds found something\n{}", found.len(), found.join("\n\n"));
    assert!(seeds > 0);
}
