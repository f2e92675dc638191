//! The image on two nodes: the pods of the `DaemonSet`, started by a container runtime with no more than the manifest gives
//! them, against a real Kubernetes API; and that runtime as a caller of the plugin that they have installed.

mod caller;
mod host;
mod kubelet;
mod rollout;
mod runtime;
mod scene;
mod understood;
mod volumes;

use std::path::PathBuf;

/// Where the image of this number (1, or 2 which differs from it by nothing but its programs' last bytes) and the programs
/// that are in it are.
pub(crate) fn image_folder(number: u32) -> PathBuf {
    runtime::folder("OCTAVIA_BRIDGE_TEST_IMAGES").join(number.to_string())
}
