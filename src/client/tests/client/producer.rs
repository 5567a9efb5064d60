//! Batching, and above all: every message stored once and in order, whatever fails.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::task::Poll;
use std::time::Duration;

use corelane_client::{
    AckLevel, Client, Compression, Delivery, Error, ErrorCode, Message, Partitioner, Producer,
    ProducerBuilder,
};

use crate::fake::{Fake, Fault};
use crate::{builder, client};

/// One message a batch, so that faults hit a known message.
fn one_by_one(client: &Client) -> ProducerBuilder {
    client.producer().batch_messages(1)
}

async fn send(producer: &Producer, topic: &str, value: &str) -> Delivery {
    producer.send(Message::new(topic).value(value)).await.unwrap()
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// Sends `count` numbered messages, all on their way at once, and waits for all.
async fn send_numbers(producer: &Producer, topic: &str, count: usize) -> Vec<Result<u64, Error>> {
    let mut deliveries = Vec::new();
    for number in numbers(0..count) {
        deliveries.push(send(producer, topic, &number).await);
    }
    let mut results = Vec::new();
    for delivery in deliveries {
        results.push(delivery.await.map(|receipt| receipt.offset.unwrap()));
    }
    results
}

#[tokio::test]
async fn messages_gather_in_batches() {
    let fake = Fake::start().await;
    fake.create("t", 1);
    let client = client(&fake).await;
    let linger = Duration::from_secs(3600);
    let producer = client.producer().linger(linger).batch_messages(10).build().unwrap();
    for number in numbers(0..25) {
        drop(send(&producer, "t", &number).await);
    }
    producer.flush().await.unwrap();
    let batches: Vec<_> = fake.state().seen.iter().map(|seen| seen.records).collect();
    assert_eq!(batches, [10, 10, 5]);
    assert_eq!(fake.values("t", 0), numbers(0..25));
}

#[tokio::test]
async fn batches_end_at_their_bytes() {
    let fake = Fake::start().await;
    fake.create("t", 1);
    let client = client(&fake).await;
    let linger = Duration::from_secs(3600);
    let producer = client.producer().linger(linger).batch_bytes(2048).build().unwrap();
    let value = "v".repeat(500);
    for _ in 0..9 {
        drop(send(&producer, "t", &value).await);
    }
    // Larger than a batch is to be: it goes alone.
    drop(send(&producer, "t", &"w".repeat(5000)).await);
    producer.close().await.unwrap();
    let batches: Vec<_> =
        fake.state().seen.iter().map(|seen| (seen.records, seen.batch.len())).collect();
    assert!(batches.iter().all(|(records, bytes)| *bytes <= 2048 || *records == 1), "{batches:?}");
    assert_eq!(batches.iter().map(|(records, _)| records).sum::<u32>(), 10);
    assert!(batches.len() <= 4, "{batches:?}");
}

#[tokio::test]
async fn receipts_name_the_place() {
    let fake = Fake::start().await;
    fake.create("t", 2);
    let client = client(&fake).await;
    let producer = client.producer().build().unwrap();
    for expected in 0..3 {
        let message = Message::new("t").value("x").partition(1);
        let receipt = producer.send(message).await.unwrap().await.unwrap();
        assert_eq!((receipt.partition, receipt.offset), (1, Some(expected)));
        assert_eq!((receipt.level, receipt.append_time_ms), (AckLevel::Durable, Some(1)));
    }
    let message = Message::new("t").partition(2);
    let error = producer.send(message).await.unwrap_err();
    assert!(matches!(error, Error::NoSuchPartition { partition: 2, partitions: 2, .. }));
    let error = producer.send(Message::new("nothing")).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopic));
    assert!(error.to_string().contains("corelane topic create nothing"), "{error}");
}

#[tokio::test]
async fn keys_stay_together_and_the_rest_is_spread() {
    let fake = Fake::start().await;
    fake.create("t", 4);
    let client = client(&fake).await;
    let by_key = client.producer().build().unwrap();
    let mut places = std::collections::HashMap::new();
    for number in 0..40 {
        let key = format!("key {}", number % 8);
        let delivery = by_key.send(Message::new("t").key(&key).value("x")).await.unwrap();
        let partition = delivery.await.unwrap().partition;
        assert_eq!(*places.entry(key).or_insert(partition), partition);
    }

    let in_turn = client.producer().partitioner(Partitioner::RoundRobin).build().unwrap();
    let mut counts = [0; 4];
    for _ in 0..8 {
        let delivery = in_turn.send(Message::new("t").key("k").value("x")).await.unwrap();
        counts[delivery.await.unwrap().partition as usize] += 1;
    }
    assert_eq!(counts, [2; 4]);

    let sticky = one_by_one(&client).partitioner(Partitioner::Sticky).build().unwrap();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..4 {
        let delivery = sticky.send(Message::new("t").value("x")).await.unwrap();
        seen.insert(delivery.await.unwrap().partition);
    }
    assert_eq!(seen.len(), 4);
}

