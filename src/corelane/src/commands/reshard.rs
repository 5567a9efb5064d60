//! `corelane reshard`: prints what became of each partition.

use std::time::Instant;

use offline::reshard::{MovedPartition, Resharded, reshard};
use serde_json::json;

use super::Outcome;
use super::backup::progress::{Bar, seconds_since};
use super::error::CommandError;
use super::output::{human_bytes, print, print_json, table};
use crate::args::Output;
use crate::args::reshard::ReshardArgs;

pub fn run(args: &ReshardArgs) -> Result<Outcome, CommandError> {
    let began = Instant::now();
    let mut bar = Bar::new();
    let done = reshard(&args.from, args.shards, &args.to, &mut bar);
    bar.finish();
    let done = done.map_err(Box::new)?;
    let seconds = seconds_since(began);
    match args.output.output {
        Output::Text => print(&text(args, &done, seconds))?,
        Output::Json => print_json(&json!({
            "data_dir": args.to.display().to_string(),
            "shards_before": done.shards_before,
            "shards": done.shards,
            "topics": done.topics,
            "records": done.records,
            "payload_bytes": done.payload_bytes,
            "seconds": seconds,
            "partitions": done.partitions.iter().map(partition_json).collect::<Vec<_>>(),
        }))?,
    }
    Ok(Outcome::Done)
}

fn text(args: &ReshardArgs, done: &Resharded, seconds: f64) -> String {
    let heading =
        ["TOPIC", "PARTITION", "FROM", "TO", "FIRST", "NEXT", "RECORDS", "CONSUMERS", "CHECKSUM"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(done.partitions.iter().map(|one| {
        vec![
            one.topic.to_string(),
            one.index.to_string(),
            one.from.to_string(),
            one.to.to_string(),
            one.first_offset.to_string(),
            one.next_offset.to_string(),
            one.records.to_string(),
            one.consumers.to_string(),
            format!("{:08x}", one.checksum),
        ]
    }));
    format!(
        "{}{} shards became {}: {} topics, {} records, {} in {seconds:.1} s; every partition is the \
         same in {} as in {}, which is unchanged\n",
        table(&rows),
        done.shards_before,
        done.shards,
        done.topics,
        done.records,
        human_bytes(done.payload_bytes),
        args.to.display(),
        args.from.display(),
    )
}

fn partition_json(one: &MovedPartition) -> serde_json::Value {
    json!({
        "topic": one.topic.as_str(),
        "partition": one.index.0,
        "from": one.from.0,
        "to": one.to.0,
        "first_offset": one.first_offset,
        "next_offset": one.next_offset,
        "records": one.records,
        "consumers": one.consumers,
        "checksum": format!("{:08x}", one.checksum),
    })
}
