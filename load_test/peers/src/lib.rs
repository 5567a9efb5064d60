//! Corelane against its peers: the same work, the same generator, payload check and report, each
//! broker behind the best client that it has.
//!
//! `driver` is the interface to a broker and `drivers` the brokers; `server` starts the real ones
//! through scripts; `run` gives one workload to one broker; `compare` does all of it in turn, and
//! `report` shows what came of it. Only `drivers` knows any broker's protocol.

pub mod compare;
pub mod driver;
mod drivers;
pub mod peer;
pub mod report;
mod run;
pub mod server;
mod stop;
pub mod workload;
