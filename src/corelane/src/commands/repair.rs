//! `corelane repair`: prints what a damaged directory has lost, and writes what it has not.

use std::fmt::Write;
use std::io;
use std::path::Path;

use offline::export::gap_sentence;
use offline::read::Source;
use offline::repair::{self, Losses, PartitionLoss};
use offline::rewrite::Written;
use serde_json::{Value, json};
use wal::verify::verify_directory;

use super::error::CommandError;
use super::{Outcome, output};
use crate::args::Output;
use crate::args::offline::RepairArgs;

/// Bytes between two lines of progress.
const PROGRESS_BYTES: u64 = 1024 * 1024 * 1024;

pub fn run(args: &RepairArgs) -> Result<Outcome, CommandError> {
    let source = Source::open(&args.dir)?;
    let plan = repair::plan(&source)?;
    let losses = &plan.losses;
    let written = match args.to.as_deref().filter(|_| args.accept_loss) {
        Some(to) => {
            let mut next = PROGRESS_BYTES;
            let written = plan.write(&source, to, |bytes| {
                if bytes >= next {
                    next = bytes + PROGRESS_BYTES;
                    // Where stderr is closed there is no one to tell.
                    let _ = io::Write::write_fmt(
                        &mut io::stderr(),
                        format_args!("{} written\n", output::human_bytes(bytes)),
                    );
                }
            })?;
            let report = verify_directory(to)?;
            Some((to, written, report.is_good()))
        }
        None => None,
    };
    match args.output.output {
        Output::Text => output::print(&text(&args.dir, losses, written))?,
        Output::Json => output::print_json(&json_of(&args.dir, losses, written))?,
    }
    Ok(match written {
        Some((_, _, true)) => Outcome::Done,
        Some((_, _, false)) => Outcome::Bad,
        None if losses.is_any() => Outcome::Bad,
        None => Outcome::Done,
    })
}

type Copy<'a> = Option<(&'a Path, Written, bool)>;

fn text(dir: &Path, losses: &Losses, written: Copy<'_>) -> String {
    let mut text = String::new();
    if let Some(note) = &losses.note {
        line(&mut text, format_args!("{note}"));
    }
    for shard in &losses.shards {
        let number = shard.shard;
        if shard.missing {
            line(
                &mut text,
                format_args!(
                    "shard {number}: no part of its log is there; all its records, committed \
                     offsets and topics are lost"
                ),
            );
        }
        for gap in &shard.gaps {
            line(&mut text, format_args!("shard {number}: {}", gap_sentence(gap)));
        }
        for note in &shard.notes {
            line(&mut text, format_args!("shard {number}: {note}"));
        }
        if shard.state_lost && !shard.missing {
            line(
                &mut text,
                format_args!(
                    "shard {number}: committed offsets, what it knew of producers, and changes of \
                     topics may be lost"
                ),
            );
        }
    }
    for loss in &losses.partitions {
        line(&mut text, format_args!("{}", loss_sentence(loss)));
    }
    let dir = dir.display();
    let kept = format!(
        "{} with {}",
        counted(losses.kept_partitions, "partition"),
        counted(losses.kept_records, "record")
    );
    let lost = lost_in_short(losses);
    match written {
        Some((to, written, good)) => {
            let to = to.display();
            let checked =
                if good { "it was verified" } else { "IT DOES NOT VERIFY; do not use it" };
            line(
                &mut text,
                format_args!(
                    "{to}: written with {kept} ({} in {}), without {lost}; {checked}. Keep {dir} \
                     until you need nothing of it any more",
                    output::human_bytes(written.payload_bytes),
                    counted(written.batches, "batch"),
                ),
            );
        }
        None if losses.is_whole() => {
            line(&mut text, format_args!("{dir}: nothing is lost; {kept} are there"));
        }
        None if !losses.is_any() => line(
            &mut text,
            format_args!(
                "{dir}: damaged, but nothing is lost; {kept} are there. To write them to a new \
                 directory: corelane repair {dir} --accept-loss --to NEWDIR"
            ),
        ),
        None => line(
            &mut text,
            format_args!(
                "{dir}: {lost} would be lost, {kept} kept. To write what is kept to a new \
                 directory: corelane repair {dir} --accept-loss --to NEWDIR"
            ),
        ),
    }
    text
}

