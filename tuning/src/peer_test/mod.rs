//! What the network between two machines can do: round trips and streams, with plain blocking
//! system calls on both sides.
//!
//! One side listens, the other measures. The listener takes nothing on trust: one test at a time,
//! each bounded in time and memory.

mod listen;
mod measure;
mod wire;

#[cfg(test)]
mod tests;

pub use listen::{Event, Listener};
pub use measure::{PeerBounds, PeerFigures, PeerTestError, measure_peer};
