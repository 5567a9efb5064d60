//! What the machine can do with no broker in the way: its disk, its loopback, and the bare append
//! loop that every figure of the broker is a share of.

mod append;
mod assembly;
mod blocks;
mod read;
mod space;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use model::PartitionHandle;
use tuning::{DiskBounds, LoopbackBounds};

use crate::error::BenchError;
use crate::generator::{Connection, Generator, Interval, Measured, Mill, Plan, Producer, Role};
use crate::ledger::Verdict;
use crate::options::{Options, RawPart, Work};
use crate::place::Scratch;
use crate::report::{DiskReport, Figures, LoopbackReport, MachineReport, RawReport, Settings};
use crate::{cpu, wire};
use append::{AppendConfig, AppendLoop};

/// The file that is overwritten again and again (`recycled`), or one of a chain, bytes.
const FILE_BYTES: u64 = 1024 * 1024 * 1024;
const CHAIN_FILE_BYTES: u64 = 256 * 1024 * 1024;

/// Runs the parts asked for.
pub fn run(options: &Options, stop: &Arc<AtomicBool>) -> Result<RawReport, BenchError> {
    let scratch = Scratch::make(options.data_dir.as_deref())?;
    let cpus = cpu::Layout::choose(1, options.cpu);
    let mut report = RawReport {
        work: Work::Raw,
        disk: None,
        loopback: None,
        append: None,
        settings: Settings::new(options, cpus.generator),
        machine: MachineReport::read(Some(scratch.path()), options.commit.as_deref()),
        notes: cpus.notes(),
    };
    if options.wants(RawPart::Disk) {
        report.disk = Some(disk(scratch.path())?);
    }
    if stop.load(Ordering::Relaxed) {
        return Err(BenchError::Interrupted);
    }
    if options.wants(RawPart::Loopback) {
        report.loopback = Some(loopback()?);
    }
    if options.wants(RawPart::Append) {
        let file_bytes = match options.space {
            crate::Space::Recycled => FILE_BYTES,
            _ => CHAIN_FILE_BYTES,
        };
        report.append = Some(append(options, &scratch, &cpus, file_bytes, stop)?);
    }
    Ok(report)
}

fn disk(dir: &Path) -> Result<DiskReport, BenchError> {
    let figures = tuning::disk_self_test(dir, &DiskBounds::default())
        .map_err(|error| BenchError::SelfTest(error.to_string()))?;
    Ok(DiskReport {
        write_durable_4k_us: figures.write_durable_4k_us,
        write_durable_256k_depth4_bytes_per_s: figures.write_durable_256k_depth4_bytes_per_s,
        read_sequential_bytes_per_s: read::sequential_bytes_per_s(dir)?,
        direct: figures.direct,
    })
}

fn loopback() -> Result<LoopbackReport, BenchError> {
    let cpus: Vec<u32> = cpu::allowed().iter().map(|cpu| *cpu as u32).collect();
    let figures = tuning::loopback_self_test(&LoopbackBounds::on(&cpus))
        .map_err(|error| BenchError::SelfTest(error.to_string()))?;
    Ok(LoopbackReport {
        round_trip_64b_us: figures.round_trip_64b_us,
        stream_64k_bytes_per_s: figures.stream_64k_bytes_per_s,
        eventfd_round_trip_us: figures.eventfd_round_trip_us,
    })
}

