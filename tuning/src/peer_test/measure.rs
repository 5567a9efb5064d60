//! The side that measures.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::wire::{ACCEPTED, Bounded, MESSAGE_BYTES_MAX, Request, SILENCE_MAX, Work};
use crate::samples::{Percentiles, Samples, sample_ns};

/// Round trips that are not counted.
const WARMUP: usize = 100;
/// Round trips counted at most in each phase.
const ROUND_TRIPS_MAX: usize = 1 << 20;
const SMALL_BYTES: u32 = 64;
const MESSAGE_BYTES: u32 = 1024;

/// How much the test may take: four phases of this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerBounds {
    pub phase_time: Duration,
}

impl Default for PeerBounds {
    fn default() -> Self {
        Self { phase_time: Duration::from_secs(2) }
    }
}

/// The network's figures, as this side sees them.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PeerFigures {
    pub round_trip_64b_us: Percentiles,
    pub round_trip_1k_us: Percentiles,
    /// One connection, 64 KiB a write, until all has arrived.
    pub stream_out_bytes_per_s: f64,
    pub stream_in_bytes_per_s: f64,
    /// It was asked to end early: later figures are 0.
    pub interrupted: bool,
}

/// Why the network was not measured.
#[derive(Debug, thiserror::Error)]
pub enum PeerTestError {
    #[error(
        "cannot connect to {address} ({source}); start `corelane tune net --listen {address}` there"
    )]
    Connect { address: SocketAddr, source: io::Error },
    #[error(
        "{address} does not answer as `corelane tune net --listen` does; check the address and \
         that both sides are of one version"
    )]
    NotAListener { address: SocketAddr },
    #[error("the test with {address} failed to {action}: {source}")]
    Io { address: SocketAddr, action: &'static str, source: io::Error },
}

/// Measures against a listener at `address`. `tell` hears how many of the four phases are done.
pub fn measure_peer(
    address: SocketAddr,
    bounds: &PeerBounds,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(usize, &'static str),
) -> Result<PeerFigures, PeerTestError> {
    let failed = |action| move |source| PeerTestError::Io { address, action, source };
    let mut figures = PeerFigures::default();
    let ended = |figures: &PeerFigures| {
        let interrupted = stop.load(Ordering::Relaxed);
        interrupted.then(|| PeerFigures { interrupted, ..figures.clone() })
    };
    tell(0, "round trips of 64 bytes");
    let mut socket = open(address, Work::Echo, SMALL_BYTES)?;
    let small = round_trips(&mut socket, SMALL_BYTES, bounds, stop);
    figures.round_trip_64b_us = small.map_err(failed("exchange 64 bytes"))?.percentiles();
    drop(socket);
    if let Some(partial) = ended(&figures) {
        return Ok(partial);
    }
    tell(1, "round trips of 1 KiB");
    let mut socket = open(address, Work::Echo, MESSAGE_BYTES)?;
    let large = round_trips(&mut socket, MESSAGE_BYTES, bounds, stop);
    figures.round_trip_1k_us = large.map_err(failed("exchange 1 KiB"))?.percentiles();
    drop(socket);
    if let Some(partial) = ended(&figures) {
        return Ok(partial);
    }
    tell(2, "stream there");
    let socket = open(address, Work::Take, MESSAGE_BYTES_MAX)?;
    figures.stream_out_bytes_per_s =
        stream_out(socket, bounds, stop).map_err(failed("send a stream"))?;
    if let Some(partial) = ended(&figures) {
        return Ok(partial);
    }
    tell(3, "stream back");
    let socket = open(address, Work::Send, MESSAGE_BYTES_MAX)?;
    figures.stream_in_bytes_per_s =
        stream_in(socket, bounds, stop).map_err(failed("take a stream"))?;
    figures.interrupted = stop.load(Ordering::Relaxed);
    tell(4, "");
    Ok(figures)
}

fn open(address: SocketAddr, work: Work, message_bytes: u32) -> Result<Bounded, PeerTestError> {
    let not_one = |_| PeerTestError::NotAListener { address };
    let stream = TcpStream::connect_timeout(&address, SILENCE_MAX)
        .map_err(|source| PeerTestError::Connect { address, source })?;
    let mut socket = Bounded::new(stream).map_err(|source| PeerTestError::Io {
        address,
        action: "set the socket up",
        source,
    })?;
    socket.write_all(&Request { work, message_bytes }.to_bytes()).map_err(not_one)?;
    let mut answer = [0xFF];
    match socket.read_whole(&mut answer) {
        Ok(true) if answer == [ACCEPTED] => Ok(socket),
        _ => Err(PeerTestError::NotAListener { address }),
    }
}

fn round_trips(
    socket: &mut Bounded,
    bytes: u32,
    bounds: &PeerBounds,
    stop: &AtomicBool,
) -> io::Result<Samples> {
    let mut message = vec![7; bytes as usize];
    let mut latencies_ns = Vec::new();
    let mut began = Instant::now();
    for number in 0.. {
        if number == WARMUP {
            began = Instant::now();
        }
        let before = Instant::now();
        socket.write_all(&message)?;
        if !socket.read_whole(&mut message)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if number >= WARMUP {
            latencies_ns.push(sample_ns(before.elapsed()));
            let over =
                began.elapsed() >= bounds.phase_time || latencies_ns.len() >= ROUND_TRIPS_MAX;
            if over || stop.load(Ordering::Relaxed) {
                break;
            }
        }
    }
    Ok(Samples::new(latencies_ns))
}

/// Bytes per second until the listener has counted the last.
fn stream_out(mut socket: Bounded, bounds: &PeerBounds, stop: &AtomicBool) -> io::Result<f64> {
    let payload = vec![7; MESSAGE_BYTES_MAX as usize];
    let began = Instant::now();
    let mut sent = 0;
    while sent == 0 || (began.elapsed() < bounds.phase_time && !stop.load(Ordering::Relaxed)) {
        socket.write_all(&payload)?;
        sent += payload.len() as u64;
    }
    socket.stream().shutdown(Shutdown::Write)?;
    let mut counted = [0; 8];
    if !socket.read_whole(&mut counted)? || u64::from_le_bytes(counted) != sent {
        return Err(io::Error::other("the other side has not counted what was sent"));
    }
    Ok(sent as f64 / began.elapsed().as_secs_f64())
}

fn stream_in(mut socket: Bounded, bounds: &PeerBounds, stop: &AtomicBool) -> io::Result<f64> {
    let mut buffer = vec![0; MESSAGE_BYTES_MAX as usize];
    let began = Instant::now();
    let mut taken = 0u64;
    while taken == 0 || (began.elapsed() < bounds.phase_time && !stop.load(Ordering::Relaxed)) {
        match socket.read_some(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            bytes => taken += bytes as u64,
        }
    }
    Ok(taken as f64 / began.elapsed().as_secs_f64())
}