/// Runs 20 messages, one a batch, past a fault at each place in turn.
async fn survives(fault: Fault) {
    for at in [0, 1, 4, 19] {
        let fake = Fake::start().await;
        fake.create("t", 1);
        fake.state().faults.insert(at, fault);
        let client = client(&fake).await;
        let producer = one_by_one(&client).build().unwrap();
        let offsets = send_numbers(&producer, "t", 20).await;
        for (expected, offset) in offsets.into_iter().enumerate() {
            assert_eq!(offset.unwrap(), expected as u64, "{fault:?} at {at}");
        }
        assert_eq!(fake.values("t", 0), numbers(0..20), "{fault:?} at {at}");

        // What was sent again was sent unchanged: its number and bytes are the same.
        let seen = &fake.state().seen;
        for sent in seen.iter() {
            let number = |batch: &[u8]| batch[43..57].to_vec();
            let same = seen.iter().filter(|other| number(&other.batch) == number(&sent.batch));
            assert!(same.clone().all(|other| other.batch == sent.batch));
        }
        assert!(seen.len() > 20);
    }
}

#[tokio::test]
async fn a_connection_lost_before_storing_loses_nothing() {
    survives(Fault::Drop).await;
}

#[tokio::test]
async fn a_connection_lost_after_storing_repeats_nothing() {
    survives(Fault::StoreAndDrop).await;
}

#[tokio::test]
async fn a_busy_server_loses_nothing() {
    survives(Fault::Refuse(ErrorCode::Busy)).await;
}

#[tokio::test]
async fn an_unknown_outcome_repeats_nothing() {
    survives(Fault::StoreAndRefuse(ErrorCode::OutcomeUnknown)).await;
    survives(Fault::StoreAndRefuse(ErrorCode::DeadlineExceeded)).await;
}

#[tokio::test]
async fn a_batch_that_is_never_answered_is_sent_again() {
    let fake = Fake::start().await;
    fake.create("t", 1);
    fake.state().faults.insert(1, Fault::StoreAndForget);
    let client = builder(&fake).request_timeout(Duration::from_millis(100)).build().await.unwrap();
    let producer = one_by_one(&client).build().unwrap();
    let offsets = send_numbers(&producer, "t", 5).await;
    assert!(offsets.iter().all(Result::is_ok), "{offsets:?}");
    assert_eq!(fake.values("t", 0), numbers(0..5));
}

#[tokio::test]
async fn a_message_refused_for_good_takes_no_other_with_it() {
    for at in [0, 2] {
        let fake = Fake::start().await;
        fake.create("t", 1);
        fake.state().faults.insert(at, Fault::Refuse(ErrorCode::InvalidArgument));
        let client = client(&fake).await;
        let producer = one_by_one(&client).build().unwrap();
        let results = send_numbers(&producer, "t", 8).await;
        for (number, result) in results.iter().enumerate() {
            let code = result.as_ref().err().and_then(Error::code);
            let expected = (number == at).then_some(ErrorCode::InvalidArgument);
            assert_eq!(code, expected, "message {number}");
        }
        let mut expected = numbers(0..8);
        expected.remove(at);
        assert_eq!(fake.values("t", 0), expected);
    }
}

#[tokio::test]
async fn a_forgotten_producer_takes_a_new_id() {
    let fake = Fake::start().await;
    fake.create("t", 1);
    let client = client(&fake).await;
    let producer = one_by_one(&client).build().unwrap();
    send_numbers(&producer, "t", 3).await;
    for log in fake.state().logs.values_mut() {
        log.forget_producers();
    }
    let results = send_numbers(&producer, "t", 6).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let expected: Vec<_> = numbers(0..3).into_iter().chain(numbers(0..6)).collect();
    assert_eq!(fake.values("t", 0), expected);
}

#[tokio::test]
async fn a_repeat_whose_place_is_forgotten_counts_as_stored() {
    let fake = Fake::start().await;
    fake.create("t", 1);
    fake.state().faults.insert(0, Fault::StoreAndRefuse(ErrorCode::DuplicateSequence));
    let client = client(&fake).await;
    let producer = one_by_one(&client).build().unwrap();
    let receipt = send(&producer, "t", "0").await.await.unwrap();
    assert_eq!((receipt.offset, receipt.level), (None, AckLevel::Durable));
}

