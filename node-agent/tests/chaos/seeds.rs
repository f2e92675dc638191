//! Seeds, some at a time, until the time is over.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Nodes at a time.
const NODES: usize = 3;

/// What was done to one node so far.
#[derive(Clone, Default)]
pub(crate) struct Story(Arc<Mutex<Vec<String>>>);

/// So many so far, by all seeds.
static INTERVENTIONS: AtomicU64 = AtomicU64::new(0);

impl Story {
    /// Another intervention.
    pub(crate) fn tell(&self, what: String) {
        INTERVENTIONS.fetch_add(1, Ordering::Relaxed);
        self.0.lock().expect("another thread has panicked").push(what);
    }

    /// They pause.
    pub(crate) fn pause(&self) {
        self.0.lock().expect("another thread has panicked").push("-- quiet".into());
    }
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// What became of a seed, if it found something.
fn finding(seed: u64, node: &impl Fn(u64, &Story)) -> Option<String> {
    let story = Story::default();
    let panic = catch_unwind(AssertUnwindSafe(|| node(seed, &story))).err()?;
    let why = panic.downcast_ref::<String>().cloned();
    let why = why.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    let told = story.0.lock().expect("another thread has panicked").join("\n");
    Some(format!("seed {seed}:\n{told}\n{}", why.unwrap_or_default()))
}

/// Begins new seeds for so many seconds, unless the environment says otherwise. `node` is told which one it is.
///
/// # Panics
/// When a seed found something.
#[expect(clippy::print_stderr, reason = "what a run was worth")]
pub(crate) fn run(seconds: u64, node: impl Fn(u64, &Story) + Sync) {
    let until = Instant::now() + Duration::from_secs(number("CHAOS_SECONDS", seconds));
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
                    if let Some(why) = finding(seed, &node) {
                        found.lock().expect("another thread has panicked").push(why);
                    }
                }
            });
        }
    });
    let seeds = next.load(Ordering::Relaxed);
    let found = found.into_inner().expect("another thread has panicked");
    let interventions = INTERVENTIONS.load(Ordering::Relaxed);
    eprintln!("{interventions} interventions by {seeds} seeds from {first} on");
    assert!(found.is_empty(), "{} of {seeds} seeds found something\n{}", found.len(), found.join("\n\n"));
    assert!(seeds > 0, "no seed was begun in the given time");
}
