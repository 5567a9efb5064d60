//! Records as slices, credit, and going on after a lost connection.

use std::time::Duration;

use std::io::Write as _;

use corelane_client::{
    Client, Compression, CompressionError, Consumer, Error, ErrorCode, Message, OffsetReset,
    Record, Skipped, StartPosition, UnpackLimits,
};
use futures_util::StreamExt;
use protocol::Codec;
use protocol::records::BatchBuilder;

use crate::client;
use crate::fake::Fake;

/// Sends numbered messages from `range`, ten a batch, to a topic of one partition.
async fn fill(client: &Client, range: std::ops::Range<u32>) {
    let linger = Duration::from_secs(3600);
    let producer = client.producer().linger(linger).batch_messages(10).build().unwrap();
    for number in range {
        let value = number.to_string();
        drop(producer.send(Message::new("t").value(&value)).await.unwrap());
    }
    producer.close().await.unwrap();
}

async fn next(consumer: &mut Consumer) -> Record {
    consumer.next().await.expect("the stream goes on").unwrap()
}

fn number(record: &Record) -> u32 {
    std::str::from_utf8(record.value().unwrap()).unwrap().parse().unwrap()
}

#[tokio::test]
async fn everything_of_a_record_arrives() {
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let fake = Fake::start().await;
        fake.create("t", 1);
        let client = client(&fake).await;
        let producer = client.producer().compression(compression).build().unwrap();
        let long = "long ".repeat(1000);
        let headers: [(&str, &[u8]); 2] = [("trace", b"1"), ("", b"")];
        let message = Message::new("t").key("k").value(&long).headers(&headers).timestamp_ms(77);
        producer.send(message).await.unwrap().await.unwrap();
        producer.send(Message::new("t").timestamp_ms(78)).await.unwrap().await.unwrap();

        let mut consumer = client.consumer("t").start(StartPosition::First).build().await.unwrap();
        let first = next(&mut consumer).await;
        assert_eq!((first.topic().as_str(), first.partition(), first.offset()), ("t", 0, 0));
        assert_eq!((first.key(), first.timestamp_ms()), (Some(&b"k"[..]), 77));
        assert_eq!(first.value(), Some(long.as_bytes()));
        let read: Vec<_> = first.headers().collect();
        assert_eq!(read, [("trace", Some(&b"1"[..])), ("", Some(&b""[..]))]);
        let second = next(&mut consumer).await;
        assert_eq!((second.key(), second.value(), second.offset()), (None, None, 1));
    }
}

#[tokio::test]
async fn records_of_a_batch_lie_in_one_buffer() {
    let fake = Fake::start().await;
    fake.create("t", 1);
    let client = client(&fake).await;
    fill(&client, 0..10).await;
    let mut consumer = client.consumer("t").start(StartPosition::First).build().await.unwrap();
    let (first, second) = (next(&mut consumer).await, next(&mut consumer).await);
    // Both values are where they were in the stored batch: the same distance apart.
    let stored = fake.state().seen[0].batch.clone();
    let at = |value: &[u8]| stored.windows(value.len()).rposition(|w| w == value).unwrap();
    let distance = at(&[2, b'1', 0]) - at(&[2, b'0', 0]);
    let address = |record: &Record| record.value().unwrap().as_ptr() as usize;
    assert_eq!(address(&second) - address(&first), distance);
    let value = first.value_bytes().unwrap();
    assert_eq!(value.as_ptr() as usize, address(&first));
}

#[tokio::test]
async fn credit_is_given_back_as_records_are_consumed() {
    let fake = Fake::start().await;
    fake.create("t", 1);
    let client = client(&fake).await;
    let producer = client.producer().batch_bytes(20_000).build().unwrap();
    let value = "v".repeat(9_000);
    for _ in 0..100 {
        drop(producer.send(Message::new("t").value(&value)).await.unwrap());
    }
    producer.close().await.unwrap();
    // 900 KB through a window of 64 KiB.
    let builder = client.consumer("t").start(StartPosition::First).credit_bytes(64 * 1024);
    let mut consumer = builder.build().await.unwrap();
    for offset in 0..100 {
        assert_eq!(next(&mut consumer).await.offset(), offset);
    }
}

