//! The CNI protocol: what a runtime says through the environment and stdin, and what it hears back.
//!
//! Everything below this module is pure except [`reply::write`], the only function of this program that
//! touches stdout: the protocol allows exactly one JSON document there. The rules are those of the CNI
//! specification 1.1.0 and, where it is silent or contradicts itself (it says stderr for errors in one
//! paragraph), those of the reference library that every runtime links: containernetworking/cni, pkg/skel.

pub(crate) mod args;
pub(crate) mod environment;
pub(crate) mod error;
pub(crate) mod reply;
pub(crate) mod result;
pub(crate) mod version;

pub(crate) use environment::{Environment, Verb};
pub(crate) use error::{Code, Error};
pub(crate) use result::CniResult;
pub(crate) use version::Version;
