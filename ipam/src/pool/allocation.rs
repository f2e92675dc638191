//! One entry of a pool.

use std::sync::Arc;

use serde_json::{Map, Value};

/// One address in use.
///
/// A pool may have 60,000 of them, so the texts of one are one piece of memory, which clones share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// Container id, pod and interface, one after the other.
    text: Arc<str>,
    /// Where the pod begins, in bytes.
    podref: u32,
    /// Where the interface begins.
    ifname: u32,
    /// Mostly absent.
    pub(super) extra: Option<Arc<Map<String, Value>>>,
}

impl Allocation {
    /// An entry for one interface of one sandbox.
    ///
    /// # Panics
    /// If the texts have 4 GiB, which no document has.
    pub fn new(id: &str, podref: &str, ifname: &str) -> Self {
        let begin = |texts: usize| u32::try_from(texts).expect("a document is smaller");
        Self {
            text: [id, podref, ifname].concat().into(),
            podref: begin(id.len()),
            ifname: begin(id.len() + podref.len()),
            extra: None,
        }
    }

    /// The same with other texts.
    pub(crate) fn renewed(&self, id: &str, podref: &str, ifname: &str) -> Self {
        Self { extra: self.extra.clone(), ..Self::new(id, podref, ifname) }
    }

    /// Container id of the sandbox.
    pub fn id(&self) -> &str {
        &self.text[..self.podref as usize]
    }

    /// `namespace/name` of the pod; empty when the runtime named none.
    pub fn podref(&self) -> &str {
        &self.text[self.podref as usize..self.ifname as usize]
    }

    /// Interface in the pod; `None` in entries written by whereabouts before 0.8.
    pub fn ifname(&self) -> Option<&str> {
        Some(&self.text[self.ifname as usize..]).filter(|name| !name.is_empty())
    }

    /// Bytes that it takes in an object's JSON, with a key of four digits.
    #[cfg(feature = "kubernetes")]
    pub(crate) fn size(&self) -> usize {
        /// `"1000":{"id":"","podref":"","ifname":""},`
        const FRAME: usize = 42;
        self.text.len() + FRAME
    }
}
