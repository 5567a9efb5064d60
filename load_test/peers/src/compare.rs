//! A comparison: broker by broker, level by level, workload by workload.

use std::fmt::Write;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bench::report::{Broker as BrokerReport, MachineReport, Report, SCHEMA, Settings};
use tokio::task::LocalSet;

use crate::driver::Broker;
use crate::drivers;
use crate::peer::{Level, Peer};
use crate::report::{Absence, Comparison, Row, RowOutcome, Subject};
use crate::run::{self, Extent, Meter, RunError};
use crate::server::{Script, Server, ServerError, Setting};
use crate::stop::Stop;
use crate::workload::Workload;

/// Longest time a server may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(90);
/// What a workload may take beyond its own time: filling, reading back, clearing away.
const WORKLOAD_SLACK: Duration = Duration::from_secs(90);
/// Longest time for each of making, first using and removing the topics of a workload.
const STAGE_TIME_MAX: Duration = Duration::from_secs(60);
/// What a server does before anything counts.
const WARM_UP: [&str; 2] = ["window-1k", "batch-100"];

/// What a comparison is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// In this order; empty: all, with Corelane first and again last.
    pub peers: Vec<Peer>,
    pub levels: Vec<Level>,
    pub workloads: Vec<Workload>,
    pub duration: Duration,
    pub warmup: Duration,
    /// How long each server works before anything counts.
    pub server_warmup: Duration,
    /// What is published before a consume run, at most.
    pub preload_bytes: u64,
    /// Servers that run already.
    pub addresses: Vec<(Peer, String)>,
    pub server_cpus: String,
    pub load_cpu: usize,
    pub folder: PathBuf,
    /// A server that cannot be had is an error.
    pub strict: bool,
}

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    #[error("cannot start a runtime: {0}")]
    Runtime(std::io::Error),
    #[error("cannot catch signals: {0}")]
    Signals(std::io::Error),
    #[error("CPU {0} cannot be used for the load; name another with --load-cpu")]
    LoadCpu(usize),
    #[error("{peer} cannot be measured: {why}")]
    Absent { peer: Peer, why: String },
}

/// Runs it. What a broker cannot do is told in the result.
pub fn run(options: &Options) -> Result<Comparison, CompareError> {
    // Before any thread is made, so that those of the clients stay there, too.
    if !core_affinity::set_for_current(core_affinity::CoreId { id: options.load_cpu }) {
        return Err(CompareError::LoadCpu(options.load_cpu));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(CompareError::Runtime)?;
    let mut stop = {
        let _inside = runtime.enter();
        Stop::listen().map_err(CompareError::Signals)?
    };
    let machine = MachineReport::read(Some(&options.folder), None);
    let mut comparison = Comparison::new(machine, command_line());
    let order = order(&options.peers);
    for (at, peer) in order.iter().copied().enumerate() {
        let pass = order[..at].iter().filter(|earlier| **earlier == peer).count() as u32 + 1;
        let visit = Visit { options, peer, pass };
        let why = match visit.make(&runtime, &mut comparison, &mut stop) {
            Ok(()) => continue,
            Err(Trouble::Absent(why)) if options.strict => {
                return Err(CompareError::Absent { peer, why });
            }
            Err(Trouble::Absent(why)) => why,
            Err(Trouble::Stopped) => {
                let why = "a signal ended the comparison in its turn".to_owned();
                comparison.absent(Absence { peer, why });
                break;
            }
        };
        eprintln!("{peer}: {why}");
        comparison.absent(Absence { peer, why });
    }
    Ok(comparison)
}

/// Corelane opens and closes the comparison, so that a machine that drifts shows.
fn order(asked: &[Peer]) -> Vec<Peer> {
    if !asked.is_empty() {
        return asked.to_vec();
    }
    Peer::ALL.into_iter().chain([Peer::Corelane]).collect()
}

/// Why a broker's turn came to nothing more.
enum Trouble {
    /// It cannot be had, for this reason.
    Absent(String),
    /// A signal came.
    Stopped,
}

impl From<ServerError> for Trouble {
    fn from(error: ServerError) -> Self {
        Self::Absent(error.to_string())
    }
}

/// One broker's turn.
struct Visit<'a> {
    options: &'a Options,
    peer: Peer,
    /// 1, or 2 when it is its second turn.
    pass: u32,
}

