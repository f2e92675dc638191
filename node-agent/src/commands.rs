//! What the command line can ask for.

mod apply;
mod check;
mod cli;
mod doctor;
mod health;
mod install;
mod list;
mod networks;
mod output;
mod plan;
mod pools;
mod remove;
mod run;
mod show;
mod status;

use std::process::ExitCode;

pub(crate) use cli::Cli;
use cli::Verb;

use crate::node::apply::Error;

/// Whether the node is not as it was before the command that failed with this.
pub(crate) fn has_changed_the_node(error: &anyhow::Error) -> bool {
    error.is::<apply::NotKept>()
        || error.is::<remove::NotForgotten>()
        || error.downcast_ref::<Error>().is_some_and(Error::has_changed_the_node)
}

/// Does what the command line asks for, and gives the status to end with.
///
/// # Errors
/// Those of the command.
pub(crate) async fn carry_out(cli: &Cli) -> anyhow::Result<ExitCode> {
    match &cli.verb {
        Verb::Plan { input, json, check } => plan::plan(cli, input, *json, *check).await,
        Verb::Apply { input, safety } => apply::apply(cli, input, safety).await,
        Verb::Show { json } => show::show(*json).await,
        Verb::Remove { safety } => remove::remove(cli, safety).await,
        Verb::Install { places, plugin, print } => install::install(cli, places, plugin, *print),
        Verb::Uninstall { places, state } => install::uninstall(cli, places, *state),
        Verb::Status(options) => status::status(options).await,
        Verb::Doctor(options) => doctor::doctor(cli, options).await,
        Verb::Check(options) => check::check(options).await,
        Verb::Pools(options) => pools::pools(cli, options).await,
        Verb::Health { question, place } => health::ask(*question, &place.health_socket).await,
        Verb::Run(options) => run::run(cli, options).await,
    }
}
