//! Finding batches: per segment the places of each stream, per stream its segments.

mod resident;
mod segment;
mod streams;

pub(crate) use resident::Indexes;
pub(crate) use segment::SegmentIndex;
pub(crate) use streams::Streams;
