//! Pods of two nodes on VLAN 24 of a shared trunk, as in production, and the agent that makes the VLAN. These need a kernel
//! with 8021q and fail without: `scripts/test-vm` runs them in a virtual machine that has one.

mod bonds;
mod capture;
mod filtered;
mod keeping;
mod killed;
mod network_manager;
mod nodes;
mod options;
mod policy;
mod port_vlans;
mod ports;
mod reapplied;
mod vlan;
