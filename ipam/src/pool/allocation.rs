//! One entry of a pool.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::texts::Texts;

/// One address in use.
///
/// A pool may have 60,000 of them, so the texts of one are one piece of memory, which clones share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// Container id, pod and interface.
    texts: Texts<2>,
    /// Mostly absent.
    pub(super) extra: Option<Arc<Map<String, Value>>>,
}

impl Allocation {
    /// An entry for one interface of one sandbox.
    ///
    /// # Panics
    /// If the texts have 4 GiB, which no document has.
    pub fn new(id: &str, podref: &str, ifname: &str) -> Self {
        Self { texts: Texts::new([id, podref], ifname), extra: None }
    }

    /// The same with other texts.
    pub(crate) fn renewed(&self, id: &str, podref: &str, ifname: &str) -> Self {
        Self { extra: self.extra.clone(), ..Self::new(id, podref, ifname) }
    }

    /// Container id of the sandbox.
    pub fn id(&self) -> &str {
        self.texts.get(0)
    }

    /// `namespace/name` of the pod; empty when the runtime named none.
    pub fn podref(&self) -> &str {
        self.texts.get(1)
    }

    /// Interface in the pod; `None` in entries written by whereabouts before 0.8.
    pub fn ifname(&self) -> Option<&str> {
        Some(self.texts.get(2)).filter(|name| !name.is_empty())
    }

    /// Bytes that it takes in an object's JSON, with a key of four digits.
    #[cfg(feature = "kubernetes")]
    pub(crate) fn size(&self) -> usize {
        /// `"1000":{"id":"","podref":"","ifname":""},`
        const FRAME: usize = 42;
        self.texts.len() + FRAME
    }
}
