//! Publishes by the hundred under way on one connection, good and bad, for several partitions: the
//! server takes them together where it can, and each gets the answer it would get alone. What is stored
//! passes the audit and is there after a start.

use std::collections::BTreeMap;

use model::{AckLevel, ErrorCode, PartitionHandle, Request, StreamId};
use protocol::batch::BATCH_HEADER_BYTES;
use protocol::records::Producer;
use protocol::{BatchBuilder, FETCH_HEAD_BYTES, RecordIter, kind, split_batches};

use crate::harness::{Launch, corelane, folder};
use crate::random::Random;
use crate::wire::{Frame, Wire, batch, produce_frame};

/// A partition: its shard, and its number there.
type Place = (u16, u32);

const FRAMES: u64 = 3_000;
/// How many frames a stretch of values of one length has, on average.
const STRETCH_FRAMES: u64 = 60;

/// What must become of a frame.
#[derive(Clone, Debug, PartialEq)]
enum Fate {
    Stored {
        place: Place,
        level: AckLevel,
        values: Vec<String>,
    },
    /// Acknowledged by nothing.
    StoredInSilence {
        place: Place,
        values: Vec<String>,
    },
    Refused(ErrorCode),
    Pong,
}

#[test]
fn each_publish_of_a_pipeline_gets_its_own_answer() {
    let mut random = Random::of_this_run();
    let folder = folder();
    let data = folder.path().join("data");
    let launch = Launch::new(&data).cores(2);
    let server = launch.start();
    server.create("t", 4);
    let mut wire = Wire::open(server.address);
    let handles: Vec<_> = (0..4).map(|partition| wire.handle("t", partition)).collect();
    let (mut bytes, mut fates) = (Vec::new(), BTreeMap::new());
    let mut current = handles[0];
    let mut lengths = Lengths::draw(&mut random);
    for correlation in 1_000..1_000 + FRAMES {
        // Runs to one partition, as most producers send them, and changes in between.
        if random.below(8) == 0 {
            current = handles[random.below(4) as usize];
        }
        if random.below(STRETCH_FRAMES) == 0 {
            lengths = Lengths::draw(&mut random);
        }
        let (frame, fate) = frame(&mut random, correlation, current, lengths);
        bytes.extend(frame);
        fates.insert(correlation, fate);
    }
    // In pieces that end where they may: a frame can lie in two receive buffers.
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rest.len().min(random.below(200_000) as usize + 1));
        wire.send(now);
        rest = later;
    }
    let mut expected = expect_answers(&mut wire, fates);
    wire.check_alive();
    // Behind it everything can be read.
    check_stored(&mut wire, &handles, &mut expected, "the end");
    assert!(!server.log().contains("panicked"), "{}", server.log());
    server.stop();

    corelane(&["verify", data.to_str().unwrap()]).ok();
    let server = launch.start();
    let mut wire = Wire::open(server.address);
    let again: Vec<_> = (0..4).map(|partition| wire.handle("t", partition)).collect();
    assert_eq!(again, handles);
    check_stored(&mut wire, &handles, &mut expected, "after the start");
}

/// Publishes one more message to each partition: its offset follows, and before it is what is expected.
fn check_stored(
    wire: &mut Wire,
    handles: &[PartitionHandle],
    expected: &mut BTreeMap<Place, Vec<String>>,
    last: &str,
) {
    for handle in handles {
        let expected = expected.entry(place(*handle)).or_default();
        let ack = wire.produce(*handle, AckLevel::Durable, &batch(&[last])).ack();
        assert_eq!(ack.base_offset, expected.len() as u64, "{handle:?}");
        expected.push(last.to_owned());
        let stored = stored(wire, *handle);
        let differs = stored.iter().zip(&*expected).position(|(stored, sent)| stored != sent);
        assert_eq!((differs, stored.len()), (None, expected.len()), "{handle:?}");
    }
}

fn place(partition: PartitionHandle) -> Place {
    (partition.shard.0, partition.stream.0)
}

/// How long the values of a stretch of frames are. What is alike is counted together, and checksums of
/// batches as long as the one before are joined from parts; of others they are not.
#[derive(Clone, Copy)]
enum Lengths {
    /// All of them, bytes.
    One(usize),
    /// No two neighbours.
    Mixed,
}

impl Lengths {
    fn draw(random: &mut Random) -> Self {
        match random.below(4) {
            0 => Self::Mixed,
            _ => Self::One(100 + random.below(201) as usize),
        }
    }

    fn value(self, correlation: u64, n: u64) -> String {
        let bytes = match self {
            Self::One(bytes) => bytes,
            Self::Mixed => 10 + (correlation % 90) as usize,
        };
        format!("{:x<bytes$}", format!("{correlation}-{n}-"))
    }
}

