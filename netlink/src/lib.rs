//! Typed access to Linux links, bridges, VLANs, veth pairs, addresses, routes, events and network
//! namespaces.
//!
//! This is the only crate that names rust-netlink. Its message types break their API several times
//! a year, so none of them appears in a public signature here: addresses are `std` and `ipnet`
//! types, and this crate defines the others.
//!
//! What the crate adds to the message types:
//!
//! * A [`Netlink`] lives in one network namespace for good, whichever thread uses it.
//! * The kernel's extended-ACK text ("8021q: VLAN device already exists") is part of the error.
//! * Every request has a deadline, a reply that cannot be decoded is an error and not a hang, and
//!   an interrupted dump is repeated.
//! * Requests contain only the attributes that the caller states, and one message does a whole step: it
//!   creates a veth pair with names, MACs, MTUs and bridge, with the pod's end in the pod's namespace.
//!
//! All asynchronous functions need a tokio runtime with its I/O and time drivers enabled; a
//! `current_thread` runtime is enough, and the crate spawns no task. The kernel executes a request
//! inside the `send` call, so a future never leaves a request half sent.

mod address;
mod ask;
mod bond;
mod bridge;
mod change;
mod channel;
mod create;
mod error;
mod events;
mod family;
mod filter;
#[doc(hidden)]
pub mod fuzzing;
mod inside;
mod ipv6;
mod link;
mod link_option;
mod link_request;
mod mac;
mod name;
mod namespace;
mod neighbour;
mod netlink;
mod one_processor;
mod port_vlan;
mod route;
mod route_request;
mod wait;
mod wire;

pub use address::{Address, NewAddress};
pub use ask::ask;
pub use bond::{BondOption, BondOptions};
pub use bridge::{BridgeOptions, Port, PortFlags, PortState};
pub use change::LinkChange;
pub use create::{NewBond, NewBridge, NewVeth, NewVlan, NewVrf, VethPeer};
pub use error::{Error, Result};
pub use events::{Event, EventGroups, Events};
pub use filter::{
    FilterChain, FilterFamily, FilterRule, FilterTable, RulePart, RuleTest, STATE_ESTABLISHED, STATE_NEW,
    Verdict, forward_filters,
};
pub use inside::Inside;
pub use ipv6::LinkIpv6;
pub use link::{Link, LinkKind, OperationalState};
pub use link_option::{LinkOption, LinkOptions};
pub use link_request::LinkId;
pub use mac::{MacAddress, ParseMacError};
pub use name::{MAX_NAME, validate_link_name};
pub use namespace::{Identity, Namespace};
pub use neighbour::NeighbourState;
pub use netlink::Netlink;
pub use port_vlan::VlanRange;
pub use route::{Family, NextHop, Route, RouteAttribute, RouteFilter, RouteKind};
