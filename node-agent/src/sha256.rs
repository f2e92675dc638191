//! Digests, by which contents are told apart.

use ring::digest::{Digest, SHA256, digest};

/// The digest of these bytes, as 64 hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    shown(&digest(&SHA256, bytes))
}

pub(crate) fn shown(digest: &Digest) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
