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
use crate::generator::{
    Connection, Form, Generator, Interval, Measured, Mill, Mills, Plan, Producer, Role,
};
use crate::ledger::Verdict;
use crate::options::{Options, RawPart};
use crate::place::Scratch;
use crate::report::{DiskReport, Figures, LoopbackReport, MachineReport, RawReport, SCHEMA};
use crate::run::{dice, open_loop};
use crate::{cpu, settings, validity, wire};
use append::{AppendConfig, AppendLoop};

/// The file that is overwritten again and again (`recycled`), or one of a chain, bytes.
const FILE_BYTES: u64 = 1024 * 1024 * 1024;
const CHAIN_FILE_BYTES: u64 = 256 * 1024 * 1024;

/// Runs the parts asked for.
pub fn run(options: &Options, stop: &Arc<AtomicBool>) -> Result<RawReport, BenchError> {
    let scratch = Scratch::make(options.data_dir.as_deref())?;
    let cpus = cpu::Layout::choose(1, options.cpu);
    let mut report = RawReport {
        schema: SCHEMA,
        work: "raw",
        valid: true,
        invalid_because: Vec::new(),
        disk: None,
        loopback: None,
        append: None,
        settings: settings::of(options, cpus.generator),
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
        let (figures, reasons) = append(options, &scratch, &cpus, file_bytes, stop)?;
        report.append = Some(figures);
        (report.valid, report.invalid_because) = (reasons.is_empty(), reasons);
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
) -> Result<(Figures, Vec<String>), BenchError> {
    let partitions = vec![PartitionHandle::default(); options.partitions_total()];
    let form = Form { ack: options.ack, batch: options.batch, keyed: false, time_ms: 0 };
    let sizes: Vec<usize> = options.sizes.classes().iter().map(|(size, _)| *size).collect();
    let mills: Arc<Mills> = Mill::all(&partitions, &form, &sizes, options.connections)?.into();
    let server = AppendLoop::start(AppendConfig {
        dir: scratch.path().to_owned(),
        space: options.space,
        file_bytes,
        ack: options.ack,
        connections: options.connections,
        frame_bytes: mills.iter().map(Mill::frame_bytes).max().unwrap_or(0),
        cpu: cpus.server.first().copied(),
    })?;
    let measured = cpus.on_generator_cpu(|| drive(options, &mills, &server, stop));
    let ended = server.stop();
    let measured = match (measured, ended) {
        // The loop's own failure is the reason for the other one.
        (_, Err(error)) => return Err(error),
        (measured, Ok(())) => measured?,
    };
    let verdict = Verdict { checked: measured.acknowledged_total, ..Verdict::default() };
    Ok(validity::figures(&measured, options, "publish to acknowledgement", verdict))
}

fn drive(
    options: &Options,
    mills: &Arc<Mills>,
    server: &AppendLoop,
    stop: &Arc<AtomicBool>,
) -> Result<Measured, BenchError> {
    let all: Vec<u32> = (0..options.partitions_total() as u32).collect();
    let mut connections = Vec::with_capacity(options.connections);
    for at in 0..options.connections {
        let turn = at * all.len() / options.connections;
        let (mills, dice) = (Arc::clone(mills), dice(options, at));
        let producer = Producer::new(at as u32, mills, dice, &all, turn, options.in_flight);
        let socket = wire::connect(server.address, false)?;
        connections.push(Connection::new(socket, Role::Producer(producer)));
    }
    let mut generator = Generator::new(connections, 64 * 1024, Arc::clone(stop))?;
    generator.run(&Plan {
        warmup: options.warmup,
        duration: Some(options.duration),
        open: open_loop(options)?,
        requests_each: None,
        interval: Interval::SendToAck,
        progress: (!options.quiet).then_some("append"),
        payload_bytes: options.sizes.mean(),
        meter: server.meter.clone(),
        bell: None,
        may_end_early: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Space, Work};
    use crate::pace::Pace;
    use crate::workload::Sizes;
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
        append(&options, &scratch, &cpus, 2 * 1024 * 1024, &stop).unwrap().0
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
        let large = run_once(|o| o.batch = 300);
        assert!(large.verdict.checked > 0);
        let lockstep =
            run_once(|o| (o.connections, o.in_flight, o.sizes) = (1, 1, Sizes::Fixed(100)));
        assert!(lockstep.verdict.checked > 0 && lockstep.latency_us.p50 > 0.0);
    }

    #[test]
    fn memory_acks_do_not_wait_and_an_open_loop_keeps_its_rate() {
        let memory = run_once(|o| (o.ack, o.in_flight) = (AckLevel::Memory, 64));
        assert!(memory.verdict.checked > 0);
        let mixed = run_once(|o| {
            o.sizes = Sizes::Weighted(vec![(24, 3), (3000, 1)]);
            o.duration = Duration::from_secs(1);
        });
        assert!(mixed.verdict.checked > 0 && mixed.verdict.is_clean());
        let mean = mixed.bytes_per_s / mixed.messages_per_s;
        assert!(mean > 24.0 && mean < 3000.0, "{mixed:?}");
        let open =
            run_once(|o| (o.pace, o.duration) = (Pace::constant(500.0), Duration::from_secs(1)));
        // Not a timing: no more can be there than were due in the time it took.
        let due = 500.0 * open.seconds + 1.0;
        assert!(open.messages > 0 && open.messages as f64 <= due, "{open:?}");
    }
}
