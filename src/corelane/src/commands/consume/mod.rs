//! `corelane consume`: records to stdout until the end of the topic, the count, or Ctrl-C.

mod printer;

use std::future::Future;
use std::io::Stdout;
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use client::{Client, Consumer, OffsetReset, Record};
use futures_util::FutureExt;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::printer::Printer;
use super::error::CommandError;
use super::{Outcome, connect};
use crate::args::client::ConsumeArgs;
use model::StartPosition;

/// Records printed before signals and the clock are looked at again.
const RECORDS_PER_LOOK: u64 = 4096;
/// How often a busy named consumer commits.
const COMMIT_EVERY: Duration = Duration::from_secs(1);

pub fn run(args: ConsumeArgs) -> Result<Outcome, CommandError> {
    connect::with_client(&args.server, async |client| consume(&client, &args).await)?;
    Ok(Outcome::Done)
}

async fn consume(client: &Client, args: &ConsumeArgs) -> Result<(), CommandError> {
    let mut interrupts = Interrupts::catch()?;
    let mut stop = pin!(interrupts.wait());
    let consumer = open(client, args).await?;
    let printer = Printer::new(args.format.clone(), std::io::stdout());
    let commits = args.consumer.is_some();
    let mut session = Session { consumer, printer, commits, committed_at: Instant::now() };
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let Some(record) = session.next(stop.as_mut()).await? else { break };
        session.print(&record)?;
        left -= 1;
        if left.is_multiple_of(RECORDS_PER_LOOK) {
            if stop.as_mut().now_or_never().is_some() {
                break;
            }
            session.commit_when_due().await?;
        }
    }
    session.settle().await
}

async fn open(client: &Client, args: &ConsumeArgs) -> Result<Consumer, CommandError> {
    let start = args.start();
    // An offset asked for by its number is meant; all others mean "what there is".
    let reset = match start {
        StartPosition::Offset(_) => OffsetReset::Error,
        _ => OffsetReset::First,
    };
    let mut builder =
        client.consumer(args.topic.as_str()).start(start).reset(reset).until_end(!args.follow);
    if let Some(partition) = args.partition {
        builder = builder.partition(partition);
    }
    if let Some(name) = &args.consumer {
        builder = builder.name(name.as_str());
    }
    Ok(builder.build().await?)
}

struct Session {
    consumer: Consumer,
    printer: Printer<Stdout>,
    commits: bool,
    committed_at: Instant,
}

impl Session {
    /// The next record; `None` at the end or when asked to stop. Before it waits, all that was
    /// printed leaves the process and is committed.
    async fn next(
        &mut self,
        stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Option<Record>, CommandError> {
        let record = match self.consumer.next().now_or_never() {
            Some(record) => record,
            None => {
                self.printer.flush().map_err(CommandError::Output)?;
                self.commit_when_due().await?;
                tokio::select! {
                    biased;
                    () = stop => None,
                    record = self.next_committing() => record?,
                }
            }
        };
        Ok(record.transpose()?)
    }

    /// Waits for the next record; commits what is not committed yet while there is time for it.
    async fn next_committing(
        &mut self,
    ) -> Result<Option<Result<Record, client::Error>>, CommandError> {
        if self.commits {
            let wait = COMMIT_EVERY.saturating_sub(self.committed_at.elapsed());
            match tokio::time::timeout(wait, self.consumer.next()).await {
                Ok(record) => return Ok(record),
                Err(_) => self.commit().await?,
            }
        }
        Ok(self.consumer.next().await)
    }

    fn print(&mut self, record: &Record) -> Result<(), CommandError> {
        self.printer.print(&record.into()).map_err(CommandError::Output)
    }

    async fn commit_when_due(&mut self) -> Result<(), CommandError> {
        if self.commits && self.committed_at.elapsed() >= COMMIT_EVERY {
            self.commit().await?;
        }
        Ok(())
    }

    /// Commits what was given out, and that has left the process before: a message is printed
    /// again after a crash rather than never.
    async fn commit(&mut self) -> Result<(), CommandError> {
        self.printer.flush().map_err(CommandError::Output)?;
        self.consumer.commit().await?;
        self.committed_at = Instant::now();
        Ok(())
    }

    /// Everything printed is out, and committed where there is a name.
    async fn settle(&mut self) -> Result<(), CommandError> {
        self.printer.flush().map_err(CommandError::Output)?;
        if self.commits { self.commit().await } else { Ok(()) }
    }
}

/// SIGINT and SIGTERM, which end a consumer cleanly.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    fn catch() -> Result<Self, CommandError> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(CommandError::Runtime)?,
            terminate: signal(SignalKind::terminate()).map_err(CommandError::Runtime)?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
