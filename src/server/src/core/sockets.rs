//! Connections come, are read, are sent to, and end.

use std::io;
use std::os::fd::AsRawFd;

use model::{ErrorCode, Rejection, Stage};
use ring::ReceivedBuffer;

use super::Core;
use super::borders::guarded;
use crate::bounds::{
    DRAINING_SECONDS_MAX, GREETING_SECONDS_MAX, OUTPUT_BYTES_MAX, OUTPUT_STUCK_SECONDS_MAX,
    PARTIAL_FRAME_SECONDS_MAX, PARTIAL_FRAME_STUCK_SECONDS_MAX,
};
use crate::connection::{Phase, Stall};
use crate::message::{ConnectionId, Message};
use crate::shard::ShardHost;
use crate::token::Token;

/// After running out of descriptors, accepting rests for this long.
const ACCEPT_PAUSE_NS: u64 = 200_000_000;

impl Core {
    /// No descriptors or no memory: accepting rests a while instead of spinning.
    pub(super) fn on_accept_failed(&mut self, which: u8, error: &io::Error) {
        if let Some(listener) = self.listeners.get_mut(usize::from(which)) {
            listener.accepting = false;
        }
        if self.shutdown.under_way() || error.raw_os_error() == Some(libc::ECANCELED) {
            return;
        }
        tracing::warn!(%error, "accepting connections failed; trying again shortly (is the limit of open files high enough?)");
        self.accept_paused_until_ns = self.clock.now_ns() + ACCEPT_PAUSE_NS;
    }

    /// The log comes first: while a shard lacks its spare descriptors, no connection is accepted
    /// that would take the next one to come free.
    pub(super) fn yield_descriptors(&mut self) {
        let mut short = false;
        for slot in &mut self.shards {
            short |= guarded(slot, ShardHost::refill_descriptors) == Some(false);
        }
        if !short || self.shutdown.under_way() {
            return;
        }
        let paused = std::mem::replace(
            &mut self.accept_paused_until_ns,
            self.clock.now_ns() + ACCEPT_PAUSE_NS,
        );
        if paused == 0 {
            tracing::warn!(
                "the log has used its spare descriptors; no connections are accepted until there are more (is the limit of open files high enough?)"
            );
        }
        for listener in self.listeners.iter().filter(|listener| listener.accepting) {
            self.ring.cancel_socket(listener.socket.as_raw_fd());
        }
    }

    pub(super) fn resume_accept(&mut self) {
        if self.accept_paused_until_ns != 0 && self.clock.now_ns() >= self.accept_paused_until_ns {
            self.accept_paused_until_ns = 0;
            self.accept_all();
        }
    }

    pub(super) fn accept_all(&mut self) {
        for (which, listener) in (0..).zip(&mut self.listeners) {
            if !listener.accepting {
                listener.accepting = true;
                self.ring.accept(Token::Listener(which).encode(), listener.socket.as_raw_fd());
            }
        }
    }

    pub(super) fn start_receive(&mut self, id: ConnectionId) {
        if self.shutdown.under_way() {
            return;
        }
        if let Some(connection) = self.connections.get_mut(id)
            && !connection.receiving
            && !connection.peer_closed
            && matches!(connection.phase, Phase::Greeting | Phase::Open)
        {
            connection.receiving = true;
            self.ring.receive(Token::receive(id).encode(), connection.fd());
        }
    }

    pub(super) fn on_received(&mut self, id: ConnectionId, data: ReceivedBuffer) {
        self.counters.bytes_in += data.len() as u64;
        let Some(connection) = self.connections.get_mut(id) else { return };
        if !matches!(connection.phase, Phase::Greeting | Phase::Open) {
            return;
        }
        connection.received_ns = self.clock.now_ns();
        if !connection.queued && connection.stall.is_none() {
            connection.unparsed_since_ns = self.clock.now_ns();
        }
        connection.input.push(data);
        if connection.can_parse() {
            self.queue_parse(id);
        }
    }

    pub(super) fn on_receive_ended(&mut self, id: ConnectionId, error: Option<&io::Error>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.receiving = false;
        match error {
            None => {
                connection.peer_closed = true;
                self.drain_if_done_reading(id);
                // It may have been on its way out already.
                self.close_if_done(id);
            }
            Some(error) if error.raw_os_error() == Some(libc::ECANCELED) => {
                self.close_if_done(id);
            }
            Some(error) => {
                tracing::debug!(peer = connection.peer_text(), %error, "connection lost");
                connection.phase = Phase::Dead;
                self.close_if_done(id);
            }
        }
    }

