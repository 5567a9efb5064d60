//! Why a scenario failed.

use std::time::Duration;

use crate::process::ProcessError;

#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    #[error("BROKEN PROMISE: {0}")]
    Violated(String),
    #[error("cannot {doing}: {source}")]
    Client { doing: &'static str, source: client::Error },
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("no record came within {0:?}")]
    NoRecord(Duration),
    #[error("{what} did not end within {after:?}")]
    TooLong { what: &'static str, after: Duration },
    #[error("{who} ended early: {how}")]
    Ended { who: &'static str, how: String },
    #[error(
        "retention removed messages of partition {partition} before they were checked; give the \
         run more room (retention) or a slower rate"
    )]
    Outrun { partition: u32 },
    #[error("interrupted; everything started has been ended")]
    Interrupted,
    #[error("{doing}: {source}")]
    Io { doing: &'static str, source: std::io::Error },
}

impl ScenarioError {
    pub(crate) fn client(doing: &'static str) -> impl FnOnce(client::Error) -> Self {
        move |source| Self::Client { doing, source }
    }

    pub(crate) fn io(doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}

pub(crate) fn violated<T>(text: String) -> Result<T, ScenarioError> {
    Err(ScenarioError::Violated(text))
}
