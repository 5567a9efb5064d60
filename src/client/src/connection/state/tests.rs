//! Subscriptions that end early, servers that send too much, and sockets that take too little.

use std::sync::atomic::{AtomicU32, Ordering};

use protocol::{kind, next_frame};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::*;
use crate::connection::outbox::COPIED_BYTES_MAX;

fn kinds_written(shared: &Shared) -> Vec<u16> {
    let bytes = shared.take_outbox().expect("open").chunks.concat();
    shared.written();
    let (mut rest, mut kinds) = (&bytes[..], Vec::new());
    while let Some((header, length)) = next_frame(rest).unwrap() {
        kinds.push(header.kind);
        rest = &rest[length..];
    }
    kinds
}

fn subscribed() -> (Shared, u32, mpsc::UnboundedReceiver<Event>) {
    let shared = Shared::new("test");
    let (sender, events) = mpsc::unbounded_channel();
    let slot = Slot { index: 0, attempt: 1 };
    let handle = PartitionHandle::default();
    let number = shared.subscribe(handle, StartPosition::First, 1, slot, sender).unwrap();
    assert_eq!(kinds_written(&shared), [kind::SUBSCRIBE]);
    (shared, number, events)
}

#[test]
fn a_subscription_abandoned_early_ends_once_it_was_answered() {
    let (shared, number, mut events) = subscribed();
    shared.unsubscribe(number);
    assert_eq!(kinds_written(&shared), [0; 0]);
    shared.subscribed(number, Ok(0));
    assert_eq!(kinds_written(&shared), [kind::UNSUBSCRIBE]);
    assert!(events.try_recv().is_err());
    shared.unsubscribe(number);
    assert_eq!(kinds_written(&shared), [0; 0]);
}

#[test]
fn more_than_the_credit_and_a_frame_is_refused() {
    let (shared, subscription, _events) = subscribed();
    let head = DeliverHead { subscription, ..DeliverHead::default() };
    let frame = || Bytes::from(vec![0; FRAME_BYTES_MAX as usize / 2]);
    assert!(shared.deliver(head, frame()));
    assert!(shared.deliver(head, frame()));
    assert!(!shared.deliver(head, frame()));
}

/// A socket that is ready, and its peer, which reads nothing by itself.
async fn connected(send_buffer_bytes: u32) -> (Arc<OwnedWriteHalf>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(send_buffer_bytes).unwrap();
    let stream = socket.connect(listener.local_addr().unwrap()).await.unwrap();
    let (peer, _) = listener.accept().await.unwrap();
    stream.writable().await.unwrap();
    (Arc::new(stream.into_split().1), peer)
}

/// The server reads nothing: what the socket does not take waits in its order, and comes out after it.
#[tokio::test]
async fn a_lone_request_that_the_socket_does_not_take_whole_goes_on_where_it_stopped() {
    let (half, mut peer) = connected(64 * 1024).await;
    let shared = Shared::new("test");
    let nobody = tokio::spawn(async {}).abort_handle();
    shared.set_socket(nobody, half);

    let batch: Bytes = (0..15 * 1024 * 1024).map(|at: u32| (at % 251) as u8).collect();
    let handle = PartitionHandle::default();
    let head = ProduceHead { handle, ack: None, deadline_ms: 0, batch_count: 1 };
    let mut sent = Vec::new();
    protocol::put_produce_head(&mut sent, 2, &head, batch.len());
    sent.extend_from_slice(&batch);
    let _answer = shared.submit_produce(&head, &batch).unwrap();
    shared.ping();

    protocol::put_request(&mut sent, 3, &Request::Ping, 0).unwrap();
    let left = shared.take_outbox().expect("open").chunks.concat();
    let mut received = vec![0; sent.len() - left.len()];
    assert!(received.len() > 1024 && left.len() > 1024, "{} bytes taken", received.len());
    peer.read_exact(&mut received).await.unwrap();
    assert!([received, left].concat() == sent, "in another order");
}

/// More than a task may do in a row, and less than a socket takes without anyone reading.
const BATCHES: u32 = 150;

/// A batch that leaves the next one behind when it has been written.
struct Next {
    shared: Arc<Shared>,
    left: Arc<AtomicU32>,
}

impl Next {
    fn submit(shared: &Arc<Shared>, left: &Arc<AtomicU32>) {
        let next = Self { shared: shared.clone(), left: left.clone() };
        let handle = PartitionHandle::default();
        let ack = Some(AckLevel::None);
        let head = ProduceHead { handle, ack, deadline_ms: 0, batch_count: 1 };
        drop(shared.submit_produce(&head, &Bytes::from_owner(next)).unwrap());
    }
}

impl AsRef<[u8]> for Next {
    fn as_ref(&self) -> &[u8] {
        &[7; COPIED_BYTES_MAX + 1]
    }
}

impl Drop for Next {
    fn drop(&mut self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) > 1 {
            Self::submit(&self.shared, &self.left);
        }
    }
}

#[tokio::test]
async fn callers_who_always_leave_more_do_not_keep_the_thread_from_others() {
    let (half, mut peer) = connected(256 * 1024).await;
    tokio::spawn(async move { tokio::io::copy(&mut peer, &mut tokio::io::sink()).await });
    let (shared, left) = (Arc::new(Shared::new("test")), Arc::new(AtomicU32::new(BATCHES)));
    Next::submit(&shared, &left);
    let writer = tokio::spawn(crate::connection::writer::run(shared.clone(), half));
    tokio::task::yield_now().await;
    let at_first = left.load(Ordering::Relaxed);
    assert!((1..BATCHES).contains(&at_first), "{at_first} left");
    while left.load(Ordering::Relaxed) > 0 {
        tokio::task::yield_now().await;
    }
    shared.close(Error::Closed);
    writer.await.unwrap();
}
