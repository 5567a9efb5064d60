//! The client's side of every command that talks to a server.

use std::future::Future;

use client::Client;
use server::logging::{self, LogFormat};

use super::error::CommandError;
use crate::args::ServerArg;

/// Runs `work` with a client of the server named on the command line. What the client warns of
/// goes to stderr.
pub fn with_client<T, W, F>(server: &ServerArg, work: W) -> Result<T, CommandError>
where
    W: FnOnce(Client) -> F,
    F: Future<Output = Result<T, CommandError>>,
{
    with(server, false, work)
}

/// The same as an operator, who is let in where a bound or a drain refuses others.
pub fn with_operator<T, W, F>(server: &ServerArg, work: W) -> Result<T, CommandError>
where
    W: FnOnce(Client) -> F,
    F: Future<Output = Result<T, CommandError>>,
{
    with(server, true, work)
}

fn with<T, W, F>(server: &ServerArg, operator: bool, work: W) -> Result<T, CommandError>
where
    W: FnOnce(Client) -> F,
    F: Future<Output = Result<T, CommandError>>,
{
    logging::start(LogFormat::Text, "warn").map_err(CommandError::Logging)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CommandError::Runtime)?;
    runtime.block_on(async {
        let client = Client::builder()
            .server(&server.server)
            .client_name(concat!("corelane-cli/", env!("CARGO_PKG_VERSION")))
            .operator(operator)
            .build()
            .await?;
        work(client).await
    })
}