    /// A peer that has closed its sending side still gets the replies to all it has sent.
    pub(super) fn drain_if_done_reading(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.peer_closed && !connection.queued && connection.can_parse() {
            connection.phase = Phase::Draining;
            connection.phase_since_ns = self.clock.now_ns();
            self.close_if_done(id);
        }
    }

    /// Stops reading a connection until whatever it waits for is there.
    pub(super) fn stall(&mut self, id: ConnectionId, why: Stall) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.stall = Some(why);
        if connection.receiving {
            // Ends without a word; what was on its way may still come.
            connection.receiving = false;
            self.ring.pause_receive(connection.fd());
        }
        match why {
            Stall::Backlog(_) | Stall::InFlight => {}
            Stall::Mesh(_) | Stall::PartialFrames | Stall::Gathers => self.stalled.push(id),
        }
    }

    pub(super) fn unstall(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.stall.take().is_some() {
            self.start_receive(id);
            self.queue_parse(id);
        }
    }

    /// Ends connections that keep a place and do nothing with it.
    pub(super) fn reap_silent(&mut self) {
        let now = self.clock.now_ns();
        let older = |since: u64, seconds: u64| now.saturating_sub(since) > seconds * 1_000_000_000;
        let output_full = self.output_bytes > self.config.output_bytes_max;
        let frames_wait = self.others_wait_for_memory();
        for id in self.connections.ids() {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            let since = connection.partial_since_ns;
            match connection.phase {
                Phase::Greeting if older(connection.phase_since_ns, GREETING_SECONDS_MAX) => {
                    let text = "no Hello came in time";
                    let rejection = Rejection::new(ErrorCode::HandshakeRequired, text);
                    self.close_with(id, 0, &rejection);
                }
                Phase::Open if since != 0 && older(since, PARTIAL_FRAME_SECONDS_MAX) => {
                    let text = "a frame did not come whole in time while memory was short";
                    self.close_with(id, 0, &Rejection::new(ErrorCode::Busy, text));
                }
                Phase::Open
                    if since != 0
                        && frames_wait
                        && connection.stall.is_none()
                        && older(connection.received_ns, PARTIAL_FRAME_STUCK_SECONDS_MAX) =>
                {
                    let text = "a frame did not go on while others waited for its memory";
                    self.close_with(id, 0, &Rejection::new(ErrorCode::Busy, text));
                }
                Phase::Open
                    if output_full
                        && connection.sending_since_ns != 0
                        && older(connection.sending_since_ns, OUTPUT_STUCK_SECONDS_MAX) =>
                {
                    let peer = connection.peer_text();
                    tracing::info!(
                        peer,
                        "connection cut: it takes no replies while memory is short"
                    );
                    connection.phase = Phase::Dead;
                    self.close_if_done(id);
                }
                Phase::Draining if older(connection.phase_since_ns, DRAINING_SECONDS_MAX) => {
                    connection.phase = Phase::Dead;
                    self.close_if_done(id);
                }
                _ => {}
            }
        }
    }

    /// Looks again at the connections that wait for room of this core.
    pub(super) fn retry_stalled(&mut self) {
        let now_ns = self.clock.now_ns();
        let mut gathers = self.gathers.room(now_ns, false);
        // Whoever was let go on and came too late is before all others.
        for id in std::mem::take(&mut self.gathers.first) {
            if self.connections.get_mut(id).and_then(|c| c.stall) != Some(Stall::Gathers) {
                continue;
            }
            self.gathers.first.push(id);
            if gathers > 0 {
                gathers -= 1;
                self.unstall(id);
            }
        }
        let mut frames_wait = false;
        for id in std::mem::take(&mut self.stalled) {
            let free = match self.connections.get_mut(id).and_then(|c| c.stall) {
                Some(Stall::Mesh(core)) => self.out.mesh.has_room(core),
                Some(Stall::Gathers) if self.is_operator(id) => self.gathers.room(now_ns, true) > 0,
                Some(Stall::Gathers) => {
                    // Each comes back with one question at least.
                    let free = gathers > 0;
                    gathers = gathers.saturating_sub(1);
                    if free && !self.gathers.first.contains(&id) {
                        self.gathers.first.push(id);
                    }
                    free
                }
                Some(Stall::PartialFrames) => {
                    // In the order they came: a large frame is not passed over for small ones.
                    frames_wait = frames_wait || !self.give_room_for_frame(id);
                    !frames_wait
                }
                _ => continue,
            };
            if free {
                self.unstall(id);
            } else {
                self.stalled.push(id);
            }
        }
    }

    /// Part of what a connection has in flight has been answered.
    pub(super) fn release(&mut self, id: ConnectionId, cost: u32) {
        let max = self.config.in_flight_bytes_max;
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.in_flight_bytes = connection.in_flight_bytes.saturating_sub(cost as usize);
        if connection.stall == Some(Stall::InFlight)
            && connection.in_flight_bytes <= max / 2
            && connection.output.pending_bytes() <= OUTPUT_BYTES_MAX / 2
        {
            self.unstall(id);
        }
        if cost > 0 {
            self.close_if_done(id);
        }
    }

    /// One send for each connection that has something to say.
    pub(super) fn flush_connections(&mut self) {
        let mut handed_ns = None;
        for id in std::mem::take(&mut self.dirty) {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            connection.dirty = false;
            if connection.phase == Phase::Dead {
                continue;
            }
            if let Some(parts) = connection.output.start() {
                connection.sending_since_ns = self.clock.now_ns();
                self.ring.send(Token::send(id).encode(), connection.fd(), parts);
                let (acks, deliveries) = connection.output.take_due();
                if !acks.is_empty() || !deliveries.is_empty() {
                    let now_ns = *handed_ns.get_or_insert_with(|| self.clock.read_ns());
                    self.stages.done(Stage::DurableToReply, acks, now_ns);
                    self.stages.done(Stage::Deliver, deliveries, now_ns);
                }
            }
        }
    }

    pub(super) fn on_sent(&mut self, id: ConnectionId, result: io::Result<()>, bytes: u64) {
        self.counters.bytes_out += bytes;
        let Some(connection) = self.connections.get_mut(id) else { return };
        for (key, bytes) in connection.output.finish() {
            let core = self.map.core_of(key.shard);
            self.out.send(core, Message::Sent { key, connection: id, bytes });
        }
        connection.sending_since_ns = 0;
        if let Err(error) = result {
            tracing::debug!(peer = connection.peer_text(), %error, "sending failed");
            connection.phase = Phase::Dead;
        }
        if !connection.output.is_idle() {
            self.mark_dirty(id);
        }
        self.count_output(id);
        self.release(id, 0);
        self.close_if_done(id);
    }

    /// The stream of frames cannot be followed any more: says why, then closes.
    pub(super) fn close_with(&mut self, id: ConnectionId, correlation: u64, rejection: &Rejection) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        tracing::info!(peer = connection.peer_text(), %rejection, "connection closed");
        self.end_with(id, correlation, rejection);
    }

    /// Sends an error and closes.
    pub(super) fn end_with(&mut self, id: ConnectionId, correlation: u64, rejection: &Rejection) {
        self.scratch.clear();
        protocol::put_error(&mut self.scratch, correlation, rejection);
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.output.push(&self.scratch);
        connection.phase = Phase::Draining;
        connection.phase_since_ns = self.clock.now_ns();
        self.mark_dirty(id);
    }

    /// Ends a connection once nothing of it is under way: no reply owed, no operation in the kernel.
    pub(super) fn close_if_done(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let done = match connection.phase {
            Phase::Greeting | Phase::Open => false,
            Phase::Draining => connection.output.is_idle() && connection.in_flight_bytes == 0,
            Phase::Dead => true,
        };
        if !done {
            return;
        }
        connection.phase = Phase::Dead;
        if !connection.receiving && !connection.output.is_sending() {
            return self.forget(id);
        }
        if !connection.cancelled {
            connection.cancelled = true;
            self.ring.cancel_socket(connection.fd());
        }
    }

    fn forget(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.remove(id) else { return };
        self.gone += 1;
        self.output_bytes -= connection.counted_output;
        self.held_buffers = self.held_buffers.saturating_sub(connection.held);
        self.partial_bytes = self.partial_bytes.saturating_sub(connection.partial_bytes);
        if connection.partial_waits {
            self.partial_waiting_bytes -= connection.partial_bytes;
        }
        self.uncount(&connection);
        tracing::debug!(peer = connection.peer_text(), "disconnected");
        self.end_backup_of(id);
        let mut cores: Vec<_> =
            connection.reader_shards.iter().map(|shard| self.map.core_of(*shard)).collect();
        cores.sort();
        cores.dedup();
        for core in cores {
            self.out.send(core, Message::ConnectionClosed { connection: id });
        }
    }
}

/// The refusal of a frame or body that does not follow the protocol.
pub fn malformed(text: impl Into<String>) -> Rejection {
    Rejection::new(ErrorCode::Malformed, text)
}
