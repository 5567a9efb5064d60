//! What the loopback and a wake-up between two threads cost here, with plain blocking system
//! calls: the ceilings that the broker's figures are held against.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use serde::Serialize;

use crate::pin::pin_current_thread;
use crate::samples::{Percentiles, Samples, sample_ns};

const PING_BYTES: usize = 64;
const STREAM_BYTES: usize = 64 << 10;
/// A silent peer ends the test after this.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(5);
/// Round trips that are not counted.
const WARMUP: usize = 100;

/// How much the test may take. Each of its three phases ends at whichever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopbackBounds {
    pub phase_time: Duration,
    /// Round trips counted in each of the two latency phases.
    pub round_trips: usize,
    pub stream_bytes: u64,
    /// The CPUs of the two threads; `None` leaves them unpinned.
    pub cpus: Option<(u32, u32)>,
}

impl LoopbackBounds {
    /// About 6 s at most, one thread on each of the first two of `cpus`, unpinned where there are
    /// not two.
    pub fn on(cpus: &[u32]) -> Self {
        let cpus = match cpus {
            [first, second, ..] => Some((*first, *second)),
            _ => None,
        };
        Self {
            phase_time: Duration::from_secs(2),
            round_trips: 200_000,
            stream_bytes: 16 << 30,
            cpus,
        }
    }
}

/// The loopback's figures. A latency is a round trip as its starter sees it.
#[derive(Clone, Debug, Serialize)]
pub struct LoopbackFigures {
    pub round_trip_64b_us: Percentiles,
    /// One way, 64 KiB a write.
    pub stream_64k_bytes_per_s: f64,
    /// Two threads that wake each other through an eventfd each.
    pub eventfd_round_trip_us: Percentiles,
    #[serde(skip)]
    pub round_trip_64b: Samples,
    #[serde(skip)]
    pub eventfd_round_trip: Samples,
}

/// Why the loopback was not measured.
#[derive(Debug, thiserror::Error)]
#[error("the loopback test failed to {action}: {source}")]
pub struct LoopbackTestError {
    action: &'static str,
    source: io::Error,
}

/// Measures on 127.0.0.1 with two threads of its own; the caller's CPUs stay as they are. Blocks
/// for up to three times `bounds.phase_time`.
pub fn loopback_self_test(bounds: &LoopbackBounds) -> Result<LoopbackFigures, LoopbackTestError> {
    let failed = |action| move |source| LoopbackTestError { action, source };
    let round_trip = time_round_trips(bounds).map_err(failed("exchange 64 bytes"))?;
    let stream = stream_rate(bounds).map_err(failed("stream"))?;
    let wake = time_wakes(bounds).map_err(failed("wake a thread"))?;
    Ok(LoopbackFigures {
        round_trip_64b_us: round_trip.percentiles(),
        stream_64k_bytes_per_s: stream,
        eventfd_round_trip_us: wake.percentiles(),
        round_trip_64b: round_trip,
        eventfd_round_trip: wake,
    })
}