#[tokio::test]
async fn it_goes_on_where_it_was_after_a_lost_connection() {
    let fake = Fake::start().await;
    fake.create("t", 1);
    let client = client(&fake).await;
    fill(&client, 0..100).await;
    let mut consumer = client.consumer("t").start(StartPosition::First).build().await.unwrap();
    for expected in 0..100 {
        // In the middle of batches, and between them.
        if [5, 40, 77].contains(&expected) {
            fake.disconnect_all();
        }
        assert_eq!(number(&next(&mut consumer).await), expected);
    }
    fake.disconnect_all();
    fill(&client, 100..120).await;
    for expected in 100..120 {
        assert_eq!(number(&next(&mut consumer).await), expected);
    }
}

#[tokio::test]
async fn a_go_away_moves_everything_elsewhere() {
    let fake = Fake::start().await;
    fake.create("t", 1);
    let client = client(&fake).await;
    fill(&client, 0..10).await;
    let mut consumer = client.consumer("t").start(StartPosition::First).build().await.unwrap();
    let producer = client.producer().build().unwrap();
    for expected in 0..10 {
        assert_eq!(number(&next(&mut consumer).await), expected);
    }
    let before = fake.state().connections;
    fake.go_away();
    for expected in 10..20 {
        let value = expected.to_string();
        let message = Message::new("t").value(&value);
        producer.send(message).await.unwrap().await.unwrap();
        assert_eq!(number(&next(&mut consumer).await), expected);
    }
    assert!(fake.state().connections > before);
}

#[tokio::test]
async fn starts_are_where_they_should_be() {
    let fake = Fake::start().await;
    fake.create("t", 1);
    let client = client(&fake).await;
    fill(&client, 0..25).await;
    // In the middle of a batch: what comes before is skipped.
    for (start, expected) in [
        (StartPosition::First, 0),
        (StartPosition::Last, 24),
        (StartPosition::Offset(13), 13),
        (StartPosition::Offset(20), 20),
    ] {
        let mut consumer = client.consumer("t").start(start).build().await.unwrap();
        assert_eq!(next(&mut consumer).await.offset(), expected);
    }
    let builder = client.consumer("t").start(StartPosition::Offset(26));
    let mut consumer = builder.build().await.unwrap();
    let error = consumer.next().await.unwrap().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::OffsetOutOfRange));
    assert!(consumer.next().await.is_none());

    let builder = client.consumer("t").start(StartPosition::Offset(26)).reset(OffsetReset::First);
    assert_eq!(next(&mut builder.build().await.unwrap()).await.offset(), 0);
}

#[tokio::test]
async fn a_named_consumer_goes_on_after_its_commit() {
    let fake = Fake::start().await;
    fake.create("t", 1);
    let client = client(&fake).await;
    fill(&client, 0..30).await;
    let mut consumer = client.consumer("t").name("c").build().await.unwrap();
    for expected in 0..7 {
        assert_eq!(number(&next(&mut consumer).await), expected);
    }
    consumer.commit().await.unwrap();
    assert_eq!(client.committed_offset("t", 0, "c").await.unwrap(), Some(7));
    assert_eq!(client.committed_offset("t", 0, "other").await.unwrap(), None);
    drop(consumer);
    let mut consumer = client.consumer("t").name("c").build().await.unwrap();
    assert_eq!(number(&next(&mut consumer).await), 7);

    let mut nameless = client.consumer("t").build().await.unwrap();
    assert!(matches!(nameless.commit().await, Err(Error::NoConsumerName)));
}

