//! One io_uring per core: its sockets and its log writes.
//!
//! A [`Ring`] is made and used on one thread. Every operation is queued with a `token` of the
//! caller's, goes to the kernel with the next [`Ring::submit`] or [`Ring::wait`], and comes back
//! through [`Ring::next`] as a [`Completion`] that carries the token. Nothing allocates per
//! operation once the pools have grown, apart from what the caller hands in.
//!
//! Inside a glommio executor the loop of a core is
//!
//! ```no_run
//! # async fn core(ring: std::rc::Rc<std::cell::RefCell<corelane_ring::Ring>>) -> std::io::Result<()> {
//! let parker = ring.borrow_mut().parker()?;
//! loop {
//!     ring.borrow_mut().submit()?;
//!     loop {
//!         let Some(completion) = ring.borrow_mut().next() else { break };
//!         // handle it; this queues more operations
//! #       drop(completion);
//!     }
//!     glommio::yield_if_needed().await;
//!     parker.wait().await?; // at once, if anything was queued or has come in
//! }
//! # }
//! ```
//!
//! A plain thread calls [`Ring::wait`] in place of `submit` and the parker.
//!
//! Invariants: memory that the kernel may touch is owned by the ring until the operation's last
//! completion; dropping the ring cancels and reaps everything first. An operation reports its end
//! exactly once. The crate knows nothing of frames, shards or logs.
//!
//! Needs Linux 6.1; [`probe`] says in a sentence what is missing.

// The one crate, with `wal`, where `unsafe` may stand; every block says why it holds.
#![allow(unsafe_code)]

mod aligned;
mod buffers;
mod completion;
mod config;
mod error;
mod files;
mod op;
mod parker;
mod probe;
mod process;
mod read_target;
mod refusal;
mod ring;
mod send;
mod socket_table;
mod sockets;
mod starved;
mod timer;
mod waker;
mod watch;

pub use aligned::AlignedBuffer;
pub use buffers::ReceivedBuffer;
pub use completion::Completion;
pub use config::RingConfig;
pub use error::RingError;
pub use parker::Parker;
pub use probe::probe;
pub use process::{prefer_memory_node, prepare_process, return_freed_memory};
pub use read_target::ReadTarget;
pub use ring::Ring;
pub use send::SendParts;
pub use waker::Waker;
