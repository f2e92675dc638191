//! Chaos: an agent on a node where other programs interfere between any two of its steps.
//!
//! Each seed is a node of its own with a random policy, pods' ports and links of others. Commands of `ip`, kills, a full
//! disk, damaged files and new policies come at random moments. At quiet points everything has to be as the policy says.
//! The same seed has the same interventions in the same order; when they meet the agent is chance, so a seed that
//! found something is run many times: `scripts/chaos --seed N --times 50`.

#![expect(clippy::unwrap_used, reason = "everything here is a test, also what clippy does not see as one")]

mod acts;
mod chance;
mod others;
mod policy;
mod seeds;
mod wiring;
mod world;

#[path = "../node/scene.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod scene;

use std::thread;
use std::time::Duration;

use chance::Chance;
use seeds::Story;
use world::World;

/// Interventions between two quiet points, and quiet points of a seed.
const ACTS: u64 = 8;
const QUIET_POINTS: usize = 4;

fn interfere(node: &scene::Node, seed: u64, story: &Story) {
    let mut chance = Chance::new(seed);
    let mut world = World::new(node, &mut chance);
    world.quiet();
    for _ in 0..QUIET_POINTS {
        for _ in 0..=chance.below(ACTS) {
            story.tell(acts::act(&mut world, &mut chance));
            thread::sleep(Duration::from_micros(chance.below(8000)));
        }
        story.pause();
        world.quiet();
    }
}

#[test]
fn whatever_others_do_in_between_it_ends_well() {
    seeds::run(45, |seed, story| {
        let story = story.clone();
        scene::on_a_node(move |node| interfere(node, seed, &story));
    });
}
