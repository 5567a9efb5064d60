//! Strings and lists of strings that no one would send in good faith.

use std::time::Duration;

use model::Request;
use protocol::kind;

use super::{Arena, Attack};
use crate::torture::wire::Wire;

/// A frame of any kind and body, with a good header.
fn frame(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = ((16 + body.len()) as u32).to_le_bytes().to_vec();
    bytes.extend([protocol::PROTOCOL_VERSION, 0]);
    bytes.extend(kind.to_le_bytes());
    bytes.extend(77u64.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn string(bytes: &[u8]) -> Vec<u8> {
    let mut out = (bytes.len() as u16).to_le_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

/// Odd names wherever a name stands.
#[derive(Default)]
pub struct Names {
    wire: Option<Wire>,
    next: usize,
}

fn odd_names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        "",
        ".",
        "..",
        "...",
        "-",
        "--",
        "-rf",
        "_",
        "a..b",
        ".a",
        "a.",
        "../../etc/passwd",
        "/",
        "a/b",
        "a\\b",
        "a b",
        " a",
        "a\n",
        "a\0b",
        "\0",
        "\u{feff}a",
        "a\u{202e}b",
        "ａ",
        "é",
        "e\u{301}",
        "CON",
        "nul",
        "%00",
        "${jndi:x}",
        "'; drop",
        "<script>",
        "\x1b[2J",
        "*",
        "#",
        "normal.",
        "Normal",
    ]
    .iter()
    .map(|name| name.as_bytes().to_vec())
    .collect();
    names.extend([249, 250, 251, 4_096, 65_535].map(|length| vec![b'a'; length]));
    names.extend([249, 65_535].map(|length| vec![b'.'; length]));
    names.extend([b"\xff\xfe".to_vec(), b"a\xc3\x28".to_vec(), vec![0x80; 300]]);
    names
}

impl Attack for Names {
    fn step(&mut self, arena: &mut Arena) {
        arena.tick(Duration::from_millis(10));
        let names = odd_names();
        for _ in 0..10 {
            arena.keep_alive(&mut self.wire);
            let Some(wire) = &mut self.wire else { return };
            let name = string(&names[self.next % names.len()]);
            self.next += 1;
            let handle = [0u8; 16];
            let deadline = 0u32.to_le_bytes();
            let settings = [&1u32.to_le_bytes()[..], &[0; 20]].concat();
            let position = [&[5u8][..], &[0; 15]].concat();
            let bodies = [
                (kind::CREATE_TOPIC, [&deadline[..], &settings, &name].concat()),
                (kind::ALTER_TOPIC, [&deadline[..], &[0; 20], &name].concat()),
                (kind::DELETE_TOPIC, [&deadline[..], &name].concat()),
                (kind::DESCRIBE_TOPIC, [&deadline[..], &name].concat()),
                (kind::LOOKUP_OFFSET, [&deadline[..], &handle, &position, &name].concat()),
                (kind::COMMITTED_OFFSET, [&deadline[..], &handle, &name].concat()),
                (kind::SET_LOG_FILTER, [&deadline[..], &name].concat()),
                (kind::METADATA, [&deadline[..], &[1, 0, 0, 0, 0, 0, 0, 0], &name].concat()),
            ];
            for (kind, body) in bodies {
                // A filter of one word that is no level turns logging off, no more.
                wire.send(&frame(kind, &body));
                arena.sent(1);
            }
        }
        if let Some(wire) = &mut self.wire {
            arena.read(wire);
        }
    }
}

/// Lists of names as long as a request may be.
pub struct Lists {
    wires: [Option<Wire>; 2],
    frames: Vec<Vec<u8>>,
    round: usize,
}

impl Lists {
    /// Made once: making them takes longer than answering them.
    pub fn new() -> Self {
        // The last is a count that lies.
        let lie = [&[0u8; 8][..], &u32::MAX.to_le_bytes(), &[0; 2]].concat();
        let bodies = [list(1, 300_000, 3), list(8, 100_000, 5), list(249, 4_000, 7), lie];
        let frames = bodies.iter().map(|body| frame(kind::METADATA, body)).collect();
        Self { wires: Default::default(), frames, round: 0 }
    }
}

impl Attack for Lists {
    fn step(&mut self, arena: &mut Arena) {
        arena.tick(Duration::from_millis(20));
        self.round += 1;
        for wire in &mut self.wires {
            arena.keep_alive(wire);
            let Some(wire) = wire else { continue };
            wire.send(&self.frames[self.round % self.frames.len()]);
            for limit in [0, 1, 1_000, u32::MAX] {
                wire.ask(&Request::Metadata { topics: Vec::new(), after: None, limit });
            }
            arena.sent(5);
            arena.read(wire);
        }
    }
}

/// The body of a metadata request for `count` names.
fn list(name_bytes: usize, count: u32, salt: u64) -> Vec<u8> {
    let mut body = [0u8; 8].to_vec();
    body.extend(count.to_le_bytes());
    for i in 0..count {
        let text = format!("{:0>width$}", u64::from(i).wrapping_mul(salt), width = name_bytes);
        body.extend(string(&text.as_bytes()[text.len() - name_bytes..]));
    }
    body.extend(string(b""));
    body
}

/// Log filters: any client may set one.
#[derive(Default)]
pub struct Filters {
    wire: Option<Wire>,
    next: usize,
}

impl Attack for Filters {
    fn step(&mut self, arena: &mut Arena) {
        arena.tick(Duration::from_millis(50));
        arena.keep_alive(&mut self.wire);
        let Some(wire) = &mut self.wire else { return };
        let filters = [
            "info,[x{field=((((a{100}){100}){100}){10})}]=info".to_owned(),
            "info,[{a=(.*){1,1000}(.*){1,1000}}]=info".to_owned(),
            "a=info,".repeat(9_000),
            format!("info,[{}]", "{".repeat(30_000)),
            format!("info,{}=info", "x".repeat(60_000)),
            "=,=,=,[[[]]]".to_owned(),
            "info".to_owned(),
        ];
        let filter = filters[self.next % filters.len()].clone();
        self.next += 1;
        wire.ask(&Request::SetLogFilter { filter });
        arena.sent(1);
        arena.read(wire);
    }
}
