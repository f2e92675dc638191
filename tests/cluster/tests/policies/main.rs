//! Policies of the cluster on nodes with links of their own: what becomes of the links, and what is told of it.

mod away;
mod chaos;
mod conflicts;
mod cut_off;
mod enactments;
mod files;
mod force;
mod island;
mod many;
mod node_state;
mod scene;
mod status;
mod unreadable;
