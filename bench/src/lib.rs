//! `corelane bench`: what a broker does under load, and what the machine could do at best.
//!
//! [`run`] makes one run and gives back a [`Report`]. Latency counts from the moment a request
//! was meant to be sent; every payload carries a sequence and a checksum, and the report says
//! what was lost, repeated, out of order or altered. The generator speaks the native protocol and
//! knows nothing of the broker's insides.
//!
//! A harness for other brokers uses the parts that know no broker at all: [`schedule`] (when to
//! send), [`payload`] and [`ledger`] (what to send, and whether all of it came), [`record`] (what
//! was measured) and [`report`].

mod ceilings;
pub mod compare;
mod cpu;
mod embedded;
mod error;
mod generator;
pub mod ledger;
mod options;
mod pace;
pub mod payload;
mod place;
mod pool;
mod progress;
mod raw;
pub mod record;
pub mod report;
mod run;
pub mod schedule;
mod search;
mod settings;
mod signals;
mod through_client;
mod validity;
mod wire;
pub mod workload;

pub use cpu::{Layout, Meter};
pub use error::BenchError;
pub use ledger::Verdict;
pub use options::{
    ClientLoad, Options, RATE_DEFAULT, RawPart, Route, Source, Space, Work, in_flight_open,
};
pub use pace::{Pace, Rates};
pub use report::{RawReport, Report};
pub use run::SweepOptions;
pub use search::{Objective, Percentile};
pub use workload::{Keys, Sizes};

/// Makes one run against a broker, as long as its options say. Progress goes to stderr. A signal
/// ends the measured part early, a second one the run.
///
/// A server that was started for the run is ended on every way out, signals included.
pub fn run(options: &Options) -> Result<Report, BenchError> {
    options.check()?;
    let signals = signals::Signals::catch()?;
    run::run(options, &signals.stop())
}

/// Looks for the highest rate that keeps the objectives; the report is of a run at that rate.
pub fn sweep(options: &Options, wanted: &SweepOptions) -> Result<Report, BenchError> {
    options.check()?;
    wanted.check(options)?;
    let signals = signals::Signals::catch()?;
    run::sweep(options, wanted, &signals.stop())
}

/// Measures what the machine can do with no broker.
pub fn raw(options: &Options) -> Result<RawReport, BenchError> {
    options.check()?;
    let signals = signals::Signals::catch()?;
    raw::run(options, &signals.stop())
}