#[tokio::test]
async fn until_end_stops_at_what_was_the_end() {
    let fake = Fake::start().await;
    fake.create("t", 3);
    let client = client(&fake).await;
    let producer = client.producer().build().unwrap();
    for number in 0..20u32 {
        // Partition 2 stays empty.
        let value = number.to_string();
        let message = Message::new("t").value(&value).partition(number % 2);
        drop(producer.send(message).await.unwrap());
    }
    producer.flush().await.unwrap();
    let builder = client.consumer("t").start(StartPosition::First).until_end(true);
    let consumer = builder.build().await.unwrap();
    let late = Message::new("t").value("20").partition(0);
    producer.send(late).await.unwrap().await.unwrap();
    let mut numbers: Vec<_> = consumer.map(|record| number(&record.unwrap())).collect().await;
    numbers.sort_unstable();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn only_the_partitions_asked_for() {
    let fake = Fake::start().await;
    fake.create("t", 3);
    let client = client(&fake).await;
    let producer = client.producer().build().unwrap();
    for partition in 0..3 {
        drop(producer.send(Message::new("t").value("1").partition(partition)).await.unwrap());
    }
    producer.flush().await.unwrap();
    let builder = client.consumer("t").partition(1).start(StartPosition::First).until_end(true);
    let records: Vec<_> = builder.build().await.unwrap().collect().await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].as_ref().unwrap().partition(), 1);
    assert!(client.consumer("t").partition(3).build().await.is_err());
}

#[tokio::test]
async fn a_wrong_checksum_is_an_error_and_no_record() {
    let fake = Fake::start().await;
    fake.create("t", 1);
    fake.state().corrupt_deliveries = true;
    let client = client(&fake).await;
    fill(&client, 0..10).await;
    let mut consumer = client.consumer("t").start(StartPosition::First).build().await.unwrap();
    let error = consumer.next().await.unwrap().unwrap_err();
    assert!(matches!(error, Error::BadBatch { partition: 0, offset: 0, .. }), "{error:?}");
    assert!(consumer.next().await.is_none());
    // What is spoilt may be the length: the whole delivery is left out, when told to.
    fake.state().corrupt_deliveries = false;
    fill(&client, 10..20).await;
    assert_eq!(consumer.skip_bad_batch(), Some(Skipped { partition: 0, from: 0, to: 10 }));
    assert_eq!(number(&next(&mut consumer).await), 10);
}

#[tokio::test]
async fn a_bomb_is_an_error() {
    let fake = Fake::start().await;
    fake.create("t", 1);
    let client = client(&fake).await;
    let producer = client.producer().compression(Compression::Zstd).build().unwrap();
    let value = vec![0; 4_000_000];
    producer.send(Message::new("t").value(&value)).await.unwrap().await.unwrap();
    let builder = client.consumer("t").start(StartPosition::First).unpacked_bytes_max(1_000_000);
    let error = builder.build().await.unwrap().next().await.unwrap().unwrap_err();
    assert!(matches!(error, Error::BadCompression { .. }), "{error:?}");
}

/// Two numbered messages in a Zstandard frame with a window of 2^27 bytes.
fn wide_batch(first: u32) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for number in [first, first + 1] {
        builder.append(0, None, Some(number.to_string().as_bytes()), []).unwrap();
    }
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(builder.records()).unwrap();
    let section = encoder.finish().unwrap();
    builder.finish_compressed(None, Codec::Zstd, &section)
}

/// Messages 0 to 9, 10 and 11 in a wide window, 12 to 21.
async fn with_a_wide_batch() -> (Fake, Client) {
    let fake = Fake::start().await;
    fake.create("t", 1);
    let client = client(&fake).await;
    fill(&client, 0..10).await;
    for log in fake.state().logs.values_mut() {
        log.append(&wide_batch(10)).unwrap();
    }
    fill(&client, 12..22).await;
    (fake, client)
}

#[tokio::test]
async fn a_wide_window_is_read_unless_it_is_forbidden() {
    let (_fake, client) = with_a_wide_batch().await;
    let mut consumer = client.consumer("t").start(StartPosition::First).build().await.unwrap();
    for expected in 0..22 {
        assert_eq!(number(&next(&mut consumer).await), expected);
    }
    let builder = client.consumer("t").window_bytes_max(9 << 20);
    assert!(matches!(
        builder.build().await.err(),
        Some(Error::InvalidOption { option: "window_bytes_max", .. })
    ));
    let builder = client.consumer("t").unpacked_bytes_max(1 << 32);
    assert!(matches!(
        builder.build().await.err(),
        Some(Error::InvalidOption { option: "unpacked_bytes_max", .. })
    ));
}

