//! `corelane backup`: calls the crate that copies, keeps the server's promise alive meanwhile, and
//! prints what came of it.

mod create;
pub mod progress;

use std::fmt::Write;
use std::path::Path;

use offline::backup::{BackupSet, SetReport, Store, check_set};
use offline::restore::restore;
use serde_json::{Value, json};

use super::error::CommandError;
use super::output::{human_bytes, print, print_json, table};
use super::{Outcome, output};
use crate::args::Output;
use crate::args::backup::BackupCommand;
use progress::{Bar, seconds_since};

pub fn run(command: BackupCommand) -> Result<Outcome, CommandError> {
    match command {
        BackupCommand::Create { to, name, server, output } => {
            create::run(&to, name, &server, output.output)
        }
        BackupCommand::Restore { from, at, to, output } => {
            restore_one(&from, at.as_deref(), &to, output.output)
        }
        BackupCommand::List { dir, output } => list(&dir, output.output),
        BackupCommand::Check { dir, at, output } => check(&dir, at.as_deref(), output.output),
        BackupCommand::Remove { dir, name, output } => remove(&dir, &name, output.output),
    }
}

fn restore_one(
    from: &Path,
    at: Option<&str>,
    to: &Path,
    form: Output,
) -> Result<Outcome, CommandError> {
    let began = std::time::Instant::now();
    let store = Store::open_read_only(from)?;
    let set = store.set(at)?;
    let mut bar = Bar::new();
    let restored = restore(&store, &set, to, &mut bar).map_err(Box::new)?;
    bar.finish();
    let seconds = seconds_since(began);
    match form {
        Output::Text => print(&format!(
            "restored backup {} to {}: {} shards, {} segments, {} records, {} in {seconds:.1} s; \
             every checksum is good\nstart a server on it: corelane serve --data-dir {}\n",
            set.name,
            to.display(),
            restored.shards,
            restored.segments,
            restored.records,
            human_bytes(restored.bytes),
            to.display(),
        ))?,
        Output::Json => print_json(&json!({
            "backup": set.name,
            "data_dir": to.display().to_string(),
            "shards": restored.shards,
            "segments": restored.segments,
            "records": restored.records,
            "bytes": restored.bytes,
            "seconds": seconds,
            "durable_lsns": lsns(&set),
        }))?,
    }
    Ok(Outcome::Done)
}

fn list(dir: &Path, form: Output) -> Result<Outcome, CommandError> {
    let store = Store::open_read_only(dir)?;
    let sets = store.sets()?;
    let all_good = sets.iter().all(|state| state.set.is_ok());
    let text = match form {
        Output::Text => {
            let heading = ["NAME", "CREATED", "SHARDS", "SEGMENTS", "SIZE"];
            let mut rows = vec![heading.map(str::to_owned).to_vec()];
            rows.extend(sets.iter().map(|state| match &state.set {
                Ok(set) => vec![
                    set.name.clone(),
                    set.created.clone(),
                    set.shards.len().to_string(),
                    set.segment_count().to_string(),
                    human_bytes(set.data_bytes()),
                ],
                Err(error) => vec![state.name.clone(), format!("DAMAGED: {error}")],
            }));
            table(&rows)
        }
        Output::Json => {
            let sets = sets.iter().map(|state| match &state.set {
                Ok(set) => set_json(set),
                Err(error) => json!({ "name": state.name, "error": error.to_string() }),
            });
            format!("{:#}\n", json!({ "backups": sets.collect::<Vec<_>>() }))
        }
    };
    output::print(&text)?;
    Ok(if all_good { Outcome::Done } else { Outcome::Bad })
}

fn check(dir: &Path, at: Option<&str>, form: Output) -> Result<Outcome, CommandError> {
    let store = Store::open_read_only(dir)?;
    let sets = match at {
        Some(name) => vec![(name.to_owned(), store.set(Some(name)))],
        None => store.sets()?.into_iter().map(|state| (state.name, state.set)).collect(),
    };
    let reports: Vec<_> = sets
        .into_iter()
        .map(|(name, set)| (name, set.and_then(|set| check_set(&store, set))))
        .collect();
    let good = reports.iter().all(|(_, report)| report.as_ref().is_ok_and(SetReport::is_good));
    match form {
        Output::Text => {
            let mut text = String::new();
            for (name, report) in &reports {
                check_text(&mut text, name, report);
            }
            print(&text)?;
        }
        Output::Json => {
            let all = reports.iter().map(|(name, report)| match report {
                Ok(report) => {
                    let damage: Vec<String> = report.damage().collect();
                    json!({ "name": name, "good": report.is_good(), "damage": damage })
                }
                Err(error) => {
                    json!({ "name": name, "good": false, "damage": [error.to_string()] })
                }
            });
            print_json(&json!({ "good": good, "backups": all.collect::<Vec<_>>() }))?;
        }
    }
    Ok(if good { Outcome::Done } else { Outcome::Bad })
}

fn check_text(
    text: &mut String,
    name: &str,
    report: &Result<SetReport, offline::backup::BackupError>,
) {
    let damage: Vec<String> = match report {
        Ok(report) => report.damage().collect(),
        Err(error) => vec![error.to_string()],
    };
    for one in &damage {
        let _ = writeln!(text, "{name}: DAMAGE {one}");
    }
    let _ = match report {
        Ok(report) if damage.is_empty() => {
            let records: u64 = report.shards.iter().flatten().map(|log| log.records).sum();
            writeln!(
                text,
                "{name}: good; {} shards, {} segments, {records} records, {}",
                report.set.shards.len(),
                report.set.segment_count(),
                human_bytes(report.set.data_bytes()),
            )
        }
        _ => writeln!(text, "{name}: DAMAGED; make a new backup, and keep the others"),
    };
}

fn remove(dir: &Path, name: &str, form: Output) -> Result<Outcome, CommandError> {
    let removed = Store::open(dir)?.remove(name)?;
    match form {
        Output::Text => print(&format!(
            "removed backup {name}: {} segments that no other backup needs, {} freed\n",
            removed.segments,
            human_bytes(removed.bytes)
        ))?,
        Output::Json => print_json(&json!({
            "backup": name,
            "segments_removed": removed.segments,
            "bytes_freed": removed.bytes,
        }))?,
    }
    Ok(Outcome::Done)
}

fn set_json(set: &BackupSet) -> Value {
    json!({
        "name": set.name,
        "created": set.created,
        "created_ms": set.created_ms,
        "data_dir": set.data_dir,
        "shards": set.shards.len(),
        "segments": set.segment_count(),
        "bytes": set.data_bytes(),
        "durable_lsns": lsns(set),
    })
}

fn lsns(set: &BackupSet) -> Vec<u64> {
    set.shards.iter().map(|shard| shard.durable_lsn).collect()
}
