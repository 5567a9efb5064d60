//! Subscriptions that end early, and servers that send too much.

use protocol::{kind, next_frame};

use super::*;

fn kinds_written(shared: &Shared) -> Vec<u16> {
    let bytes = shared.take_outbox().expect("open").chunks.concat();
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