/// Drives the bare loop with the generator.
fn append(
    options: &Options,
    scratch: &Scratch,
    cpus: &cpu::Layout,
    file_bytes: u64,
    stop: &Arc<AtomicBool>,
) -> Result<Figures, BenchError> {
    let partitions = vec![PartitionHandle::default(); options.partitions_total()];
    let mill = Arc::new(Mill::new(&partitions, options.ack, options.size, options.batch, 0)?);
    let server = AppendLoop::start(AppendConfig {
        dir: scratch.path().to_owned(),
        space: options.space,
        file_bytes,
        ack: options.ack,
        connections: options.connections,
        frame_bytes: mill.frame_bytes(),
        cpu: cpus.server.first().copied(),
    })?;
    let measured = cpus.on_generator_cpu(|| drive(options, &mill, &server, stop));
    let ended = server.stop();
    let measured = match (measured, ended) {
        // The loop's own failure is the reason for the other one.
        (_, Err(error)) => return Err(error),
        (measured, Ok(())) => measured?,
    };
    let verdict = Verdict { checked: measured.acknowledged_total, ..Verdict::default() };
    let of = "publish to acknowledgement";
    Ok(Figures::new(&measured, measured.acknowledged, options, of, verdict))
}

fn drive(
    options: &Options,
    mill: &Arc<Mill>,
    server: &AppendLoop,
    stop: &Arc<AtomicBool>,
) -> Result<Measured, BenchError> {
    let all: Vec<u32> = (0..options.partitions_total() as u32).collect();
    let mut connections = Vec::with_capacity(options.connections);
    for at in 0..options.connections {
        let turn = at * all.len() / options.connections;
        let mill = Arc::clone(mill);
        let producer = Producer::new(at as u32, mill, &all, turn, options.in_flight);
        let socket = wire::connect(server.address, false)?;
        connections.push(Connection::new(socket, Role::Producer(producer)));
    }
    let mut generator = Generator::new(connections, 64 * 1024, Arc::clone(stop))?;
    generator.run(&Plan {
        warmup: options.warmup,
        duration: Some(options.duration),
        requests_per_s: options.rate.map(|rate| rate / options.batch as f64),
        requests_each: None,
        interval: Interval::SendToAck,
        progress: (!options.quiet).then_some("append"),
        size: options.size,
        meter: server.meter.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Space;
    use model::AckLevel;
    use std::time::Duration;

    fn run_once(change: impl FnOnce(&mut Options)) -> Figures {
        let mut options = Options {
            connections: 3,
            in_flight: 8,
            duration: Duration::from_millis(200),
            warmup: Duration::ZERO,
            quiet: true,
            ..Options::new(Work::Raw)
        };
        change(&mut options);
        let dir = tempfile::tempdir_in(".").unwrap();
        let scratch = Scratch::make(Some(dir.path())).unwrap();
        let cpus = cpu::Layout::choose(1, None);
        let stop = Arc::new(AtomicBool::new(false));
        // Small files, so that a short run goes through several.
        append(&options, &scratch, &cpus, 2 * 1024 * 1024, &stop).unwrap()
    }

    /// The acknowledgements are checked as they come: each request once, offsets rising.
    #[test]
    fn every_frame_is_acknowledged_in_every_kind_of_space() {
        for space in [Space::Recycled, Space::Fresh, Space::Fallocated] {
            let figures = run_once(|o| (o.space, o.batch) = (space, 3));
            assert!(figures.verdict.checked > 0 && figures.verdict.is_clean(), "{space:?}");
        }
    }

    #[test]
    fn frames_larger_than_a_receive_buffer_and_a_lockstep_work_too() {
        let large = run_once(|o| (o.size, o.batch) = (1024, 300));
        assert!(large.verdict.checked > 0);
        let lockstep = run_once(|o| (o.connections, o.in_flight, o.size) = (1, 1, 100));
        assert!(lockstep.verdict.checked > 0 && lockstep.latency_us.p50 > 0.0);
    }

    #[test]
    fn memory_acks_do_not_wait_and_an_open_loop_keeps_its_rate() {
        let memory = run_once(|o| (o.ack, o.in_flight) = (AckLevel::Memory, 64));
        assert!(memory.verdict.checked > 0);
        let open = run_once(|o| (o.rate, o.duration) = (Some(500.0), Duration::from_secs(1)));
        // Not a timing: no more can be there than were due in the time it took.
        let due = 500.0 * open.seconds + 1.0;
        assert!(open.messages > 0 && open.messages as f64 <= due, "{open:?}");
    }
}
