//! Every codec gives back what it was given, and arbitrary bytes never make one panic.
//!
//! `CORELANE_SEED` repeats a run; every run prints its seed.

mod values;

use std::hash::{BuildHasher, Hasher, RandomState};

use corelane_protocol as protocol;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use protocol::{
    BatchBuilder, DeliverHead, FetchHead, FrameHeader, ProduceAck, ProduceHead, RecordIter,
};

/// Runs `test` on 256 values of `strategy`.
fn check<S: Strategy>(strategy: S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let given = std::env::var("CORELANE_SEED").ok().and_then(|text| text.parse::<u64>().ok());
    let seed = given.unwrap_or_else(|| RandomState::new().build_hasher().finish());
    println!("CORELANE_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    if let Err(error) = TestRunner::new_with_rng(config, rng).run(&strategy, test) {
        panic!("{error}\nrepeat with CORELANE_SEED={seed}");
    }
}

fn frame(bytes: &[u8]) -> (FrameHeader, &[u8]) {
    let (header, length) = protocol::next_frame(bytes).unwrap().expect("a whole frame");
    assert_eq!(length, bytes.len());
    (header, &bytes[16..])
}

#[test]
fn requests_come_back() {
    check(
        (values::request(), any::<u32>(), any::<u64>()),
        |(request, deadline_ms, correlation)| {
            let mut out = Vec::new();
            protocol::put_request(&mut out, correlation, &request, deadline_ms).unwrap();
            let (header, body) = frame(&out);
            prop_assert_eq!(header.correlation, correlation);
            prop_assert_eq!(protocol::decode_request(&header, body), Ok((request, deadline_ms)));
            Ok(())
        },
    );
}

#[test]
fn replies_come_back() {
    check((values::reply(), any::<u64>()), |(reply, correlation)| {
        let mut out = Vec::new();
        protocol::put_reply(&mut out, correlation, &reply).unwrap();
        let (header, body) = frame(&out);
        prop_assert_eq!(header.correlation, correlation);
        prop_assert_eq!(protocol::decode_reply(&header, body), Ok(reply));
        Ok(())
    });
}

#[test]
fn heads_come_back() {
    check(values::heads(), |(produce, ack, deliver, fetch)| {
        let mut out = Vec::new();
        protocol::put_produce_head(&mut out, 1, &produce, 0);
        prop_assert_eq!(ProduceHead::parse(frame(&out).1), Ok(produce));
        out.clear();
        protocol::put_produce_ack(&mut out, &ack, 1);
        prop_assert_eq!(ProduceAck::parse(frame(&out).1), Ok(ack));
        out.clear();
        protocol::put_deliver_head(&mut out, &deliver, 0);
        prop_assert_eq!(DeliverHead::parse(frame(&out).1), Ok(deliver));
        out.clear();
        protocol::put_fetch_head(&mut out, 1, &fetch, 0);
        prop_assert_eq!(FetchHead::parse(frame(&out).1), Ok(fetch));
        Ok(())
    });
}

#[test]
fn handshakes_come_back() {
    check((values::hello(), values::hello_reply(), values::go_away()), |(hello, reply, away)| {
        let mut out = Vec::new();
        protocol::put_hello(&mut out, 1, &hello).unwrap();
        prop_assert_eq!(protocol::parse_hello(frame(&out).1), Ok(hello));
        out.clear();
        protocol::put_hello_reply(&mut out, 1, &reply).unwrap();
        prop_assert_eq!(protocol::parse_hello_reply(frame(&out).1), Ok(reply));
        out.clear();
        protocol::put_go_away(&mut out, &away);
        prop_assert_eq!(protocol::parse_go_away(frame(&out).1), Ok(away));
        Ok(())
    });
}

#[test]
fn records_come_back() {
    check((values::records(), any::<[usize; 2]>()), |(records, cuts)| {
        let mut builder = BatchBuilder::new();
        for record in &records {
            let headers: Vec<_> = record.headers();
            builder
                .append(record.time_ms, record.key.as_deref(), record.value.as_deref(), headers)
                .unwrap();
        }
        let batch = builder.finish(None);
        let (low, high) = (cuts[0] % batch.len(), cuts[1] % batch.len());
        let (low, high) = (low.min(high), low.max(high));
        let parts = [&batch[..low], &batch[low..high], &batch[high..]];
        let header = protocol::check_batch(&parts).unwrap();
        prop_assert_eq!(header.records_count as usize, records.len());

        let read = RecordIter::new(&header, &batch[61..]);
        for (index, (read, record)) in read.zip(&records).enumerate() {
            let read = read.unwrap();
            prop_assert_eq!(read.offset_delta as usize, index);
            let time_ms = header.base_timestamp.wrapping_add(read.timestamp_delta);
            prop_assert_eq!(time_ms, record.time_ms);
            prop_assert_eq!(read.key, record.key.as_deref());
            prop_assert_eq!(read.value, record.value.as_deref());
            prop_assert_eq!(read.headers.collect::<Vec<_>>(), record.headers());
        }
        Ok(())
    });
}

/// Gives `body` to every reader; results do not matter, panics and endless loops do.
fn read_as_everything(kind: u16, body: &[u8]) {
    let header = FrameHeader::new(kind, 1, body.len());
    let _ = protocol::decode_request(&header, body);
    let _ = protocol::decode_reply(&header, body);
    let _ = protocol::next_frame(body);
    let _ = protocol::parse_hello(body);
    let _ = protocol::parse_hello_reply(body);
    let _ = protocol::parse_go_away(body);
    let _ = ProduceHead::parse(body);
    let _ = ProduceAck::parse(body);
    let _ = DeliverHead::parse(body);
    let _ = FetchHead::parse(body);
    let _ = protocol::check_batch(&[body]);
    let parts = [body];
    let _ = protocol::split_batches(&parts, None).count();
}

#[test]
fn arbitrary_bytes_never_panic() {
    check((0u16..0x80, prop::collection::vec(any::<u8>(), 0..300)), |(kind, body)| {
        read_as_everything(kind, &body);
        Ok(())
    });
}

#[test]
fn damaged_frames_never_panic() {
    let damage = prop::collection::vec((any::<usize>(), any::<u8>()), 1..4);
    check((values::request(), values::reply(), damage), |(request, reply, damage)| {
        let (mut asked, mut answered) = (Vec::new(), Vec::new());
        protocol::put_request(&mut asked, 1, &request, 1).unwrap();
        protocol::put_reply(&mut answered, 1, &reply).unwrap();
        for mut bytes in [asked, answered] {
            let kind = u16::from_le_bytes([bytes[6], bytes[7]]);
            let body = &mut bytes[16..];
            for (at, byte) in &damage {
                if let Some(place) = at.checked_rem(body.len()).and_then(|at| body.get_mut(at)) {
                    *place = *byte;
                }
            }
            read_as_everything(kind, body);
        }
        Ok(())
    });
}

#[test]
fn damaged_records_never_panic() {
    let damage = prop::collection::vec((any::<usize>(), any::<u8>()), 1..6);
    check((values::records(), damage), |(records, damage)| {
        let mut builder = BatchBuilder::new();
        for record in &records {
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            builder.append(record.time_ms, key, value, record.headers()).unwrap();
        }
        let batch = builder.finish(None);
        let header = protocol::check_batch(&[&batch]).unwrap();
        let mut section = batch[61..].to_vec();
        for (at, byte) in damage {
            let at = at % section.len();
            section[at] = byte;
        }
        for record in RecordIter::new(&header, &section).flatten() {
            let _ = record.headers.count();
        }
        Ok(())
    });
}
