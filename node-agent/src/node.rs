//! The node: its links, addresses and routes as they should be, as they are, and the way from one to the other.
//!
//! `source` reads texts, `desired` understands them, `observed` reads the kernel, `described` puts that in nmstate's words. `plan` compares the two and is pure;
//! `apply` takes its steps, with a journal to take them back. `state` keeps what was applied, `witness` knows which links
//! the agent created, and `ports` where the ports of pods belong. Nothing here calls the API server.

pub(crate) mod apply;
pub(crate) mod described;
pub(crate) mod desired;
pub(crate) mod marker;
pub(crate) mod nmstate_lock;
pub(crate) mod observed;
pub(crate) mod plan;
pub(crate) mod ports;
pub(crate) mod recovery;
pub(crate) mod source;
pub(crate) mod state;
pub(crate) mod unkept;
pub(crate) mod witness;