/// All that is lost in one line, what is not known in numbers included.
fn lost_in_short(losses: &Losses) -> String {
    let partitions = |of: fn(&PartitionLoss) -> bool| {
        let count = losses.partitions.iter().filter(|loss| of(loss)).count();
        (count > 0).then(|| counted(count as u64, "partition"))
    };
    let unknown = partitions(|loss| loss.end_unknown);
    let mut lost = Vec::new();
    if let Some(partitions) = partitions(|loss| !loss.lost.is_empty()) {
        let at_least = if unknown.is_some() { "at least " } else { "" };
        lost.push(format!("{at_least}{} in {partitions}", counted(losses.records(), "record")));
    }
    if let Some(partitions) = unknown {
        lost.push(format!("an unknown number of records in {partitions}"));
    }
    if let Some(partitions) = partitions(|loss| loss.settings_lost) {
        lost.push(format!("the settings of {partitions}"));
    }
    let doubtful = losses.shards.iter().filter(|shard| shard.state_lost).count();
    if doubtful > 0 {
        lost.push(format!("what {} knew beside records", counted(doubtful as u64, "shard")));
    }
    match lost.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None if losses.is_any() => "what the lines above name".to_owned(),
        None => "any loss".to_owned(),
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    let _ = writeln!(text, "{line}");
}

fn counted(count: u64, what: &str) -> String {
    match (count, what) {
        (1, _) => format!("1 {what}"),
        (_, "batch") => format!("{count} batches"),
        _ => format!("{count} {what}s"),
    }
}

fn loss_sentence(loss: &PartitionLoss) -> String {
    let PartitionLoss { topic, partition, shard, next_offset, .. } = loss;
    let mut text = format!("topic {topic}, partition {partition} (shard {shard}):");
    if !loss.lost.is_empty() {
        let ranges: Vec<String> = loss
            .lost
            .iter()
            .map(|(from, to)| match to - from {
                1 => format!("{from}"),
                _ => format!("{from} to {}", to - 1),
            })
            .collect();
        let records = counted(loss.records(), "record");
        let _ = write!(text, " offsets {} are lost ({records});", ranges.join(", "));
    }
    if loss.end_unknown {
        let _ = write!(
            text,
            " its newest records may be lost, how many is not known: it goes on at offset \
             {next_offset}, behind all that may have been acknowledged;"
        );
    }
    if loss.settings_lost {
        text.push_str(" its settings are lost, it has the defaults;");
    }
    text.truncate(text.trim_end_matches([';', ':']).len());
    text
}

fn json_of(dir: &Path, losses: &Losses, written: Copy<'_>) -> Value {
    let partitions = losses.partitions.iter().map(|loss| {
        json!({
            "topic": loss.topic.as_str(),
            "partition": loss.partition.0,
            "shard": loss.shard.0,
            "lost": loss.lost.iter().map(|(from, to)| json!({ "from": from, "to": to - 1 }))
                .collect::<Vec<_>>(),
            "lost_records": loss.records(),
            "end_unknown": loss.end_unknown,
            "next_offset": loss.next_offset,
            "settings_lost": loss.settings_lost,
        })
    });
    let shards = losses.shards.iter().map(|shard| {
        let gaps = shard.gaps.iter().map(|gap| {
            json!({ "file": gap.file, "from": gap.from, "to": gap.to, "what": gap_sentence(gap) })
        });
        json!({
            "shard": shard.shard.0,
            "missing": shard.missing,
            "state_lost": shard.state_lost,
            "gaps": gaps.collect::<Vec<_>>(),
            "notes": shard.notes,
        })
    });
    let written = written.map(|(to, written, good)| {
        json!({
            "data_dir": to.display().to_string(),
            "good": good,
            "records": written.records,
            "batches": written.batches,
            "bytes": written.payload_bytes,
        })
    });
    json!({
        "data_dir": dir.display().to_string(),
        "loss": losses.is_any(),
        "note": losses.note,
        "lost_records": losses.records(),
        "partitions_with_unknown_loss":
            losses.partitions.iter().filter(|loss| loss.end_unknown).count(),
        "kept_partitions": losses.kept_partitions,
        "kept_records": losses.kept_records,
        "partitions": partitions.collect::<Vec<_>>(),
        "shards": shards.collect::<Vec<_>>(),
        "written": written,
    })
}
