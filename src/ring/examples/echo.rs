//! Measures echo requests per second: 64-byte lockstep requests on many loopback connections.
//!
//! `cargo run --release -p corelane-ring --example echo -- [CONNECTIONS] [SECONDS]`
//!
//! The server runs on CPU 0, once on a plain thread that blocks on its ring and once as a glommio
//! task with a `Parker`; the load, always a plain ring, on CPU 1.

use std::error::Error;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use bytes::Bytes;
use corelane_ring::{Completion, Ring, RingConfig};
use glommio::{LocalExecutorBuilder, Placement};
use rustix::thread::{CpuSet, sched_setaffinity};

const REQUEST: &[u8] = &[7; 64];
const ACCEPT: u64 = u64::MAX;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let connections = arguments.next().map_or(Ok(16), |value| value.parse())?;
    let seconds = arguments.next().map_or(Ok(3), |value| value.parse())?;
    for round in 1..=3 {
        for parked in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let address = listener.local_addr()?;
            let server = std::thread::spawn(move || match parked {
                false => serve_blocking(listener).map_err(|error| error.to_string()),
                true => serve_parked(listener).map_err(|error| error.to_string()),
            });
            let (rate, p50) = load(address, connections, Duration::from_secs(seconds))?;
            server.join().map_err(|_| "the server panicked")??;
            let kind = if parked { "glommio" } else { "bare" };
            println!("round {round} {kind:8} {connections} connections: {rate:.0}/s, p50 {p50} us");
        }
    }
    Ok(())
}

#[derive(Default)]
struct Server {
    sockets: Vec<Option<OwnedFd>>,
    open: usize,
}

impl Server {
    /// False: all connections have come and gone.
    fn handle(&mut self, ring: &mut Ring, completion: Completion) -> bool {
        match completion {
            Completion::Accepted { socket, .. } => {
                ring.receive(self.sockets.len() as u64, socket.as_raw_fd());
                self.sockets.push(Some(socket));
                self.open += 1;
            }
            Completion::Received { token, data } => {
                let Some(socket) = &self.sockets[token as usize] else { return true };
                ring.send(token, socket.as_raw_fd(), Bytes::copy_from_slice(&data).into());
            }
            Completion::ReceiveEnded { token, .. } => {
                self.sockets[token as usize] = None;
                self.open -= 1;
                return self.open > 0;
            }
            _ => {}
        }
        true
    }
}

fn serve_blocking(listener: TcpListener) -> Result<(), Box<dyn Error>> {
    pin(0)?;
    let mut ring = Ring::new(&RingConfig::default())?;
    let mut server = Server::default();
    ring.accept(ACCEPT, listener.as_raw_fd());
    loop {
        ring.wait(None)?;
        while let Some(completion) = ring.next() {
            if !server.handle(&mut ring, completion) {
                return Ok(());
            }
        }
    }
}

fn serve_parked(listener: TcpListener) -> Result<(), Box<dyn Error>> {
    let executor = LocalExecutorBuilder::new(Placement::Fixed(0)).io_memory(64 << 10).spawn(
        move || async move {
            let mut ring = Ring::new(&RingConfig::default()).map_err(io::Error::other)?;
            let parker = ring.parker()?;
            let mut server = Server::default();
            ring.accept(ACCEPT, listener.as_raw_fd());
            loop {
                ring.submit()?;
                while let Some(completion) = ring.next() {
                    if !server.handle(&mut ring, completion) {
                        return Ok::<_, io::Error>(());
                    }
                }
                glommio::yield_if_needed().await;
                parker.wait().await?;
            }
        },
    )?;
    Ok(executor.join()??)
}

/// One request in flight on each connection; requests per second and the median in us.
fn load(
    address: SocketAddr,
    connections: usize,
    time: Duration,
) -> Result<(f64, u128), Box<dyn Error>> {
    pin(1)?;
    let mut ring = Ring::new(&RingConfig::default())?;
    let request = Bytes::from_static(REQUEST);
    let mut streams = Vec::new();
    for token in 0..connections {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        ring.receive(token as u64, stream.as_raw_fd());
        ring.send(token as u64, stream.as_raw_fd(), request.clone().into());
        streams.push(stream);
    }
    let start = Instant::now();
    let mut began = vec![start; connections];
    let mut latencies = Vec::with_capacity(1 << 20);
    while start.elapsed() < time {
        ring.wait(None)?;
        while let Some(completion) = ring.next() {
            let Completion::Received { token, data } = completion else { continue };
            assert_eq!(data.len(), REQUEST.len());
            let token = token as usize;
            let now = Instant::now();
            latencies.push((now - began[token]).as_micros());
            began[token] = now;
            ring.send(token as u64, streams[token].as_raw_fd(), request.clone().into());
        }
    }
    let rate = latencies.len() as f64 / start.elapsed().as_secs_f64();
    latencies.sort_unstable();
    Ok((rate, latencies[latencies.len() / 2]))
}

fn pin(cpu: usize) -> io::Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    Ok(sched_setaffinity(None, &cpus)?)
}
