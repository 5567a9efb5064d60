//! The engine's fold: entries of a log, and pieces of a checkpoint, whatever they hold.

use model::{EntryHead, Lsn, ShardId, StreamId, TopicId};
use shards::{Engine, EngineConfig};

/// Entries of one input at most.
const ENTRIES_MAX: usize = 256;

pub fn engine() -> Engine {
    Engine::new(ShardId(0), EngineConfig::default())
}

/// A log, entry by entry: kind (1 byte), stream (1), records (1), time (1), base offset (2), payload
/// bytes (2), payload.
pub fn entries(mut bytes: &[u8]) {
    let mut engine = engine();
    for lsn in 1..=ENTRIES_MAX as u64 {
        let Some((head, rest)) = bytes.split_first_chunk::<8>() else { break };
        let length = usize::from(u16::from_le_bytes([head[6], head[7]])).min(rest.len());
        let (payload, after) = rest.split_at(length);
        bytes = after;
        let entry = EntryHead {
            kind: head[0],
            flags: 0,
            stream: StreamId(u32::from(head[1])),
            base_offset: u64::from(u16::from_le_bytes([head[4], head[5]])),
            time_ms: i64::from(head[3]) * 1_000,
            records: u32::from(head[2]),
        };
        if engine.apply(Lsn(lsn), &entry, payload).is_err() {
            break;
        }
    }
    look_at(&mut engine);
}

/// A checkpoint in two pieces, wherever it is cut, then what follows it.
pub fn checkpoint(bytes: &[u8]) {
    let Some((cut, pieces)) = bytes.split_first() else { return };
    let cut = usize::from(*cut).min(pieces.len());
    let mut engine = engine();
    let loaded = engine.load(&pieces[..cut]).and_then(|()| engine.load(&pieces[cut..]));
    if loaded.is_err() || engine.loaded(Lsn(100), Lsn(200)).is_err() {
        return;
    }
    // What was understood is written and understood again.
    let written = snapshot(&engine);
    let mut second = self::engine();
    second.load(&written).unwrap();
    second.loaded(Lsn(100), Lsn(200)).unwrap();
    assert_eq!(snapshot(&second), written);
    look_at(&mut engine);
}

/// A whole checkpoint.
pub fn snapshot(engine: &Engine) -> Vec<u8> {
    let mut cursor = engine.snapshot();
    let mut out = Vec::new();
    while engine.snapshot_slice(&mut cursor, 64, &mut out) {}
    out
}

/// Everything that asks the state, and time passing over it.
fn look_at(engine: &mut Engine) {
    engine.tick(i64::MAX / 2);
    for topic in 0..8 {
        let _ = engine.describe(TopicId(topic));
    }
    let _ = engine.partition_count();
    while engine.next_effect().is_some() {}
}
