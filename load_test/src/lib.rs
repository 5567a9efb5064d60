//! Scenarios over the real binary, longer and harsher than tests.
//!
//! A scenario drives the broker from outside, through the client and signals; it knows nothing of
//! how the broker keeps its data.

mod broker;
pub mod crash;
mod error;
pub mod faults;
mod process;
pub mod random;
mod scenario;
pub mod soak;
pub mod storm;
pub mod torture;
mod traffic;

pub use error::ScenarioError;
pub use process::{ProcessError, Server};
pub use traffic::Totals;
