//! Memory for blocks, under one budget: chunks, and the newest blocks kept in them.

mod chunks;
mod tail;

pub(crate) use chunks::Chunks;
pub(crate) use tail::Tail;
