//! What the 64 bits that travel with an operation of the ring mean in the server.

use crate::message::ConnectionId;

/// Decoded form of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// An accept of listener 0 (the shared address) or 1 (the core's own port).
    Listener(u8),
    Receive {
        index: u32,
        generation: u32,
    },
    Send {
        index: u32,
        generation: u32,
    },
    /// An action of the log in `slot` of this core's shards.
    Disk {
        slot: u8,
        ticket: u64,
    },
    /// The core's clock.
    Tick,
    /// Another core has sent something.
    Wake,
    /// Nothing is done at its end.
    Ignored,
}

const KIND_SHIFT: u32 = 60;
const LISTENER: u64 = 1;
const RECEIVE: u64 = 2;
const SEND: u64 = 3;
const DISK: u64 = 4;
const TICK: u64 = 5;
const WAKE: u64 = 6;

const INDEX_BITS: u32 = 28;
const SLOT_SHIFT: u32 = 52;
const TICKET_MASK: u64 = (1 << SLOT_SHIFT) - 1;

const _: () = assert!(model::limits::CONNECTIONS_PER_CORE_MAX < 1 << INDEX_BITS);

impl Token {
    pub fn receive(id: ConnectionId) -> Self {
        Self::Receive { index: id.index, generation: id.generation }
    }

    pub fn send(id: ConnectionId) -> Self {
        Self::Send { index: id.index, generation: id.generation }
    }

    pub fn encode(self) -> u64 {
        let connection = |kind: u64, index: u32, generation: u32| {
            kind << KIND_SHIFT | u64::from(index) << 32 | u64::from(generation)
        };
        match self {
            Self::Listener(which) => LISTENER << KIND_SHIFT | u64::from(which),
            Self::Receive { index, generation } => connection(RECEIVE, index, generation),
            Self::Send { index, generation } => connection(SEND, index, generation),
            Self::Disk { slot, ticket } => {
                DISK << KIND_SHIFT | u64::from(slot) << SLOT_SHIFT | ticket & TICKET_MASK
            }
            Self::Tick => TICK << KIND_SHIFT,
            Self::Wake => WAKE << KIND_SHIFT,
            Self::Ignored => 0,
        }
    }

    pub fn decode(bits: u64) -> Self {
        let index = (bits >> 32) as u32 & ((1 << INDEX_BITS) - 1);
        let generation = bits as u32;
        match bits >> KIND_SHIFT {
            LISTENER => Self::Listener(bits as u8),
            RECEIVE => Self::Receive { index, generation },
            SEND => Self::Send { index, generation },
            DISK => Self::Disk { slot: (bits >> SLOT_SHIFT) as u8, ticket: bits & TICKET_MASK },
            TICK => Self::Tick,
            WAKE => Self::Wake,
            _ => Self::Ignored,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip() {
        for token in [
            Token::Listener(1),
            Token::Receive { index: 9_999, generation: u32::MAX },
            Token::Send { index: 0, generation: 1 },
            Token::Disk { slot: 255, ticket: TICKET_MASK },
            Token::Tick,
            Token::Wake,
            Token::Ignored,
        ] {
            assert_eq!(Token::decode(token.encode()), token);
        }
    }
}
