//! The node agent on a real API server: plugins' calls over its socket, what the server is asked for them, and what becomes
//! of them when the server fails, the agent dies, or whereabouts writes to the same pools.

mod boot;
mod crowd;
mod disk;
mod faults;
mod life;
mod node;
mod plugins;
mod shared_pool;
mod socket;
mod steady;
