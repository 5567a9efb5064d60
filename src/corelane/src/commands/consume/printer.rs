//! Records as text, gathered and written in large pieces.

use std::io::{self, Write};

use client::Record;

use crate::args::format::{FormatPart, RecordFormat};

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 128 * 1024;

/// Writes records to `out` as the format says, a newline after each.
pub struct Printer<W> {
    format: RecordFormat,
    buffer: Vec<u8>,
    out: W,
}

/// What the format can name of a record.
pub struct Fields<'a> {
    pub topic: &'a str,
    pub partition: u32,
    pub offset: u64,
    pub timestamp_ms: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
}

impl<'a> From<&'a Record> for Fields<'a> {
    fn from(record: &'a Record) -> Self {
        Self {
            topic: record.topic().as_str(),
            partition: record.partition(),
            offset: record.offset(),
            timestamp_ms: record.timestamp_ms(),
            key: record.key(),
            value: record.value(),
        }
    }
}

impl<W: Write> Printer<W> {
    pub fn new(format: RecordFormat, out: W) -> Self {
        Self { format, buffer: Vec::with_capacity(BUFFER_BYTES), out }
    }

    /// Adds a record. Writes when enough has gathered.
    pub fn print(&mut self, record: &Fields<'_>) -> io::Result<()> {
        for part in &self.format.parts {
            match part {
                FormatPart::Literal(text) => self.buffer.extend_from_slice(text.as_bytes()),
                FormatPart::Topic => self.buffer.extend_from_slice(record.topic.as_bytes()),
                FormatPart::Partition => write!(self.buffer, "{}", record.partition)?,
                FormatPart::Offset => write!(self.buffer, "{}", record.offset)?,
                FormatPart::Time => write!(self.buffer, "{}", record.timestamp_ms)?,
                FormatPart::Key => self.buffer.extend_from_slice(record.key.unwrap_or_default()),
                FormatPart::Value => {
                    self.buffer.extend_from_slice(record.value.unwrap_or_default());
                }
            }
        }
        self.buffer.push(b'\n');
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// All that was printed has left the process when this returns.
    pub fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.out.write_all(&self.buffer)?;
            self.buffer.clear();
            self.out.flush()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_printed_as_the_format_says() {
        let record = Fields {
            topic: "t",
            partition: 3,
            offset: 42,
            timestamp_ms: -1,
            key: Some(b"k"),
            value: Some(b"v\xff"),
        };
        let mut printed = Vec::new();
        let format = "%t %p %o %T %k=%v%%\\t.".parse().unwrap();
        let mut printer = Printer::new(format, &mut printed);
        printer.print(&record).unwrap();
        printer.print(&Fields { key: None, value: None, ..record }).unwrap();
        printer.flush().unwrap();
        assert_eq!(printed, b"t 3 42 -1 k=v\xff%\t.\nt 3 42 -1 =%\t.\n");
    }
}
