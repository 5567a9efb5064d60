//! What the ring reports.

use std::io;
use std::os::fd::OwnedFd;

use crate::{ReadTarget, ReceivedBuffer};

/// One event of one operation; `token` is the caller's.
#[derive(Debug)]
pub enum Completion {
    /// A connection came in. More may follow.
    Accepted {
        /// Of the `accept`.
        token: u64,
        /// The connection, close-on-exec.
        socket: OwnedFd,
    },
    /// Accepting ended: no descriptors or memory left (`EMFILE`, `ENFILE`, `ENOMEM`), or
    /// cancelled (`ECANCELED`). Call `accept` again to go on.
    AcceptFailed {
        /// Of the `accept`.
        token: u64,
        /// Why.
        error: io::Error,
    },
    /// Bytes came in, at least one. More may follow.
    Received {
        /// Of the `receive`.
        token: u64,
        /// The bytes; dropping it gives the buffer back.
        data: ReceivedBuffer,
    },
    /// Receiving ended: nothing more will be reported for this `receive`.
    ReceiveEnded {
        /// Of the `receive`.
        token: u64,
        /// `None`: the peer closed its side. `ECANCELED`: by `cancel_socket`.
        error: Option<io::Error>,
    },
    /// A send ended.
    Sent {
        /// Of the `send`.
        token: u64,
        /// `Ok`: the kernel has taken all bytes.
        result: io::Result<()>,
        /// How many bytes the kernel has taken, in either case.
        bytes: u64,
    },
    /// A `write_at`, `close`, `fallocate`, `fsync`, `fdatasync`, `rename_at` or `unlink_at` ended,
    /// or an eventfd is no longer watched.
    Done {
        /// Of the operation.
        token: u64,
        /// For `write_at`, the bytes written (always all of them); else 0.
        result: io::Result<u32>,
    },
    /// An `open_at` ended.
    Opened {
        /// Of the `open_at`.
        token: u64,
        /// The file.
        result: io::Result<OwnedFd>,
    },
    /// A `read_at` ended.
    Read {
        /// Of the `read_at`.
        token: u64,
        /// The caller's buffer, its length as it was.
        buffer: Box<dyn ReadTarget>,
        /// Bytes read, from the start of the buffer; fewer than its length only at the file's end.
        result: io::Result<u32>,
    },
    /// A watched eventfd was written, once or many times, and more may follow; or a timer has run
    /// out.
    Woken {
        /// Of the `watch_eventfd` or `timer`.
        token: u64,
    },
}

impl Completion {
    /// The caller's token, whatever has ended.
    pub fn token(&self) -> u64 {
        match self {
            Self::Accepted { token, .. }
            | Self::AcceptFailed { token, .. }
            | Self::Received { token, .. }
            | Self::ReceiveEnded { token, .. }
            | Self::Sent { token, .. }
            | Self::Done { token, .. }
            | Self::Opened { token, .. }
            | Self::Read { token, .. }
            | Self::Woken { token } => *token,
        }
    }
}
