//! `corelane bench`: what a broker does under load, and what the machine could do at best.
//!
//! [`run`] makes one run and gives back a [`Report`]. Latency counts from the moment a request
//! was meant to be sent; every payload carries a sequence and a checksum, and the report says
//! what was lost, repeated, out of order or altered. The generator speaks the native protocol and
//! knows nothing of the broker's insides.

mod cpu;
mod embedded;
mod error;
mod generator;
mod latency;
mod ledger;
mod options;
mod payload;
mod place;
mod pool;
mod raw;
mod report;
mod run;
mod schedule;
mod signals;
mod wire;

pub use error::BenchError;
pub use latency::LatencyUs;
pub use ledger::Verdict;
pub use options::{Options, RawPart, Route, Space, Work};
pub use report::{
    DiskReport, Figures, LoopbackReport, MachineReport, RawReport, Report, RunReport, Settings,
};

/// Makes one run, as long as its options say. Lines of progress go to stderr.
///
/// A server that was started for the run is ended on every way out, signals included.
pub fn run(options: &Options) -> Result<Report, BenchError> {
    options.check()?;
    let signals = signals::Signals::catch()?;
    let stop = signals.stop();
    match options.work {
        Work::Raw => raw::run(options, &stop).map(|report| Report::Raw(Box::new(report))),
        _ => run::run(options, &stop).map(|report| Report::Run(Box::new(report))),
    }
}
