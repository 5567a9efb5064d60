//! `corelane upgrade`: whether a directory opens with this version, and what would change.

use offline::export::gap_sentence;
use offline::read::Source;
use offline::state::ShardState;
use serde_json::json;
use wal::directory::DIRECTORY_FORMAT;

use super::error::CommandError;
use super::{Outcome, output};
use crate::args::Output;
use crate::args::offline::UpgradeArgs;

pub fn run(args: &UpgradeArgs) -> Result<Outcome, CommandError> {
    let source = Source::open(&args.dir)?;
    let mut problems: Vec<String> = source.note().map(str::to_owned).into_iter().collect();
    let (mut entries, mut partitions, mut topics) = (0, 0, 0);
    for shard in (0..source.shards()).map(model::ShardId).filter(|_| source.is_finished()) {
        let Some(mut log) = source.shard(shard)? else {
            problems.push(format!("shard {shard}: its directory is missing"));
            continue;
        };
        let state = ShardState::read(shard, &mut log)?;
        if state.missing {
            problems.push(format!("shard {shard}: no part of its log is there"));
        }
        problems.extend(state.gaps.iter().map(|g| format!("shard {shard}: {}", gap_sentence(g))));
        problems.extend(state.misfits.iter().map(|what| format!("shard {shard}: {what}")));
        entries += state.entries;
        partitions += state.engine.partition_count();
        topics += state.engine.topics().count();
    }
    let dir = args.dir.display();
    match args.output.output {
        Output::Json => output::print_json(&json!({
            "data_dir": dir.to_string(),
            "format": DIRECTORY_FORMAT,
            "newest_format": DIRECTORY_FORMAT,
            "changes": [],
            "opens": problems.is_empty(),
            "problems": problems,
            "shards": source.shards(),
            "topics": topics,
            "partitions": partitions,
            "entries": entries,
        }))?,
        Output::Text => {
            let mut text: String = problems.iter().map(|what| format!("{what}\n")).collect();
            text += &match problems.is_empty() {
                true => format!(
                    "{dir}: format {DIRECTORY_FORMAT}, the newest; {} shards, {topics} topics and \
                     {partitions} partitions were opened from {entries} entries. Nothing is to be \
                     done{}\n",
                    source.shards(),
                    if args.dry_run { "" } else { ", and nothing was" }
                ),
                false => format!(
                    "{dir}: format {DIRECTORY_FORMAT}, the newest, but damaged: nothing is to be \
                     done for this version, and a server refuses the shards named above until they \
                     are restored or repaired (`corelane repair {dir}`)\n"
                ),
            };
            output::print(&text)?;
        }
    }
    Ok(if problems.is_empty() { Outcome::Done } else { Outcome::Bad })
}
