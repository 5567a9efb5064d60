//! Tools over a data directory that no server uses, and the copying of one that a server does.
//!
//! [`backup`] copies what a server keeps still for it into sets, [`restore`] makes a data directory
//! from a set.
//!
//! [`read`] opens one to read what is good in it, damaged or not, and [`state`] folds a shard's
//! log around its gaps: topics, partitions, what is kept of each and what is not. [`repair`] puts
//! the two to work.
//!
//! [`rewrite`] writes a new data directory from what some other one held: real logs, through the
//! log's own writer, so that everything on the disk is what a server would have written. A tool
//! gives it topics, partitions, batches with their offsets and times, and at the end what each
//! partition remembers of consumers and producers:
//!
//! ```no_run
//! use corelane_offline::rewrite::{NewBatch, NewPartition, PartitionEnd, RewriteError, RewriteOptions, Rewriter};
//!
//! fn write(
//!     topic: &shards::TopicRecord,
//!     partition: &NewPartition,
//!     batches: &[NewBatch<'_>],
//!     end: &PartitionEnd,
//! ) -> Result<(), RewriteError> {
//!     let mut new = Rewriter::create("new-data".as_ref(), 2, RewriteOptions::default())?;
//!     let shard = new.shard(model::ShardId(0))?;
//!     shard.topic(topic, false)?;
//!     let stream = shard.next_stream();
//!     shard.partition(stream, partition)?;
//!     for batch in batches {
//!         shard.batch(stream, batch)?; // in the order of their offsets
//!     }
//!     shard.end_partition(stream, end)?;
//!     new.finish()?; // only now is it a data directory
//!     Ok(())
//! }
//! ```
//!
//! Nothing here decides what a topic may be called or where a partition belongs: that is the
//! caller's. Offsets, append times, topic ids, producer ids, epochs and sequences, and committed
//! offsets stay what they were. The numbers of the log itself (LSN, sequence, incarnation) are the
//! new directory's own.

pub mod backup;
pub mod export;
mod log_writer;
mod opened;
mod overlay;
mod ranges;
pub mod read;
pub mod repair;
pub mod reshard;
pub mod restore;
pub mod rewrite;
pub mod state;
