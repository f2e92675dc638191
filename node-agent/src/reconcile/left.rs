//! What a change of the links has left behind that people have to know: the next look goes by what is there and finds
//! nothing amiss.

use std::mem::replace;

use octavia_bridge_ipam::causes::chain;

use super::keeper::Keeper;
use super::standing::Looked;
use crate::node::apply::Error;

/// How many notes are kept of failed changes that no successful one follows.
const MOST: usize = 8;

impl Keeper<'_> {
    /// What a change that failed has cost the node. The next one is guarded as if the node still had it.
    pub(super) fn remember_damage(&mut self, error: &Error) {
        if !error.lost_defaults().is_empty() {
            self.cut_offs.lose(error.lost_defaults());
            self.disk.keep_cut_offs(&self.cut_offs);
            self.targets.lost = self.cut_offs.lost();
        }
        if error.has_changed_the_node() {
            let why = chain(error);
            tracing::error!("{why}");
            self.left.push(why);
        }
    }

    /// No change has succeeded since these were noted.
    pub(super) fn still_left(&mut self, before: Vec<String>) {
        let new = replace(&mut self.left, before);
        for note in new {
            if self.left.len() < MOST && !self.left.contains(&note) {
                self.left.push(note);
            }
        }
    }

    /// What is left behind, without what the look says anyway.
    pub(super) fn untold(&self, looked: &Looked) -> Vec<String> {
        let mut untold = self.left.clone();
        untold.retain(|note| !looked.failures.iter().any(|failure| failure.why.starts_with(note.as_str())));
        untold
    }
}
