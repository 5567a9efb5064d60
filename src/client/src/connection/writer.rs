//! Writes what callers left in the outbox: all of it in as few system calls as the kernel takes.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use model::AckLevel;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::task::coop::consume_budget;

use super::state::{BatchAck, Shared};
use crate::error::Error;

/// Slices handed to the kernel at once.
const SLICES_MAX: usize = 64;

/// Ends when the connection is closed.
pub(super) async fn run(shared: Arc<Shared>, half: Arc<OwnedWriteHalf>) {
    while let Some(outbox) = shared.take_outbox() {
        if outbox.chunks.is_empty() {
            shared.outbox_filled.notified().await;
            continue;
        }
        if let Err(error) = write_all(&half, outbox.chunks.into()).await {
            // Close first: who hears that its batch failed must not find the connection open.
            shared.close(Error::lost(shared.address(), &error));
            for sender in outbox.unacknowledged {
                let _ = sender.send(Err(Error::lost(shared.address(), &error)));
            }
            return;
        }
        shared.written();
        for sender in outbox.unacknowledged {
            let level = AckLevel::None;
            // A producer that is gone has stopped caring.
            let _ = sender.send(Ok(BatchAck { level, base_offset: None, append_time_ms: None }));
        }
        // Nothing in here waits while the kernel takes all and callers on other threads leave more.
        consume_budget().await;
    }
}

async fn write_all(half: &OwnedWriteHalf, mut chunks: VecDeque<Bytes>) -> io::Result<()> {
    loop {
        write_ready(half, &mut chunks)?;
        if chunks.is_empty() {
            return Ok(());
        }
        half.writable().await?;
    }
}

/// Writes as much of `chunks` as the kernel takes without waiting; what is left stays in it.
pub(super) fn write_ready(half: &OwnedWriteHalf, chunks: &mut VecDeque<Bytes>) -> io::Result<()> {
    while !chunks.is_empty() {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = chunks.len().min(SLICES_MAX);
        for (slice, chunk) in slices.iter_mut().zip(&*chunks) {
            *slice = IoSlice::new(chunk);
        }
        let mut written = match half.try_write_vectored(&slices[..count]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        while let Some(chunk) = chunks.front_mut() {
            if chunk.len() > written {
                chunk.advance(written);
                break;
            }
            written -= chunk.len();
            chunks.pop_front();
        }
    }
    Ok(())
}
