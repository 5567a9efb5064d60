//! Subscriptions that end early, servers that send too much, and sockets that take too little.

use protocol::{kind, next_frame};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket};

use super::*;

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

/// The server reads nothing: what the socket does not take waits in its order, and comes out after it.
#[tokio::test]
async fn a_lone_request_that_the_socket_does_not_take_whole_goes_on_where_it_stopped() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(64 * 1024).unwrap();
    let stream = socket.connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut peer, _) = listener.accept().await.unwrap();
    stream.writable().await.unwrap();
    let (_, half) = stream.into_split();
    let shared = Shared::new("test");
    let nobody = tokio::spawn(async {}).abort_handle();
    shared.set_socket(nobody, Arc::new(half));

    let batch: Bytes = (0..15 * 1024 * 1024).map(|at: u32| (at % 251) as u8).collect();
    let handle = PartitionHandle::default();
    let head = ProduceHead { handle, ack: None, deadline_ms: 0, batch_count: 1 };
    let mut sent = Vec::new();
    protocol::put_produce_head(&mut sent, 2, &head, batch.len());
    sent.extend_from_slice(&batch);
    let _answer = shared.submit_produce(&head, batch).unwrap();
    shared.ping();

    protocol::put_request(&mut sent, 3, &Request::Ping, 0).unwrap();
    let left = shared.take_outbox().expect("open").chunks.concat();
    let mut received = vec![0; sent.len() - left.len()];
    assert!(received.len() > 1024 && left.len() > 1024, "{} bytes taken", received.len());
    peer.read_exact(&mut received).await.unwrap();
    assert!([received, left].concat() == sent, "in another order");
}
