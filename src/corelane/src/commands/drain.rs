//! `corelane drain`: moves clients off a core or the server, and lets them come again.

use std::time::{Duration, Instant};

use client::Client;
use model::CoreId;
use model::reply::ServerStatus;
use serde_json::json;

use super::error::CommandError;
use super::{Outcome, connect, output};
use crate::args::Output;
use crate::args::client::DrainArgs;

/// How often the connections left are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub fn run(args: &DrainArgs) -> Result<Outcome, CommandError> {
    let core = args.core.map(CoreId);
    let left = connect::with_operator(&args.server, async |client| {
        if args.undo {
            client.undo_drain(core).await?;
            return Ok(0);
        }
        client.drain(core, args.grace).await?;
        match args.wait {
            Some(wait) => wait_until_left(&client, core, wait).await,
            None => Ok(connections(&client.status().await?, core)),
        }
    })?;
    match args.output.output {
        Output::Text => output::print(&text(args, left))?,
        Output::Json => output::print_json(&json!({
            "core": args.core,
            "draining": !args.undo,
            "connections_left": left,
        }))?,
    }
    Ok(if args.wait.is_some() && left > 0 { Outcome::Bad } else { Outcome::Done })
}

async fn wait_until_left(
    client: &Client,
    core: Option<CoreId>,
    wait: Duration,
) -> Result<u32, CommandError> {
    let began = Instant::now();
    loop {
        let left = connections(&client.status().await?, core);
        if left == 0 || began.elapsed() >= wait {
            return Ok(left);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn connections(status: &ServerStatus, core: Option<CoreId>) -> u32 {
    let cores = status.cores.iter().filter(|found| core.is_none_or(|core| core == found.core));
    cores.map(|core| core.connections).sum()
}

fn text(args: &DrainArgs, left: u32) -> String {
    let drained = left == 0;
    let what = args.core.map_or_else(|| "the server".to_owned(), |core| format!("core {core}"));
    let left = match left {
        1 => "1 connection is left".to_owned(),
        left => format!("{left} connections are left"),
    };
    match (args.undo, args.wait) {
        (true, _) => format!("{what} takes clients again\n"),
        (false, None) => format!(
            "{what} is being drained, {left}; `corelane status` shows how far it \
             is\n"
        ),
        (false, Some(_)) if drained => format!("{what} is drained: no clients are left\n"),
        (false, Some(_)) => format!(
            "{what} is being drained, but {left}: raise --wait above the \
             grace and the longest request, or look at `corelane status`\n"
        ),
    }
}
