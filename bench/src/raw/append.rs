//! The bare append loop: one thread, one ring. It receives produce frames, checks each batch's
//! CRC32C, copies the batch into a block, writes blocks with O_DIRECT|O_DSYNC and acknowledges.
//!
//! No broker is in it: no topics, entries, index or recovery. What a broker reaches is quoted as
//! a share of what this reaches with the same bytes on the wire.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::AckLevel;
use protocol::ProduceAck;
use ring::{Completion, ReceivedBuffer, Ring, RingConfig, SendParts};

use crate::cpu::{self, Meter};
use crate::error::BenchError;
use crate::options::Space;
use crate::pool::Pool;
use crate::raw::assembly::{Assembly, Frame};
use crate::raw::blocks::{Blocks, Run};
use crate::raw::space::Files;

/// The loop looks whether it is to stop at least this often.
const WAIT_MAX: Duration = Duration::from_millis(100);
const RECEIVE_BUFFER_BYTES: u32 = 64 * 1024;
/// Most receive buffers (256 MiB of address space; memory is taken when used).
const RECEIVE_BUFFERS_MAX: usize = 4096;

/// Token of a socket being closed; those of writes are counted from 0.
const CLOSED: u64 = u64::MAX - 1;

/// How the loop is to run.
#[derive(Clone, Debug)]
pub struct AppendConfig {
    pub dir: PathBuf,
    pub space: Space,
    /// Bytes of one file: overwritten again and again, or one of a chain.
    pub file_bytes: u64,
    /// `Memory` acknowledges when the batch is in a block; the block is written all the same.
    pub ack: AckLevel,
    pub connections: usize,
    /// Bytes of the largest frame.
    pub frame_bytes: usize,
    /// The CPU to run on; `None` leaves it to the system.
    pub cpu: Option<usize>,
}

/// A running loop. It ends when dropped or stopped.
#[derive(Debug)]
pub struct AppendLoop {
    pub address: SocketAddr,
    pub meter: Meter,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), BenchError>>>,
}

impl AppendLoop {
    /// Prepares the space and starts the thread, listening on loopback.
    pub fn start(config: AppendConfig) -> Result<Self, BenchError> {
        let files = Files::prepare(config.space, &config.dir, config.file_bytes)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .map_err(BenchError::io("listening on loopback"))?;
        let address = listener.local_addr().map_err(BenchError::io("listening on loopback"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, told) = mpsc::channel();
        let thread = std::thread::Builder::new().name("raw-append".into()).spawn({
            let stop = Arc::clone(&stop);
            move || {
                let _ = tell.send(Meter::this_thread());
                if let Some(cpu) = config.cpu {
                    cpu::pin(cpu);
                }
                Loop::new(&config, files, listener)?.run(&stop)
            }
        });
        let thread = Some(thread.map_err(BenchError::io("starting a thread"))?);
        let meter = told.recv().unwrap_or(Meter::None);
        Ok(Self { address, meter, stop, thread })
    }

    /// Ends the loop and says how it went.
    pub fn stop(mut self) -> Result<(), BenchError> {
        self.join()
    }

    fn join(&mut self) -> Result<(), BenchError> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(BenchError::Server("broke down (the bare append loop)".into())),
            None => Ok(()),
        }
    }
}

impl Drop for AppendLoop {
    fn drop(&mut self) {
        let _ = self.join();
    }
}

struct Peer {
    socket: OwnedFd,
    assembly: Assembly,
    /// Acknowledgements for the next send, the last run apart: it may still grow.
    out: Vec<u8>,
    last: Option<Run>,
    sending: bool,
    listed: bool,
}

struct Loop {
    ring: Ring,
    listener: TcpListener,
    /// By token; a closed one leaves its place empty.
    peers: Vec<Option<Peer>>,
    /// Connections with acknowledgements to send.
    listed: Vec<u32>,
    /// Received while the disk was too far behind.
    held: Vec<(u32, ReceivedBuffer)>,
    blocks: Blocks,
    spare: Pool<Vec<u8>>,
    ack: AckLevel,
    next_offset: u64,
}

impl Loop {
    fn new(config: &AppendConfig, files: Files, listener: TcpListener) -> Result<Self, BenchError> {
        // Frames that have arrived in part pin their buffers.
        let pieces = config.frame_bytes / RECEIVE_BUFFER_BYTES as usize + 2;
        let buffers = config.connections.saturating_mul(pieces).clamp(128, RECEIVE_BUFFERS_MAX);
        let config_ring = RingConfig {
            entries: 4096,
            receive_buffers: buffers.next_power_of_two() as u16,
            receive_buffer_bytes: RECEIVE_BUFFER_BYTES,
        };
        let mut ring = Ring::new(&config_ring)?;
        ring.accept(0, listener.as_raw_fd());
        Ok(Self {
            ring,
            listener,
            peers: Vec::new(),
            listed: Vec::new(),
            held: Vec::new(),
            blocks: Blocks::new(files, config.frame_bytes),
            spare: Pool::new(),
            ack: config.ack,
            next_offset: 0,
        })
    }

