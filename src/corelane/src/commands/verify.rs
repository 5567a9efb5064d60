//! `corelane verify`: prints what the audit of `wal` found.

use std::fmt::Write;

use serde_json::{Value, json};
use wal::verify::{DirectoryReport, Finding, LogReport, verify_directory};

use super::error::CommandError;
use super::{Outcome, output};
use crate::args::{Output, VerifyArgs};

pub fn run(args: &VerifyArgs) -> Result<Outcome, CommandError> {
    let report = verify_directory(&args.dir)?;
    match args.output.output {
        Output::Text => output::print(&text(&report))?,
        Output::Json => output::print_json(&json_of(&report))?,
    }
    Ok(if report.is_good() { Outcome::Done } else { Outcome::Bad })
}

fn text(report: &DirectoryReport) -> String {
    let mut text = String::new();
    let mut damage = 0;
    for (shard, result) in report.shards.iter().enumerate() {
        let _ = match result {
            Ok(log) => {
                damage += log.damage.len();
                log_text(&mut text, shard, log)
            }
            Err(error) => {
                damage += 1;
                writeln!(text, "shard {shard}: DAMAGE cannot be read: {error}")
            }
        };
    }
    let path = report.directory.path().display();
    let _ = match damage {
        0 => writeln!(
            text,
            "{path}: good; every checksum, chain, sequence and offset of {} shards was checked",
            report.shards.len()
        ),
        1 => writeln!(text, "{path}: DAMAGED in 1 place; keep a copy before anything else"),
        _ => writeln!(text, "{path}: DAMAGED in {damage} places; keep a copy before anything else"),
    };
    text
}

fn log_text(text: &mut String, shard: usize, log: &LogReport) -> std::fmt::Result {
    writeln!(text, "shard {shard}: {}", log.summary())?;
    for note in &log.notes {
        writeln!(text, "shard {shard}: note: {note}")?;
    }
    for damage in &log.damage {
        writeln!(text, "shard {shard}: DAMAGE {damage}")?;
    }
    Ok(())
}

fn json_of(report: &DirectoryReport) -> Value {
    let shards = report.shards.iter().enumerate().map(|(shard, result)| match result {
        Ok(log) => log_json(shard, log),
        Err(error) => json!({ "shard": shard, "good": false, "error": error.to_string() }),
    });
    json!({
        "data_dir": report.directory.path().display().to_string(),
        "good": report.is_good(),
        "shards": shards.collect::<Vec<_>>(),
    })
}

fn log_json(shard: usize, log: &LogReport) -> Value {
    let findings = |found: &[Finding]| {
        let found = found.iter().map(|finding| {
            json!({ "file": finding.file, "offset": finding.offset, "what": finding.what })
        });
        found.collect::<Vec<_>>()
    };
    json!({
        "shard": shard,
        "good": log.is_good(),
        "segments": log.segments,
        "blocks": log.blocks,
        "witnesses": log.witnesses,
        "entries": log.entries,
        "batches": log.batches,
        "records": log.records,
        "payload_bytes": log.payload_bytes,
        "footers": log.footers,
        "checkpoints": log.checkpoints,
        "streams": log.streams,
        "bytes_read": log.bytes_read,
        "first_lsn": log.first_lsn,
        "last_lsn": log.last_lsn,
        "promised_lsn": log.promised_lsn,
        "incarnation": log.incarnation,
        "notes": findings(&log.notes),
        "damage": findings(&log.damage),
    })
}
