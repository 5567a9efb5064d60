//! A seeded simulator: random requests, commits, truncations and crashes against the engine,
//! with a plain model that says what every answer must be.

pub mod log;
pub mod plain;
pub mod random;
pub mod reading;
pub mod world;

mod answers;
mod history;
mod requests;