#[tokio::test]
async fn without_numbers_nothing_uncertain_is_sent_again() {
    let fake = Fake::start().await;
    fake.create("t", 1);
    fake.state().faults.insert(0, Fault::StoreAndDrop);
    fake.state().faults.insert(2, Fault::Refuse(ErrorCode::Busy));
    let client = client(&fake).await;
    let producer = one_by_one(&client).idempotent(false).in_flight(1).build().unwrap();
    let results = send_numbers(&producer, "t", 3).await;
    assert!(matches!(results[0], Err(Error::OutcomeUnknown { .. })), "{results:?}");
    assert!(results[1..].iter().all(Result::is_ok), "{results:?}");
    assert_eq!(fake.values("t", 0), numbers(0..3));
}

#[tokio::test]
async fn a_topic_made_anew_is_found_again() {
    let fake = Fake::start().await;
    fake.create("t", 1);
    let client = client(&fake).await;
    let producer = one_by_one(&client).build().unwrap();
    send_numbers(&producer, "t", 2).await;
    client.delete_topic("t").await.unwrap();
    fake.create("t", 1);
    let results = send_numbers(&producer, "t", 2).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(fake.values("t", 0), numbers(0..2));

    client.delete_topic("t").await.unwrap();
    let error = send(&producer, "t", "x").await.await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopic));
}

#[tokio::test]
async fn without_acknowledgement_a_delivery_ends_at_the_socket() {
    let fake = Fake::start().await;
    fake.create("t", 1);
    let client = client(&fake).await;
    let producer = one_by_one(&client).ack(AckLevel::None).build().unwrap();
    let receipt = send(&producer, "t", "0").await.await.unwrap();
    assert_eq!((receipt.offset, receipt.level), (None, AckLevel::None));
    producer.close().await.unwrap();
    // A reply on the same connection comes after the message was taken.
    client.ping().await.unwrap();
    assert_eq!(fake.values("t", 0), ["0"]);
}

#[tokio::test]
async fn a_full_buffer_makes_senders_wait() {
    let fake = Fake::start().await;
    fake.create("t", 1);
    fake.state().hold_acks = true;
    let client = client(&fake).await;
    let builder = client.producer().batch_bytes(10_000).buffer_bytes(100_000);
    let producer = builder.build().unwrap();
    let value = "v".repeat(1000);
    let mut deliveries = Vec::new();
    // The messages have to take more than their values, and not a multiple of that.
    loop {
        let message = Message::new("t").value(&value);
        let mut sending = std::pin::pin!(producer.send(message));
        match std::future::poll_fn(|context| Poll::Ready(sending.as_mut().poll(context))).await {
            Poll::Ready(delivery) => deliveries.push(delivery.unwrap()),
            // The first waits for the metadata, not for the buffer.
            Poll::Pending if deliveries.is_empty() => {
                deliveries.push(sending.await.unwrap());
            }
            Poll::Pending => {
                assert!((80..=100).contains(&deliveries.len()), "{}", deliveries.len());
                fake.state().hold_acks = false;
                fake.changed();
                deliveries.push(sending.await.unwrap());
                break;
            }
        }
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    let message = "v".repeat(100_001);
    let error = producer.send(Message::new("t").value(&message)).await.unwrap_err();
    assert!(matches!(error, Error::MessageTooLarge { max: 100_000, .. }));
}

/// How many messages each batch had that the server was sent, once it has `count` of them.
async fn batches_seen(fake: &Fake, count: usize) -> Vec<u32> {
    let seen = async {
        while fake.state().seen.len() < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), seen).await.expect("the batch is not sent");
    fake.state().seen.iter().map(|seen| seen.records).collect()
}

