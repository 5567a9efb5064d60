//! A log as an earlier build left it on the disk, byte for byte, must open, be read and pass the
//! audit for as long as its format is known.
//!
//! `golden/format-1.txt` holds the files of a shard's directory: a line `file NAME BYTES`, then the
//! rows of 32 bytes that are not all zero as `OFFSET HEX`. It is made anew, for a new format only,
//! with CORELANE_RECORD_GOLDEN=1.

mod host;

use std::fmt::Write as _;
use std::path::PathBuf;

use corelane_wal::device::sim::{Image, SimDisk};
use corelane_wal::verify::verify_log;
use host::{Entry, Host, KIND_STREAM_MADE, KIND_TRIMMED, config, created, fold};

const ROW_BYTES: usize = 32;

fn path() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", "format-1.txt"].iter().collect()
}

/// The entries of the golden log; nothing in them is drawn.
fn entries(host: &mut Host) -> Vec<Entry> {
    for stream in 1..=3 {
        let entry = host.entry(KIND_STREAM_MADE, stream, fold::label(stream));
        host.append(entry);
        host.settle();
    }
    for index in 0..36u32 {
        let entry = host.sized_batch(1 + index % 3, 1 + index % 4, (index as usize * 7) % 60);
        host.append(entry);
        if index % 5 != 4 {
            host.settle();
        }
        if index == 12 || index == 24 {
            let entry = host.entry(KIND_TRIMMED, 2, 3u64.to_le_bytes().to_vec());
            host.append(entry);
            host.checkpoint_whole();
        }
        host.tick();
    }
    host.settle();
    host.truth.clone()
}

fn write(image: &Image) -> String {
    let mut text = String::new();
    for (name, bytes) in image.names() {
        writeln!(text, "file {name} {bytes}").unwrap();
        let content = image.file(name).unwrap();
        for (row, part) in content.chunks(ROW_BYTES).enumerate() {
            if part.iter().any(|b| *b != 0) {
                write!(text, "{} ", row * ROW_BYTES).unwrap();
                part.iter().for_each(|b| write!(text, "{b:02x}").unwrap());
                text.push('\n');
            }
        }
    }
    text
}

fn read(text: &str) -> Image {
    let mut image = Image::default();
    let mut file = String::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let first = words.next().unwrap();
        let second = words.next().unwrap();
        if first == "file" {
            file = second.to_owned();
            let bytes: u64 = words.next().unwrap().parse().unwrap();
            // The length first; an empty file has no last byte.
            image.write(&file, bytes.saturating_sub(1), &[0][..usize::from(bytes > 0)]);
        } else {
            let row: Vec<u8> = (0..second.len() / 2)
                .map(|i| u8::from_str_radix(&second[2 * i..2 * i + 2], 16).unwrap())
                .collect();
            image.write(&file, first.parse().unwrap(), &row);
        }
    }
    image
}

#[test]
fn a_log_of_format_1_opens_is_read_and_goes_on() {
    // The entries are the same in every build; only their bytes on the disk are not made here.
    let mut made = Host::open(created(1), &[], 0, 0).unwrap();
    let truth = entries(&mut made);
    if std::env::var_os("CORELANE_RECORD_GOLDEN").is_some() {
        made.shut_down();
        std::fs::create_dir_all(path().parent().unwrap()).unwrap();
        std::fs::write(path(), write(&made.disk.image())).unwrap();
    }
    let image = read(&std::fs::read_to_string(path()).unwrap());
    let report = verify_log(&mut SimDisk::from_image(image.clone(), 1), &config().secret).unwrap();
    assert!(report.is_good(), "{:?}", report.damage);
    assert_eq!(report.entries, truth.len() as u64);
    assert!(report.footers > 0 && report.checkpoints == 2, "{report:?}");
    let disk = SimDisk::from_image(image, 2);
    let mut host = Host::open(disk, &truth, truth.len() as u64, 1).unwrap();
    host.check_streams();
    for _ in 0..100 {
        host.step();
    }
    host.settle();
    host.check_streams();
}