impl Visit<'_> {
    fn make(
        &self,
        runtime: &tokio::runtime::Runtime,
        comparison: &mut Comparison,
        stop: &mut Stop,
    ) -> Result<(), Trouble> {
        let peer = self.peer;
        if !drivers::is_built_in(peer) {
            return Err(Trouble::Absent(drivers::not_built_in(peer)));
        }
        let script = Script::of(peer);
        let given = self.options.addresses.iter().find(|(of, _)| *of == peer);
        let version = match given {
            Some(_) => "as found".to_owned(),
            None => {
                script.get()?;
                script.version()?
            }
        };
        for level in self.options.levels.iter().copied() {
            if let Some(why) = peer.lacks(level) {
                comparison.lacks(peer, level, why);
                continue;
            }
            let settings = match given {
                Some(_) => Vec::new(),
                None => script.settings(level)?,
            };
            let subject = Subject { peer, level, version: version.clone(), settings };
            comparison.subject(subject.clone());
            let address = given.map(|(_, address)| address.as_str());
            // A fresh LocalSet each time: what a client left running ends with it.
            let local = LocalSet::new();
            local.block_on(runtime, async {
                tokio::select! {
                    biased;
                    () = stop.asked() => Err(Trouble::Stopped),
                    done = self.level(&script, &subject, address, comparison) => {
                        done.map_err(Trouble::Absent)
                    }
                }
            })?;
        }
        Ok(())
    }

    async fn level(
        &self,
        script: &Script,
        subject: &Subject,
        address: Option<&str>,
        comparison: &mut Comparison,
    ) -> Result<(), String> {
        let (options, peer, level) = (self.options, self.peer, subject.level);
        let server = match address {
            Some(_) => None,
            None => Some(
                script
                    .start(level, &options.folder, &options.server_cpus)
                    .map_err(|error| error.to_string())?,
            ),
        };
        let address = match (&server, address) {
            (Some(server), _) => server.address().to_string(),
            (None, address) => address.unwrap_or_default().to_owned(),
        };
        let meter = Meter::of(server.as_ref().map(Server::pid));
        let deadline = Instant::now() + START_TIMEOUT;
        let broker = match drivers::connect(peer, &address, level, deadline).await {
            Ok(broker) => broker,
            Err(error) => {
                let log = server.as_ref().map(Server::log_tail).unwrap_or_default();
                return Err(format!("it did not answer at {address}: {error}\n{log}"));
            }
        };
        self.warm(&broker, meter).await;
        for workload in &options.workloads {
            let outcome = self.workload(&broker, subject, workload, meter, &address).await;
            tell(peer, level, workload, &outcome);
            let row =
                Row { peer, level, workload: workload.name.to_owned(), pass: self.pass, outcome };
            comparison.row(row);
        }
        drop(broker);
        match server {
            Some(server) => server.stop().map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }

    /// Gives the server some work of single messages and some of batches, which is read back, that
    /// nobody looks at: a server that compiles its code as it runs is not measured cold.
    async fn warm(&self, broker: &Rc<dyn Broker>, meter: Meter) {
        let duration = self.options.server_warmup / WARM_UP.len() as u32;
        let stage_time_max = STAGE_TIME_MAX;
        let extent = Extent { warmup: Duration::ZERO, duration, preload_bytes: 0, stage_time_max };
        for name in WARM_UP {
            let Ok(workload) = name.parse::<Workload>() else { continue };
            let prefix = format!("p{}-warm", std::process::id());
            let work = run::run(broker, &workload, &prefix, extent, meter);
            // What goes wrong here goes wrong again where it is told.
            drop(tokio::time::timeout(duration + WORKLOAD_SLACK, work).await);
        }
    }

    async fn workload(
        &self,
        broker: &Rc<dyn Broker>,
        subject: &Subject,
        workload: &Workload,
        meter: Meter,
        address: &str,
    ) -> RowOutcome {
        let Options { warmup, duration, preload_bytes, .. } = *self.options;
        let extent = Extent { warmup, duration, preload_bytes, stage_time_max: STAGE_TIME_MAX };
        let prefix = format!("p{}-{}", std::process::id(), subject.level.as_str());
        let limit = warmup + duration + WORKLOAD_SLACK + 3 * STAGE_TIME_MAX;
        let work = run::run(broker, workload, &prefix, extent, meter);
        let outcome = match tokio::time::timeout(limit, work).await {
            Ok(Ok(outcome)) => outcome,
            // So many topics are beyond it: that is what was to be found out.
            Ok(Err(error @ RunError::Topics { .. })) if workload.has_many_topics() => {
                return RowOutcome::Beyond(error.to_string());
            }
            Ok(Err(error)) => return RowOutcome::Failed(error.to_string()),
            Err(_) => return RowOutcome::Failed(format!("it was not over after {limit:?}")),
        };
        let mut notes = outcome.notes;
        notes.extend(meter.resident_bytes_max().map(|bytes| {
            format!("the broker had at most {:.0} MiB resident so far", bytes as f64 / 1048576.0)
        }));
        RowOutcome::Measured(Box::new(Report {
            schema: SCHEMA,
            work: workload.name.to_owned(),
            title: format!("{}: {}", self.peer, workload.title),
            valid: outcome.invalid_because.is_empty(),
            invalid_because: outcome.invalid_because,
            partial: false,
            server_memory: None,
            stages: Vec::new(),
            ceilings: Vec::new(),
            sweep: None,
            figures: outcome.figures,
            broker: broker_report(subject),
            settings: self.settings(workload, subject.level, address),
            machine: MachineReport::read(Some(&self.options.folder), None),
            notes,
        }))
    }

    fn settings(&self, workload: &Workload, level: Level, address: &str) -> Settings {
        let rate = workload.requests_per_s().map(|rate| rate * workload.shape.batch as f64);
        Settings {
            size: workload.shape.size as f64,
            batch: workload.shape.batch,
            connections: workload.connections,
            in_flight: workload.shape.in_flight,
            pace: if rate.is_some() { "constant" } else { "closed loop" }.to_owned(),
            rate,
            duration_s: self.options.duration.as_secs_f64(),
            warmup_s: self.options.warmup.as_secs_f64(),
            ack: level.as_str().to_owned(),
            topics: workload.connections * workload.topics_each,
            partitions: 1,
            server: address.to_owned(),
            generator_cpu: Some(self.options.load_cpu),
            ..Settings::default()
        }
    }
}

