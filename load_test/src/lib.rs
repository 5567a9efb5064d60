//! Scenarios over the real binary, longer and harsher than tests: today the crash scenario.
//!
//! A scenario drives the broker from outside, through the client and signals; it knows nothing of
//! how the broker keeps its data.

pub mod crash;
mod process;
mod random;

pub use process::{ProcessError, Server};