fn time_round_trips(bounds: &LoopbackBounds) -> io::Result<Samples> {
    let (mut near, mut far) = connected_pair()?;
    on_two_threads(
        bounds.cpus,
        move || {
            let mut message = [7; PING_BYTES];
            let samples = time_each(bounds, || {
                near.write_all(&message)?;
                near.read_exact(&mut message)
            });
            // Ends the echo, also after an error.
            let ended = near.shutdown(Shutdown::Both);
            samples.and_then(|samples| ended.map(|()| samples))
        },
        move || {
            let mut message = [0; PING_BYTES];
            loop {
                match far.read_exact(&mut message) {
                    Ok(()) => far.write_all(&message)?,
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
        },
    )
    .map(|(samples, ())| samples)
}

/// Bytes per second from the first write to the last byte's arrival.
fn stream_rate(bounds: &LoopbackBounds) -> io::Result<f64> {
    let (mut near, mut far) = connected_pair()?;
    let started = Instant::now();
    let (_, (received, ended)) = on_two_threads(
        bounds.cpus,
        move || {
            let payload = vec![7; STREAM_BYTES];
            let mut sent = 0;
            while sent == 0 || (sent < bounds.stream_bytes && started.elapsed() < bounds.phase_time)
            {
                near.write_all(&payload)?;
                sent += STREAM_BYTES as u64;
            }
            near.shutdown(Shutdown::Write)
        },
        move || {
            let mut buffer = vec![0; STREAM_BYTES];
            let mut received = 0u64;
            loop {
                match far.read(&mut buffer)? {
                    0 => return Ok((received, Instant::now())),
                    bytes => received += bytes as u64,
                }
            }
        },
    )?;
    Ok(received as f64 / (ended - started).as_secs_f64())
}

/// An eventfd counts 1 for a wake and this for the end.
const LAST_WAKE: u64 = 1 << 32;

fn time_wakes(bounds: &LoopbackBounds) -> io::Result<Samples> {
    let there = eventfd(0, EventfdFlags::CLOEXEC)?;
    let back = eventfd(0, EventfdFlags::CLOEXEC)?;
    let (there, back) = (&there, &back);
    on_two_threads(
        bounds.cpus,
        move || {
            let samples = time_each(bounds, || {
                add(there, 1)?;
                wait(back).map(|_| ())
            });
            add(there, LAST_WAKE)?;
            samples
        },
        move || {
            while wait(there)? < LAST_WAKE {
                add(back, 1)?;
            }
            Ok(())
        },
    )
    .map(|(samples, ())| samples)
}

fn add(event: &OwnedFd, count: u64) -> io::Result<()> {
    rustix::io::write(event, &count.to_ne_bytes())?;
    Ok(())
}

fn wait(event: &OwnedFd) -> io::Result<u64> {
    let mut count = [0; 8];
    rustix::io::read(event, &mut count)?;
    Ok(u64::from_ne_bytes(count))
}

fn time_each(
    bounds: &LoopbackBounds,
    mut round_trip: impl FnMut() -> io::Result<()>,
) -> io::Result<Samples> {
    for _ in 0..WARMUP {
        round_trip()?;
    }
    let mut latencies_ns = Vec::new();
    let started = Instant::now();
    loop {
        let before = Instant::now();
        round_trip()?;
        let after = Instant::now();
        latencies_ns.push(sample_ns(after - before));
        if latencies_ns.len() >= bounds.round_trips || after - started >= bounds.phase_time {
            return Ok(Samples::new(latencies_ns));
        }
    }
}

/// Runs both at once, each on its CPU, until both end. Neither starts its work unless both could
/// be pinned, as the other would wait for it.
fn on_two_threads<A: Send, B: Send>(
    cpus: Option<(u32, u32)>,
    first: impl FnOnce() -> io::Result<A> + Send,
    second: impl FnOnce() -> io::Result<B> + Send,
) -> io::Result<(A, B)> {
    let pinned = std::sync::Barrier::new(2);
    let all_pinned = std::sync::atomic::AtomicBool::new(true);
    let pin = |cpu: Option<u32>| -> io::Result<()> {
        let result = cpu.map_or(Ok(()), pin_current_thread);
        if result.is_err() {
            all_pinned.store(false, std::sync::atomic::Ordering::SeqCst);
        }
        pinned.wait();
        result?;
        if all_pinned.load(std::sync::atomic::Ordering::SeqCst) {
            Ok(())
        } else {
            Err(io::Error::other("the other thread could not be pinned"))
        }
    };
    let pin = &pin;
    std::thread::scope(|scope| {
        let first = scope.spawn(move || pin(cpus.map(|cpus| cpus.0)).and_then(|()| first()));
        let second = scope.spawn(move || pin(cpus.map(|cpus| cpus.1)).and_then(|()| second()));
        let panicked = || io::Error::other("a thread of the loopback test panicked");
        let first = first.join().map_err(|_| panicked())?;
        let second = second.join().map_err(|_| panicked())?;
        Ok((first?, second?))
    })
}

fn connected_pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    // The kernel completes the connection from its backlog, before accept.
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    for stream in [&near, &far] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SOCKET_TIMEOUT))?;
        stream.set_write_timeout(Some(SOCKET_TIMEOUT))?;
    }
    Ok((near, far))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;

    fn short(cpus: Option<(u32, u32)>) -> LoopbackBounds {
        let phase_time = Duration::from_secs(60);
        LoopbackBounds { phase_time, round_trips: 50, stream_bytes: 1 << 20, cpus }
    }

    #[test]
    fn figures_come_out_pinned_and_unpinned() {
        let cpus: Vec<u32> = Host::read().unwrap().allowed.iter().collect();
        for cpus in [None, LoopbackBounds::on(&cpus).cpus] {
            let figures = loopback_self_test(&short(cpus)).unwrap();
            assert_eq!(figures.round_trip_64b.as_ns().len(), 50);
            assert_eq!(figures.eventfd_round_trip.as_ns().len(), 50);
            assert!(figures.stream_64k_bytes_per_s > 0.0);
        }
    }

    #[test]
    fn one_cpu_is_not_pinned_to() {
        assert_eq!(LoopbackBounds::on(&[3]).cpus, None);
        assert_eq!(LoopbackBounds::on(&[3, 1, 2]).cpus, Some((3, 1)));
    }

    #[test]
    fn a_cpu_that_is_not_there_is_an_error_and_no_hang() {
        let error = loopback_self_test(&short(Some((0, 1023)))).unwrap_err();
        assert!(std::error::Error::source(&error).is_some());
        assert!(loopback_self_test(&short(Some((1023, 0)))).is_err());
    }

    #[test]
    fn time_alone_ends_it() {
        let bounds = LoopbackBounds {
            phase_time: Duration::ZERO,
            round_trips: usize::MAX,
            stream_bytes: u64::MAX,
            cpus: None,
        };
        let figures = loopback_self_test(&bounds).unwrap();
        assert_eq!(figures.round_trip_64b.as_ns().len(), 1);
    }
}
