//! One entry of a pool.

use serde_json::{Map, Value};

/// One address in use.
///
/// A pool may have 60,000 of them, so the texts share one piece of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// Container id, pod and interface, one after the other.
    text: Box<str>,
    /// Where the pod begins, in bytes.
    podref: usize,
    /// Where the interface begins.
    ifname: usize,
    /// Boxed and mostly absent.
    pub(super) extra: Option<Box<Map<String, Value>>>,
}

impl Allocation {
    /// An entry for one interface of one sandbox.
    pub fn new(id: &str, podref: &str, ifname: &str) -> Self {
        let text = [id, podref, ifname].concat().into();
        Self { text, podref: id.len(), ifname: id.len() + podref.len(), extra: None }
    }

    /// The same with other texts.
    pub(crate) fn renewed(&self, id: &str, podref: &str, ifname: &str) -> Self {
        Self { extra: self.extra.clone(), ..Self::new(id, podref, ifname) }
    }

    /// Container id of the sandbox.
    pub fn id(&self) -> &str {
        &self.text[..self.podref]
    }

    /// `namespace/name` of the pod; empty when the runtime named none.
    pub fn podref(&self) -> &str {
        &self.text[self.podref..self.ifname]
    }

    /// Interface in the pod; `None` in entries written by whereabouts before 0.8.
    pub fn ifname(&self) -> Option<&str> {
        Some(&self.text[self.ifname..]).filter(|name| !name.is_empty())
    }

    /// Bytes that it takes in an object's JSON, with a key of four digits.
    #[cfg(feature = "kubernetes")]
    pub(crate) fn size(&self) -> usize {
        /// `"1000":{"id":"","podref":"","ifname":""},`
        const FRAME: usize = 42;
        self.text.len() + FRAME
    }
}
