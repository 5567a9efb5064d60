//! `corelane export`: the good records of a directory, as lines or as they are stored.

mod files;
mod lines;

use std::io::{self, Write};
use std::path::Path;

use offline::export::{FoundBatch, Wanted, export};
use offline::read::{ReadError, Source};
use wal::device::DeviceError;

use super::Outcome;
use super::error::CommandError;
use crate::args::offline::{ExportArgs, ExportFormat};
use files::Files;
use lines::Lines;

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 128 * 1024;

/// Where records go.
enum Out {
    Stdout(io::BufWriter<io::Stdout>),
    Files(Files),
}

pub fn run(args: &ExportArgs) -> Result<Outcome, CommandError> {
    let source = Source::open(&args.dir)?;
    let mut out = match &args.to {
        None => Out::Stdout(io::BufWriter::with_capacity(BUFFER_BYTES, io::stdout())),
        Some(to) => Out::Files(Files::create(to, args.format)?),
    };
    let wanted = Wanted {
        topic: args.topic.clone(),
        partition: args.partition.map(model::PartitionIndex),
        from_offset: args.from_offset,
    };
    let mut lines = Lines::new(args.bytes, args.from_offset);
    let (mut bad_batches, mut problems) = (0u64, 0u64);
    export(
        &source,
        &wanted,
        |batch| -> Result<(), ExportError> {
            let bytes = match args.format {
                ExportFormat::Raw => batch.payload,
                ExportFormat::Jsonl => match lines.of(&batch) {
                    Ok(lines) => lines,
                    Err(what) => {
                        bad_batches += 1;
                        tell(&args.dir, &what);
                        return Ok(());
                    }
                },
            };
            Ok(out.write(&batch, bytes)?)
        },
        |problem| {
            problems += 1;
            tell(&args.dir, &problem);
        },
    )
    .map_err(|error| match error {
        ExportError::Command(error) => error,
        ExportError::Read(error) => error.into(),
        ExportError::Device(error) => offline::repair::RepairError::Device(error).into(),
    })?;
    out.finish()?;
    let good = problems == 0 && bad_batches == 0;
    Ok(if good { Outcome::Done } else { Outcome::Bad })
}

fn tell(dir: &Path, problem: &str) {
    // Where stderr is closed there is no one to tell.
    let _ = writeln!(io::stderr(), "corelane: {}: {problem}", dir.display());
}

impl Out {
    fn write(&mut self, batch: &FoundBatch<'_>, bytes: &[u8]) -> Result<(), CommandError> {
        match self {
            Self::Stdout(out) => out.write_all(bytes).map_err(CommandError::Output),
            Self::Files(files) => files.write(batch.topic.as_str(), batch.partition.0, bytes),
        }
    }

    fn finish(self) -> Result<(), CommandError> {
        match self {
            Self::Stdout(mut out) => out.flush().map_err(CommandError::Output),
            Self::Files(mut files) => files.finish(),
        }
    }
}

/// Why an export stopped.
enum ExportError {
    Command(CommandError),
    Read(ReadError),
    Device(DeviceError),
}

impl From<CommandError> for ExportError {
    fn from(error: CommandError) -> Self {
        Self::Command(error)
    }
}

impl From<ReadError> for ExportError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<DeviceError> for ExportError {
    fn from(error: DeviceError) -> Self {
        Self::Device(error)
    }
}
