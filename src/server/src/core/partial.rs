//! Frames that have not come whole: what they hold of the receive pool and of memory, who waits for
//! room, and who is sent away.

use model::{ErrorCode, Rejection};

use super::Core;
use crate::connection::{Input, Phase, Stall};
use crate::message::ConnectionId;

impl Core {
    /// What is left of the input goes back to its connection, out of the receive pool when the
    /// pool runs short.
    pub(super) fn keep_rest(&mut self, id: ConnectionId, mut input: Input) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        self.held_buffers -= connection.held;
        if std::mem::take(&mut connection.partial_waits) {
            self.partial_waiting_bytes -= connection.partial_bytes;
            self.partial_bytes -= std::mem::take(&mut connection.partial_bytes);
        }
        let mut held = input.pooled();
        let mut refused = false;
        if held > 0 && self.held_buffers + held > self.config.held_buffers_max {
            // Whoever has been given room for its frame is read on, so that the room comes back;
            // whoever has not waits with what it has sent so far.
            let others = self.partial_bytes - self.partial_waiting_bytes - connection.partial_bytes;
            refused = !fits(others, input.frame_bytes(), self.config.partial_frame_bytes_max);
            let waiting = self.partial_waiting_bytes + input.available();
            if refused
                && connection.stall.is_none()
                && waiting > self.config.partial_frame_bytes_max
            {
                return self.send_away(id);
            }
            match refused {
                true => input.copy_out(),
                false => input.copy_out_with_room(),
            }
            held = 0;
        }
        self.held_buffers += held;
        connection.held = held;
        connection.input = input;
        self.count_partial(id, refused);
        if let Some(connection) = self.connections.get_mut(id)
            && refused
            && connection.stall.is_none()
        {
            self.stall(id, Stall::PartialFrames);
        }
    }

    /// A connection that has waited may go on if there is room for its whole frame, which is kept
    /// for it from now on. Returns whether there is.
    pub(super) fn give_room_for_frame(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.connections.get_mut(id) else { return true };
        if !matches!(connection.phase, Phase::Greeting | Phase::Open) {
            return true;
        }
        let own = if connection.partial_waits { 0 } else { connection.partial_bytes };
        let others = self.partial_bytes - self.partial_waiting_bytes - own;
        let max = self.config.partial_frame_bytes_max;
        if !fits(others, connection.input.frame_bytes(), max) {
            return false;
        }
        connection.input.copy_out_with_room();
        self.count_partial(id, false);
        true
    }

    pub(super) fn others_wait_for_memory(&mut self) -> bool {
        let (connections, stalled) = (&mut self.connections, &self.stalled);
        stalled.iter().any(|id| {
            connections.get_mut(*id).is_some_and(|c| c.stall == Some(Stall::PartialFrames))
        })
    }

    /// Counts what a connection's frame in the making takes, anew.
    fn count_partial(&mut self, id: ConnectionId, waits: bool) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.partial_waits {
            self.partial_waiting_bytes -= connection.partial_bytes;
        }
        let bytes = connection.input.owned_bytes();
        self.partial_bytes = self.partial_bytes - connection.partial_bytes + bytes;
        connection.partial_bytes = bytes;
        connection.partial_waits = waits;
        // What those who wait have sent is not counted against them: they would wait for each
        // other.
        if waits {
            self.partial_waiting_bytes += bytes;
        }
        if bytes == 0 {
            connection.partial_since_ns = 0;
        } else if connection.partial_since_ns == 0 {
            connection.partial_since_ns = self.clock.now_ns();
        }
    }

    /// Too many wait already. What it has sent is dropped where it lies: a client that comes again
    /// and again costs no copy each time.
    fn send_away(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.held = 0;
        self.count_partial(id, false);
        let text = "too many frames wait for memory to come whole; try again shortly";
        self.close_with(id, 0, &Rejection::new(ErrorCode::Busy, text));
    }
}

/// Whether there is memory for a whole frame beside what `others` take. Alone any frame has it.
fn fits(others: usize, frame_bytes: usize, max: usize) -> bool {
    others == 0 || others + frame_bytes <= max
}
