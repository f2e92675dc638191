//! Prints the present state.

use std::process::ExitCode;

use anyhow::Context;
use octavia_bridge_ipam::visible;
use octavia_bridge_netlink::Netlink;

use super::output::print_text;
use crate::node::{described, observed};

/// Prints it as YAML, or `as_json`.
///
/// # Errors
/// The kernel's, and those of writing.
pub(crate) async fn show(as_json: bool) -> anyhow::Result<ExitCode> {
    let netlink = Netlink::open().await?;
    let observed = observed::read(&netlink).await.context("read the present state")?;
    let state = described::state(&observed);
    if as_json {
        print_text(&format!("{state:#}"))?;
    } else {
        print_text(&visible::lines(&serde_saphyr::to_string(&state)?.lines().collect::<Vec<_>>()))?;
    }
    Ok(ExitCode::SUCCESS)
}
