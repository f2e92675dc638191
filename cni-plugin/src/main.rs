//! `octavia-bridge`, a CNI plugin: attaches pods to a Linux bridge, with addresses and routes.

use std::process::ExitCode;

/// musl's asks the kernel for a few pages at a time and gives them back; for a process of three milliseconds that is a
/// twentieth of its life.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    octavia_bridge_cni::run()
}
