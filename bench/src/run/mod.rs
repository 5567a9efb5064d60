//! Runs against a broker: set the stage, drive the load, check what came of it.

mod bed;
#[cfg(test)]
mod fake;
mod load;
mod plan;
mod space;
mod sweep;
#[cfg(test)]
mod tests;
mod topics;
mod watch;
mod work;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::error::BenchError;
use crate::options::{Options, Space, Work};
use crate::report::{Broker, MachineReport, Report, SCHEMA};
use crate::schedule::OpenLoop;
use crate::{ceilings, settings, validity};
pub use bed::Bed;
use watch::Watch;
use work::Run;

pub use load::{dice, rng};
pub use sweep::{SweepOptions, sweep};
pub use topics::Topics;

/// Most payload bytes read back after a produce run.
const READ_BACK_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// Makes one run.
pub fn run(options: &Options, stop: &Arc<AtomicBool>) -> Result<Report, BenchError> {
    let mut session = Session::open(options, stop)?;
    let report = session.measure(options, READ_BACK_BYTES, stop)?;
    session.close()?;
    Ok(report)
}

/// A server to make runs against, one after the other.
pub struct Session {
    bed: Bed,
    /// What the log's writes land on.
    space: Space,
    broker: Broker,
}

impl Session {
    /// Finds or starts the server, and brings its log to the state asked for.
    pub fn open(options: &Options, stop: &Arc<AtomicBool>) -> Result<Self, BenchError> {
        let mut bed = Bed::make(options)?;
        let writes = options.work != Work::Consume;
        let space = if writes { space::prepare(options, &mut bed, stop)? } else { Space::Fresh };
        let broker = Broker {
            name: "corelane".to_owned(),
            version: bed.control.status().map(|status| status.version).unwrap_or_default(),
            durability: durability(options).to_owned(),
            settings: bed.settings(),
        };
        Ok(Self { bed, space, broker })
    }

    /// One run; its topics are removed afterwards. `read_back_bytes`: most payload that a produce
    /// run reads back to check it.
    pub fn measure(
        &mut self,
        options: &Options,
        read_back_bytes: u64,
        stop: &Arc<AtomicBool>,
    ) -> Result<Report, BenchError> {
        let bed = &mut self.bed;
        let watch = Watch::start(bed.address);
        let bell = watch.as_ref().map(Watch::bell);
        let mut run = Run { options, stop, bed: &mut *bed, read_back_bytes, bell };
        let done = match options.work {
            Work::Consume => run.consume()?,
            Work::E2e => run.e2e()?,
            Work::Produce | Work::Raw => run.produce()?,
        };
        drop(run);
        let stages = watch.map(Watch::finish).unwrap_or_default();
        bed.control.delete_topics(&done.topics.names)?;
        let mut notes = bed.cpus.notes();
        notes.append(&mut bed.notes);
        let (figures, reasons) =
            validity::figures(&done.measured, options, done.latency_of, done.verdict);
        if figures.rate_kept == Some(false) {
            notes.push("the rate was not kept: latencies count from when requests were due".into());
        }
        let predicted = options.predicted.as_ref();
        let ceilings = predicted.map(|known| ceilings::against(known, options, &figures));
        let (server_cores, space) = (Some(bed.cores.len() as u16), self.space);
        let asked = Options { server_cores, space, ..options.clone() };
        Ok(Report {
            schema: SCHEMA,
            work: options.work.as_str().to_owned(),
            title: String::new(),
            valid: reasons.is_empty(),
            invalid_because: reasons,
            partial: done.measured.partial,
            figures,
            broker: self.broker.clone(),
            settings: settings::of(&asked, bed.cpus.generator),
            machine: MachineReport::read(bed.data_dir.as_deref(), options.commit.as_deref()),
            stages,
            server_memory: done.memory,
            ceilings: ceilings.unwrap_or_default(),
            sweep: None,
            notes,
        })
    }

    /// Ends the server, if it was started here.
    pub fn close(self) -> Result<(), BenchError> {
        self.bed.close()
    }
}

/// The times of an open loop's requests; `None` for the closed loop.
pub fn open_loop(options: &Options) -> Result<Option<OpenLoop>, BenchError> {
    options
        .pace
        .open_loop(options.warmup, options.duration, options.batch, options.seed)
        .map_err(|error| BenchError::Options(error.to_string()))
}

fn durability(options: &Options) -> &'static str {
    match options.ack {
        model::AckLevel::Durable => "durable: on disk before it is acknowledged",
        model::AckLevel::Memory => "memory: acknowledged before it is on disk",
        model::AckLevel::None => "none: not acknowledged",
    }
}