fn broker_report(subject: &Subject) -> BrokerReport {
    let setting = |setting: &Setting| (setting.what.clone(), setting.why.clone());
    BrokerReport {
        name: subject.peer.title().to_owned(),
        version: subject.version.clone(),
        durability: subject.level.title().to_owned(),
        settings: subject.settings.iter().map(setting).collect(),
    }
}

fn tell(peer: Peer, level: Level, workload: &Workload, outcome: &RowOutcome) {
    let told = match outcome {
        RowOutcome::Measured(report) => {
            let figures = &report.figures;
            format!(
                "{:>12.0} msg/s {:>8.1} MB/s  p50 {:>8.1}  p99 {:>8.1} us{}",
                figures.messages_per_s,
                figures.bytes_per_s / 1e6,
                figures.latency_us.p50,
                figures.latency_us.p99,
                if figures.verdict.is_clean() { "" } else { "  NOT ALL IN ORDER" },
            )
        }
        RowOutcome::Failed(why) => format!("failed: {why}"),
        RowOutcome::Beyond(why) => format!("beyond it: {why}"),
    };
    eprintln!("{:<16} {:<8} {:<13} {told}", peer.as_str(), level.as_str(), workload.name);
}

/// Brokers, levels and workloads, for people.
pub fn list() -> String {
    let mut out = String::from("brokers\n");
    for peer in Peer::ALL {
        let built = if drivers::is_built_in(peer) { "" } else { " (not in this build)" };
        let _ = writeln!(out, "  {:<16} {peer}, by {}{built}", peer.as_str(), peer.client());
        for level in Level::ALL {
            if let Some(why) = peer.lacks(level) {
                let _ = writeln!(out, "  {:<16} not {}: {why}", "", level.as_str());
            }
        }
    }
    out.push_str("levels\n");
    for level in Level::ALL {
        let _ = writeln!(out, "  {:<16} {}", level.as_str(), level.title());
    }
    out.push_str("workloads\n");
    for workload in Workload::ALL {
        let _ = writeln!(out, "  {:<16} {}", workload.name, workload.title);
    }
    out
}

