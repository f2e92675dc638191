//! What is left of pods that are gone becomes free, and nothing else does.

#[path = "reclaim/clock.rs"]
mod clock;
#[path = "reclaim/elected.rs"]
mod elected;
#[path = "reclaim/node.rs"]
mod node;
#[path = "reclaim/pools.rs"]
mod pools;
#[path = "reclaim/restored.rs"]
mod restored;
#[path = "reclaim/scene.rs"]
mod scene;
#[path = "reclaim/stuck.rs"]
mod stuck;
