//! Chaos: policies of the cluster on nodes where other programs interfere, behind a connection to the API that fails.
//!
//! As in the agent's own test of this name, of which the seeds, the commands and the policies are. Here each seed is a node of
//! the cluster with an agent behind a proxy of its own; policies, enactments and the node itself come and go in the API. At quiet
//! points everything has to be as the policies say, and be told so; while the API is away, what was in force has to be kept.
//! `scripts/chaos --cluster --seed N --times 50` runs one seed again and again.

#[path = "../../../../node-agent/tests/chaos/chance.rs"]
mod chance;
#[path = "../../../../node-agent/tests/chaos/others.rs"]
mod others;
#[path = "../../../../node-agent/tests/chaos/policy.rs"]
mod policy;
#[path = "../../../../node-agent/tests/chaos/seeds.rs"]
mod seeds;

mod acts;
mod checks;
mod faults;
mod policies;
mod world;

use std::thread;
use std::time::Duration;

use chance::Chance;
use seeds::Story;
use world::World;

use crate::scene::Scene;

/// Interventions between two quiet points, and quiet points of a seed.
const ACTS: u64 = 8;
const QUIET_POINTS: usize = 3;

fn interfere(seed: u64, story: &Story) {
    let scene = Scene::new("chaos");
    let mut chance = Chance::new(seed);
    let mut world = World::new(&scene, &mut chance);
    for _ in 0..QUIET_POINTS {
        let is_away = chance.one_in(3);
        if is_away {
            story.tell(faults::take_away(&world, &mut chance));
        }
        for _ in 0..=chance.below(ACTS) {
            story.tell(acts::act(&mut world, &mut chance, is_away));
            // At times the agent gets as far as a pause of its own.
            let longest = if chance.one_in(10) { 2000 } else { 40 };
            thread::sleep(Duration::from_millis(chance.below(longest)));
        }
        if is_away {
            story.pause();
            world.quiet_without_the_api();
        }
        story.pause();
        world.quiet();
    }
    world.sums();
}

#[test]
fn whatever_others_do_to_the_links_and_to_the_api_it_ends_well() {
    seeds::run(20, interfere);
}
