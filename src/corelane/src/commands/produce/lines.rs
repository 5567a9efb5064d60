//! Reading lines ahead of the sender, on a thread of its own: a read may block for ever, and the
//! runtime must not.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use model::limits::BATCH_BYTES_MAX;
use tokio::sync::mpsc;

use crate::commands::error::CommandError;

/// Bytes asked for in one read.
const READ_BYTES: usize = 256 * 1024;
/// Chunks that wait for the sender.
const CHUNKS_AHEAD: usize = 4;
/// What a batch needs beside the one message in it, generously.
const BATCH_OVERHEAD_BYTES: usize = 1024;
/// Longest line, bytes.
const LINE_BYTES_MAX: usize = BATCH_BYTES_MAX as usize - BATCH_OVERHEAD_BYTES;

/// Whole lines, as they were read; only the last chunk may lack its last newline.
#[derive(Debug)]
pub struct Chunk {
    bytes: Vec<u8>,
}

impl Chunk {
    /// The lines without their newlines.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let whole = self.bytes.strip_suffix(b"\n").unwrap_or(&self.bytes);
        whole.split(|byte| *byte == b'\n')
    }

    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// Starts reading `file`, or standard input. The channel ends after the last chunk or an error.
pub fn read(
    file: Option<&Path>,
) -> Result<mpsc::Receiver<Result<Chunk, CommandError>>, CommandError> {
    let path = file.map_or_else(|| PathBuf::from("standard input"), Path::to_owned);
    let failed = |source| CommandError::Input { path: path.clone(), source };
    let source: Box<dyn Read + Send> = match file {
        Some(file) => Box::new(File::open(file).map_err(failed)?),
        None => Box::new(io::stdin()),
    };
    let (chunks, receiver) = mpsc::channel(CHUNKS_AHEAD);
    std::thread::Builder::new()
        .name("lines".to_owned())
        .spawn(move || {
            let give = |chunk| chunks.blocking_send(Ok(chunk)).is_ok();
            if let Err(error) = split(source, &path, give) {
                let _ = chunks.blocking_send(Err(error));
            }
        })
        .map_err(CommandError::Runtime)?;
    Ok(receiver)
}

/// Cuts what `source` gives into chunks of whole lines, until its end or until `give` says no.
fn split(
    mut source: impl Read,
    path: &Path,
    mut give: impl FnMut(Chunk) -> bool,
) -> Result<(), CommandError> {
    let mut line = 1;
    let mut bytes: Vec<u8> = Vec::new();
    loop {
        let held = bytes.len();
        if held > LINE_BYTES_MAX {
            return Err(CommandError::LineTooLong { line, max: LINE_BYTES_MAX });
        }
        bytes.resize(held + READ_BYTES, 0);
        let read = source.read(&mut bytes[held..]);
        bytes.truncate(held + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(CommandError::Input { path: path.to_owned(), source }),
        }
        let Some(at) = bytes[held..].iter().rposition(|byte| *byte == b'\n') else { continue };
        let rest = bytes.split_off(held + at + 1);
        let chunk = Chunk { bytes: std::mem::replace(&mut bytes, rest) };
        if let Some(too_long) = chunk.lines().position(|line| line.len() > LINE_BYTES_MAX) {
            let line = line + too_long as u64;
            return Err(CommandError::LineTooLong { line, max: LINE_BYTES_MAX });
        }
        line += chunk.lines().count() as u64;
        if !give(chunk) {
            return Ok(());
        }
    }
    if !bytes.is_empty() {
        give(Chunk { bytes });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its pieces one read at a time.
    struct Pieces(Vec<Vec<u8>>);

    impl Read for Pieces {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let Some(piece) = self.0.first_mut() else { return Ok(0) };
            let count = piece.len().min(into.len());
            into[..count].copy_from_slice(&piece[..count]);
            piece.drain(..count);
            if piece.is_empty() {
                self.0.remove(0);
            }
            Ok(count)
        }
    }

    fn lines_of(pieces: &[&[u8]]) -> Result<Vec<Vec<u8>>, CommandError> {
        let mut lines = Vec::new();
        let source = Pieces(pieces.iter().map(|piece| piece.to_vec()).collect());
        split(source, Path::new("test"), |chunk| {
            lines.extend(chunk.lines().map(<[u8]>::to_vec));
            true
        })?;
        Ok(lines)
    }

    #[test]
    fn lines_come_whole_however_they_are_read() {
        let expected = [&b"one"[..], b"", b"two\r", b"three"];
        for pieces in [
            &[&b"one\n\ntwo\r\nthree"[..]][..],
            &[b"o", b"ne", b"\n", b"\nt", b"wo\r\nth", b"ree\n"],
        ] {
            assert_eq!(lines_of(pieces).unwrap(), expected);
        }
        assert_eq!(lines_of(&[b"\n\n"]).unwrap(), [b"", b""]);
        assert!(lines_of(&[]).unwrap().is_empty());
    }

    #[test]
    fn a_line_that_no_batch_holds_is_named() {
        let long = vec![b'x'; LINE_BYTES_MAX + 1];
        for pieces in [&[b"a\nb\n", &long[..]][..], &[b"a\nb\n", &long, b"\n"]] {
            let error = lines_of(pieces).unwrap_err();
            assert!(matches!(error, CommandError::LineTooLong { line: 3, .. }), "{error}");
        }
        let fits = vec![b'x'; LINE_BYTES_MAX];
        assert_eq!(lines_of(&[&fits]).unwrap(), [fits]);
    }
}