#[tokio::test]
async fn behind_two_batches_small_ones_gather_and_large_ones_go() {
    let fake = Fake::start().await;
    fake.create("t", 1);
    fake.state().hold_acks = true;
    let client = client(&fake).await;
    let producer = client.producer().build().unwrap();
    let mut deliveries = vec![send(&producer, "t", "0").await];
    assert_eq!(batches_seen(&fake, 1).await, [1]);
    deliveries.push(send(&producer, "t", "1").await);
    assert_eq!(batches_seen(&fake, 2).await, [1, 1]);
    let large = "v".repeat(64 * 1024);
    for value in ["2", "3", "4", &large] {
        deliveries.push(send(&producer, "t", value).await);
        // Who would send each at once has the time to.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(batches_seen(&fake, 3).await, [1, 1, 4]);
    deliveries.push(send(&producer, "t", "6").await);
    fake.state().hold_acks = false;
    fake.changed();
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    assert_eq!(batches_seen(&fake, 4).await, [1, 1, 4, 1]);
}

#[tokio::test]
async fn a_dropped_producer_sends_what_it_has() {
    let fake = Fake::start().await;
    fake.create("t", 1);
    let client = client(&fake).await;
    let producer = client.producer().linger(Duration::from_secs(3600)).build().unwrap();
    let delivery = send(&producer, "t", "0").await;
    drop(producer);
    assert_eq!(delivery.await.unwrap().offset, Some(0));
}

#[tokio::test]
async fn delivery_gives_up_in_the_end() {
    let fake = Fake::start().await;
    fake.create("t", 1);
    fake.state().faults = (0..10_000).map(|at| (at, Fault::Refuse(ErrorCode::Busy))).collect();
    let client = client(&fake).await;
    let timeout = Duration::from_millis(100);
    let producer = one_by_one(&client).delivery_timeout(timeout).build().unwrap();
    let error = send(&producer, "t", "0").await.await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::Busy));
    assert!(error.is_retryable());

    fake.state().faults = (0..10_000).map(|at| (at, Fault::Drop)).collect();
    let error = send(&producer, "t", "0").await.await.unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error:?}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn settings_out_of_bounds_are_refused() {
    let fake = Fake::start().await;
    let client = client(&fake).await;
    assert!(client.producer().in_flight(6).build().is_err());
    assert!(client.producer().in_flight(0).build().is_err());
    assert!(client.producer().batch_bytes(1023).build().is_err());
    assert!(client.producer().batch_messages(0).build().is_err());
    assert!(client.producer().buffer_bytes(1024).build().is_err());
}

/// Many messages to four partitions past faults at random places, of random kinds.
#[tokio::test]
async fn random_faults_lose_and_repeat_nothing() {
    let given = std::env::var("CORELANE_SEED").ok().and_then(|text| text.parse::<u64>().ok());
    let mut seed = given.unwrap_or_else(|| RandomState::new().build_hasher().finish());
    println!("CORELANE_SEED={seed}");
    // SplitMix64 (Vigna).
    let mut random = |below: u64| {
        seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % below
    };
    let kinds = [
        Fault::Drop,
        Fault::StoreAndDrop,
        Fault::Refuse(ErrorCode::Busy),
        Fault::Refuse(ErrorCode::DiskFull),
        Fault::StoreAndRefuse(ErrorCode::OutcomeUnknown),
    ];
    for _ in 0..5 {
        let fake = Fake::start().await;
        fake.create("t", 4);
        let places: std::collections::HashMap<_, _> = (0..60)
            .map(|_| (random(400) as usize, kinds[random(kinds.len() as u64) as usize]))
            .collect();
        fake.state().faults = places;
        let client = client(&fake).await;
        let producer = client.producer().batch_messages(1 + random(8) as u32).build().unwrap();
        let mut deliveries = Vec::new();
        for number in 0..1000u32 {
            let value = number.to_string();
            let message = Message::new("t").value(&value).partition(number % 4);
            deliveries.push((number, producer.send(message).await.unwrap()));
        }
        for (number, delivery) in deliveries {
            let offset = delivery.await.unwrap().offset;
            assert_eq!(offset, Some(u64::from(number / 4)), "message {number}");
        }
        for partition in 0..4 {
            let expected: Vec<_> =
                (0..1000).filter(|n| n % 4 == partition).map(|n| n.to_string()).collect();
            assert_eq!(fake.values("t", partition), expected);
        }
    }
}

#[tokio::test]
async fn compressed_batches_are_smaller_and_numbered() {
    for compression in [Compression::Lz4, Compression::Zstd] {
        let fake = Fake::start().await;
        fake.create("t", 1);
        let client = client(&fake).await;
        let linger = Duration::from_secs(3600);
        let producer = client.producer().compression(compression).linger(linger).build().unwrap();
        for _ in 0..100 {
            drop(send(&producer, "t", "the same again and again").await);
        }
        producer.close().await.unwrap();
        let seen = fake.state().seen.clone();
        assert_eq!(seen.iter().map(|seen| seen.records).sum::<u32>(), 100);
        assert!(seen[0].batch.len() < 1000);
        let header = protocol::check_batch(&[&seen[0].batch]).unwrap();
        assert!(header.is_idempotent());
    }
}