#[tokio::test]
async fn a_batch_that_cannot_be_unpacked_concerns_itself_only() {
    let (_fake, client) = with_a_wide_batch().await;
    let builder = client.consumer("t").name("n").start(StartPosition::First);
    let mut consumer = builder.window_bytes_max(8 << 20).build().await.unwrap();
    assert_eq!(consumer.skip_bad_batch(), None);
    for expected in 0..10 {
        assert_eq!(number(&next(&mut consumer).await), expected);
    }
    let error = consumer.next().await.unwrap().unwrap_err();
    let Error::BadCompression { partition: 0, offset: 10, next_offset: 12, source } = &error else {
        panic!("{error:?}")
    };
    let wide = 1 << 27;
    assert!(matches!(source, CompressionError::WindowTooLarge { window, .. } if *window == wide));
    assert!(error.to_string().contains("after it comes offset 12"), "{error}");
    // Nothing is left out by itself.
    assert!(consumer.next().await.is_none());
    assert_eq!(consumer.positions(), [(0, 10)]);
    assert_eq!(consumer.skip_bad_batch(), Some(Skipped { partition: 0, from: 10, to: 12 }));
    assert_eq!(consumer.skip_bad_batch(), None, "once");
    for expected in 12..22 {
        assert_eq!(number(&next(&mut consumer).await), expected);
    }
    consumer.commit().await.unwrap();
    fill(&client, 22..23).await;
    assert_eq!(number(&next(&mut consumer).await), 22, "and goes on as ever");
}

#[tokio::test]
async fn a_fetch_gives_what_is_before_a_bad_batch_and_says_what_is_after_it() {
    let (_fake, client) = with_a_wide_batch().await;
    let limits = UnpackLimits { window_bytes_max: 8 << 20, ..UnpackLimits::default() };
    let fetch = |offset| client.fetch("t", 0, offset).unpack_limits(limits).send();
    let before = fetch(3).await.unwrap();
    assert_eq!((before.records.len(), before.next_offset), (7, 10));
    let error = fetch(before.next_offset).await.unwrap_err();
    assert_eq!(error.after_bad_batch(), Some((0, 12)));
    let after = fetch(12).await.unwrap();
    assert_eq!(number(&after.records[0]), 12);
}

#[tokio::test]
async fn a_server_that_stays_away_ends_the_stream() {
    let fake = Fake::start().await;
    fake.create("t", 1);
    let client = client(&fake).await;
    let timeout = Some(Duration::from_millis(50));
    let builder = client.consumer("t").start(StartPosition::First).reconnect_timeout(timeout);
    let mut consumer = builder.build().await.unwrap();
    client.delete_topic("t").await.unwrap();
    fake.disconnect_all();
    let error = consumer.next().await.unwrap().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopic), "{error:?}");
}

#[tokio::test]
async fn a_subscription_ended_by_the_server_begins_again_or_tells_why() {
    let fake = Fake::start().await;
    fake.create("t", 1);
    let client = client(&fake).await;
    fill(&client, 0..10).await;
    let mut consumer = client.consumer("t").start(StartPosition::First).build().await.unwrap();
    for expected in 0..10 {
        assert_eq!(number(&next(&mut consumer).await), expected);
    }
    fake.end_subscriptions(ErrorCode::Busy);
    fill(&client, 10..20).await;
    for expected in 10..20 {
        assert_eq!(number(&next(&mut consumer).await), expected);
    }
    fake.end_subscriptions(ErrorCode::DamagedData);
    let error = consumer.next().await.unwrap().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::DamagedData));
}

#[tokio::test]
async fn fetch_reads_by_poll() {
    let fake = Fake::start().await;
    fake.create("t", 1);
    let client = client(&fake).await;
    fill(&client, 0..25).await;
    let fetched = client.fetch("t", 0, 13).send().await.unwrap();
    let numbers: Vec<_> = fetched.records.iter().map(number).collect();
    assert_eq!(numbers, (13..25).collect::<Vec<_>>());
    assert_eq!((fetched.next_offset, fetched.high_watermark, fetched.log_start), (25, 25, 0));
    let first = client.fetch("t", 0, 0).max_bytes(1).send().await.unwrap();
    assert_eq!((first.records.len(), first.next_offset), (10, 10));
    assert!(client.fetch("t", 0, 25).send().await.unwrap().records.is_empty());
}