    fn run(mut self, stop: &AtomicBool) -> Result<(), BenchError> {
        while !stop.load(Ordering::Relaxed) {
            self.ring.wait(Some(WAIT_MAX)).map_err(BenchError::io("waiting for the sockets"))?;
            let now_ms = now_ms();
            while let Some(completion) = self.ring.next() {
                self.take(completion, now_ms)?;
            }
            self.take_held(now_ms)?;
            self.blocks.write(&mut self.ring)?;
            self.send();
        }
        Ok(())
    }

    fn take(&mut self, completion: Completion, now_ms: i64) -> Result<(), BenchError> {
        match completion {
            Completion::Received { token, data } => {
                if self.blocks.has_room() && self.held.is_empty() {
                    return self.received(token as u32, data, now_ms);
                }
                self.held.push((token as u32, data));
            }
            Completion::Done { token: CLOSED, .. } => {}
            Completion::Done { token, result } => {
                result.map_err(BenchError::io("writing the raw file"))?;
                let Self { blocks, peers, listed, .. } = self;
                blocks.written(token, |run| acknowledge(peers, listed, run));
            }
            Completion::Sent { token, result, .. } => {
                if let Some(peer) = self.peers.get_mut(token as usize).and_then(Option::as_mut) {
                    peer.sending = result.is_err();
                    if !peer.out.is_empty() || peer.last.is_some() {
                        list(peer, &mut self.listed, token as u32);
                    }
                }
            }
            Completion::Accepted { socket, .. } => self.accepted(socket),
            Completion::AcceptFailed { error, .. } => {
                return Err(BenchError::io("accepting a connection")(error));
            }
            Completion::ReceiveEnded { token, .. } => {
                if let Some(peer) = self.peers.get_mut(token as usize).and_then(Option::take) {
                    self.ring.cancel_socket(peer.socket.as_raw_fd());
                    self.ring.close(CLOSED, peer.socket);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn accepted(&mut self, socket: OwnedFd) {
        let _ = rustix::net::sockopt::set_tcp_nodelay(&socket, true);
        self.ring.receive(self.peers.len() as u64, socket.as_raw_fd());
        let (assembly, out, last) = (Assembly::default(), Vec::new(), None);
        self.peers.push(Some(Peer { socket, assembly, out, last, sending: false, listed: false }));
    }

    fn take_held(&mut self, now_ms: i64) -> Result<(), BenchError> {
        if self.held.is_empty() || !self.blocks.has_room() {
            return Ok(());
        }
        let mut held = std::mem::take(&mut self.held).into_iter();
        for (connection, data) in held.by_ref() {
            self.received(connection, data, now_ms)?;
            if !self.blocks.has_room() {
                break;
            }
        }
        self.held.extend(held);
        Ok(())
    }

    fn received(
        &mut self,
        connection: u32,
        data: ReceivedBuffer,
        now_ms: i64,
    ) -> Result<(), BenchError> {
        let Self { peers, blocks, listed, ack, next_offset, .. } = self;
        let Some(peer) = peers.get_mut(connection as usize).and_then(Option::as_mut) else {
            return Ok(());
        };
        let Peer { assembly, out, last, listed: is_listed, .. } = peer;
        assembly.feed(data, |frame: &Frame| {
            let ack = ProduceAck {
                count: 1,
                level: *ack,
                base_offset: *next_offset,
                offset_step: frame.records,
                shard: frame.shard,
                append_time_ms: now_ms,
            };
            let run = Run { connection, first: frame.correlation, ack };
            *next_offset += u64::from(frame.records);
            if ack.level == AckLevel::Durable {
                blocks.append(&frame.batch, Some(&run));
                return;
            }
            blocks.append(&frame.batch, None);
            add_run(out, last, &run);
            if !*is_listed {
                *is_listed = true;
                listed.push(connection);
            }
        })
    }

    /// All acknowledgements of a connection in one send.
    fn send(&mut self) {
        for connection in self.listed.drain(..) {
            let Some(peer) = self.peers.get_mut(connection as usize).and_then(Option::as_mut)
            else {
                continue;
            };
            peer.listed = false;
            if peer.sending {
                continue;
            }
            if let Some(run) = peer.last.take() {
                run.put(&mut peer.out);
            }
            if peer.out.is_empty() {
                continue;
            }
            let mut empty = self.spare.take().unwrap_or_default();
            empty.clear();
            let acks = self.spare.lend(std::mem::replace(&mut peer.out, empty));
            peer.sending = true;
            self.ring.send(connection.into(), peer.socket.as_raw_fd(), SendParts::from(acks));
        }
    }
}

fn acknowledge(peers: &mut [Option<Peer>], listed: &mut Vec<u32>, run: &Run) {
    let Some(peer) = peers.get_mut(run.connection as usize).and_then(Option::as_mut) else {
        return;
    };
    add_run(&mut peer.out, &mut peer.last, run);
    list(peer, listed, run.connection);
}

fn add_run(out: &mut Vec<u8>, last: &mut Option<Run>, run: &Run) {
    if last.as_mut().is_some_and(|open| open.join(run)) {
        return;
    }
    if let Some(done) = last.replace(*run) {
        done.put(out);
    }
}

fn list(peer: &mut Peer, listed: &mut Vec<u32>, connection: u32) {
    if !peer.listed {
        peer.listed = true;
        listed.push(connection);
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.ring.cancel_socket(self.listener.as_raw_fd());
    }
}