fn command_line() -> String {
    std::env::args().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::tests::{Fake, Fault};

    #[test]
    fn corelane_comes_first_and_last_unless_an_order_is_asked_for() {
        let order = order(&[]);
        assert_eq!((order.first(), order.last()), (Some(&Peer::Corelane), Some(&Peer::Corelane)));
        assert!(Peer::ALL.iter().all(|peer| order.contains(peer)));
        assert_eq!(super::order(&[Peer::Redis]), [Peer::Redis]);
    }

    /// One row of a broker made for it.
    fn row(fault: Fault, workload: &str) -> Row {
        let options = Options {
            peers: Vec::new(),
            levels: Level::ALL.to_vec(),
            workloads: Vec::new(),
            duration: Duration::from_millis(400),
            warmup: Duration::from_millis(20),
            server_warmup: Duration::ZERO,
            preload_bytes: 64 * 1024,
            addresses: Vec::new(),
            server_cpus: String::new(),
            load_cpu: 0,
            folder: PathBuf::from("."),
            strict: false,
        };
        let (peer, level) = (Peer::Nats, Level::Memory);
        let workload: Workload = workload.parse().unwrap();
        let visit = Visit { options: &options, peer, pass: 1 };
        let subject = Subject { peer, level, version: String::new(), settings: Vec::new() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let broker = Fake::make(fault);
        let work = visit.workload(&broker, &subject, &workload, Meter::of(None), "");
        let outcome = LocalSet::new().block_on(&runtime, work);
        Row { peer, level, workload: workload.name.to_owned(), pass: 1, outcome }
    }

    #[test]
    fn what_a_broker_does_wrong_is_wrong_with_the_comparison_and_what_it_cannot_keep_is_not() {
        let mut comparison = Comparison::new(MachineReport::default(), String::new());
        comparison.row(row(Fault::None, "lockstep-1"));
        let slow = row(Fault::Slow(Duration::from_millis(300)), "end-to-end");
        let RowOutcome::Measured(report) = &slow.outcome else { panic!("{slow:?}") };
        assert_eq!(report.figures.rate_kept, Some(false));
        comparison.row(slow);
        assert_eq!(comparison.wrongs(), None);
        comparison.row(row(Fault::RepeatsOne, "lockstep-1"));
        comparison.row(row(Fault::Refuses, "lockstep-4"));
        assert_eq!(
            comparison.wrongs().unwrap(),
            "of 4 rows 1 failed (nats memory lockstep-4), 1 with messages lost, repeated, out of \
             order or altered (nats memory lockstep-1)"
        );
    }

    #[test]
    fn the_list_names_everything() {
        let list = list();
        for name in Peer::ALL.map(Peer::as_str) {
            assert!(list.contains(name), "{name}");
        }
        assert!(Workload::ALL.iter().all(|workload| list.contains(workload.name)));
    }
}
