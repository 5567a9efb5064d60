//! `corelane log-filter`: changes what a running server logs.

use super::error::CommandError;
use super::{Outcome, connect, output};
use crate::args::client::LogFilterArgs;

pub fn run(args: &LogFilterArgs) -> Result<Outcome, CommandError> {
    connect::with_operator(&args.server, async |client| {
        Ok(client.set_log_filter(args.filter.as_str()).await?)
    })?;
    output::print(&format!("the server logs {} until its next start\n", args.filter))?;
    Ok(Outcome::Done)
}