fn frame(
    random: &mut Random,
    correlation: u64,
    to: PartitionHandle,
    lengths: Lengths,
) -> (Vec<u8>, Fate) {
    let place = place(to);
    let value = |n: u64| lengths.value(correlation, n);
    let one = batch(&[value(0)]);
    let durable = Some(AckLevel::Durable);
    let stored = |level, values| Fate::Stored { place, level, values };
    match random.below(40) {
        0 => {
            let mut bytes = Vec::new();
            protocol::put_request(&mut bytes, correlation, &Request::Ping, 0).unwrap();
            (bytes, Fate::Pong)
        }
        1 => {
            let mut altered = one;
            *altered.last_mut().unwrap() ^= 1;
            let frame = produce_frame(to, durable, correlation, &altered);
            (frame, Fate::Refused(ErrorCode::CorruptBatch))
        }
        2 => {
            let nowhere = PartitionHandle { stream: StreamId(999), ..to };
            let frame = produce_frame(nowhere, durable, correlation, &one);
            (frame, Fate::Refused(ErrorCode::UnknownPartition))
        }
        3 => {
            let frame = produce_frame(to, durable, correlation, &one[..one.len() - 1]);
            (frame, Fate::Refused(ErrorCode::Malformed))
        }
        4 => {
            let values = vec![value(0), value(1), value(2)];
            let frame = produce_frame(to, durable, correlation, &batch(&values));
            (frame, stored(AckLevel::Durable, values))
        }
        5 => {
            let frame = produce_frame(to, Some(AckLevel::Memory), correlation, &one);
            (frame, stored(AckLevel::Memory, vec![value(0)]))
        }
        6 => {
            let frame = produce_frame(to, Some(AckLevel::None), correlation, &one);
            (frame, Fate::StoredInSilence { place, values: vec![value(0)] })
        }
        7 | 8 => {
            let frame = produce_frame(to, None, correlation, &one);
            (frame, stored(AckLevel::Durable, vec![value(0)]))
        }
        9 => {
            // A producer that numbers its batches, with an id of its own for each.
            let mut builder = BatchBuilder::new();
            builder.append(1, None, Some(value(0).as_bytes()), []).unwrap();
            let producer = Producer { id: correlation as i64, epoch: 0, sequence: 0 };
            let frame = produce_frame(to, durable, correlation, &builder.finish(Some(producer)));
            (frame, stored(AckLevel::Durable, vec![value(0)]))
        }
        10 => {
            // More than is taken together.
            let values = vec!["y".repeat(20_000)];
            let frame = produce_frame(to, durable, correlation, &batch(&values));
            (frame, stored(AckLevel::Durable, values))
        }
        _ => (
            produce_frame(to, durable, correlation, &one),
            stored(AckLevel::Durable, vec![value(0)]),
        ),
    }
}

/// Every frame is answered as it must be, once. Returns the values of each partition by offset.
fn expect_answers(wire: &mut Wire, mut fates: BTreeMap<u64, Fate>) -> BTreeMap<Place, Vec<String>> {
    let mut placed: BTreeMap<Place, BTreeMap<u64, Vec<String>>> = BTreeMap::new();
    let mut silent = Vec::new();
    fates.retain(|correlation, fate| {
        let Fate::StoredInSilence { place, values } = fate else { return true };
        silent.push((*correlation, *place, std::mem::take(values)));
        false
    });
    // Where each acknowledged publish went, in the order sent.
    let mut offsets: BTreeMap<(Place, u64), u64> = BTreeMap::new();
    while !fates.is_empty() {
        let frame: Frame = wire.frame();
        let first = frame.header.correlation;
        if frame.header.kind != kind::PRODUCE_ACK {
            match fates.remove(&first).unwrap_or_else(|| panic!("answered twice: {frame:?}")) {
                Fate::Pong => assert_eq!(frame.reply(), model::Reply::Pong),
                Fate::Refused(code) => assert_eq!(frame.rejection().code, code, "{frame:?}"),
                fate => panic!("{first}: {fate:?} was answered by {:?}", frame.reply()),
            }
            continue;
        }
        let ack = frame.ack();
        for at in 0..u64::from(ack.count) {
            let correlation = first + at;
            let fate = fates.remove(&correlation).unwrap_or_else(|| panic!("{correlation} twice"));
            let Fate::Stored { place, level, values } = fate else {
                panic!("{correlation}: {fate:?} was acknowledged");
            };
            assert_eq!((ack.level, ack.offset_step as usize), (level, values.len()));
            let offset = ack.base_offset + at * u64::from(ack.offset_step);
            offsets.insert((place, correlation), offset);
            assert!(placed.entry(place).or_default().insert(offset, values).is_none());
        }
    }
    for place in placed.keys() {
        let of_place = offsets.iter().filter(|((of, _), _)| of == place).map(|(_, at)| *at);
        assert!(of_place.is_sorted(), "publishes of one connection changed places");
    }
    // What was acknowledged by nothing fills the holes, in the order sent.
    silent.sort_by_key(|(correlation, ..)| *correlation);
    for (_, place, values) in silent {
        let places = placed.entry(place).or_default();
        let mut hole = 0;
        while let Some(values) = places.get(&hole) {
            hole += values.len() as u64;
        }
        places.insert(hole, values);
    }
    let joined = |places: BTreeMap<u64, Vec<String>>| places.into_values().flatten().collect();
    placed.into_iter().map(|(place, places)| (place, joined(places))).collect()
}

/// All values of a partition, in order.
fn stored(wire: &mut Wire, partition: PartitionHandle) -> Vec<String> {
    let (mut values, mut offset) = (Vec::new(), 0);
    loop {
        let (min_bytes, max_bytes, max_wait_ms) = (1, 1 << 20, 0);
        let fetch = Request::Fetch { partition, offset, min_bytes, max_bytes, max_wait_ms };
        let frame = wire.request(&fetch);
        assert_eq!(frame.header.kind, kind::FETCH_REPLY, "{:?}", frame.reply());
        let batches = &frame.body[FETCH_HEAD_BYTES..];
        if batches.is_empty() {
            return values;
        }
        for span in split_batches(&[batches], None) {
            let span = span.unwrap();
            assert_eq!(span.header.base_offset, offset);
            let section = &batches[span.range][BATCH_HEADER_BYTES..];
            for record in RecordIter::new(&span.header, section) {
                let value = record.unwrap().value.expect("every record has a value");
                values.push(String::from_utf8(value.to_vec()).unwrap());
            }
            offset = span.header.next_offset();
        }
    }
}
