//! CSV and TSV rows, and the paper's `user item` pairs, with their source line numbers; gzip is recognised by its magic bytes.
//!
//! A record that does not fit (another number of fields, invalid UTF-8, a quote that is never closed) is handed
//! over as malformed and never ends the reading; only an unreadable file does.

mod normalised;
mod quotes;

use std::io::{BufRead, Cursor};
use std::path::{Path, PathBuf};

use csv::{ByteRecord, ReaderBuilder};

use self::normalised::{BUFFER, Normalised, unreadable};
use crate::errors::{Error, Result};

/// A malformed record's text is cut to this many characters.
const SHOWN: usize = 120;

/// How the fields of a record stand on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Fields between this byte, quoted as in RFC 4180, under a header; `None`: found from the header.
    Delimited(Option<u8>),
    /// Two fields between blanks, without a header.
    Pairs,
}

/// One column of a chunk: its fields' texts one after another.
#[derive(Debug, Default, Clone)]
pub struct TextColumn {
    text: String,
    ends: Vec<usize>,
}

impl TextColumn {
    fn push(&mut self, field: &str) {
        self.text.push_str(field);
        self.ends.push(self.text.len());
    }

    /// The fields in order.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.ends.len()).map(|row| {
            let start = if row == 0 { 0 } else { self.ends[row - 1] };
            &self.text[start..self.ends[row]]
        })
    }
}

/// A record that does not fit the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// The source line it starts at, from 1.
    pub line: i64,
    /// The source line it ends at.
    pub last_line: i64,
    /// Its text, cut.
    pub text: String,
    /// What came and what was expected.
    pub reason: String,
}

/// Some rows of a table.
#[derive(Debug, Default, Clone)]
pub struct TableChunk {
    /// The source line each row starts at, from 1.
    pub lines: Vec<i64>,
    /// The columns asked for, each with as many fields as `lines`.
    pub columns: Vec<TextColumn>,
    /// Records that do not fit, in order.
    pub malformed: Vec<Malformed>,
}

/// Reads a text table from start to end, chunk after chunk.
pub struct TableReader {
    path: PathBuf,
    columns: Vec<String>,
    delimiter: u8,
    source: Source,
}

enum Source {
    Delimited(csv::Reader<Normalised>),
    Pairs { input: Normalised, line: i64 },
}

impl std::fmt::Debug for TableReader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("TableReader")
            .field("path", &self.path)
            .field("columns", &self.columns)
            .finish_non_exhaustive()
    }
}

impl TableReader {
    /// Opens `path` and reads its header.
    ///
    /// # Errors
    /// A missing, empty or damaged file; a header with a name twice.
    pub fn open(path: &Path, layout: Layout) -> Result<Self> {
        Self::over(Normalised::open(path)?, path, layout)
    }

    /// As `open`, from bytes in memory; `path` is what errors name.
    ///
    /// # Errors
    /// As `open`.
    pub fn from_bytes(bytes: Vec<u8>, path: &Path, layout: Layout) -> Result<Self> {
        Self::over(Normalised::over(Cursor::new(bytes), path)?, path, layout)
    }

    fn over(mut input: Normalised, path: &Path, layout: Layout) -> Result<Self> {
        let Layout::Delimited(delimiter) = layout else {
            return Ok(Self {
                path: path.to_path_buf(),
                columns: vec!["user".into(), "item".into()],
                delimiter: b' ',
                source: Source::Pairs { input, line: 0 },
            });
        };
        let head = input.fill_buf().map_err(|error| unreadable(path, error))?;
        if head.is_empty() {
            return Err(Error::format(
                path,
                "is empty; expected a header line with column names",
            ));
        }
        let delimiter = delimiter.unwrap_or_else(|| likely_delimiter(head));
        input.set_delimiter(delimiter);
        let mut reader = ReaderBuilder::new()
            .flexible(true)
            .delimiter(delimiter)
            .buffer_capacity(BUFFER)
            .from_reader(input);
        let header = reader
            .byte_headers()
            .map_err(|error| csv_error(path, error))?;
        let mut columns: Vec<String> = Vec::with_capacity(header.len());
        for (place, field) in header.iter().enumerate() {
            let name = std::str::from_utf8(field)
                .map_err(|_| {
                    Error::format(path, "the header is not UTF-8; save the file as UTF-8")
                })?
                .trim();
            if columns.iter().any(|known| known == name) && !name.is_empty() {
                return Err(Error::format(
                    path,
                    format!("the header names '{name}' twice; rename one of the columns"),
                ));
            }
            // An unnamed column (pandas writes its index so) is never asked for; its name only has to be unique.
            columns.push(if name.is_empty() {
                format!("column {}", place + 1)
            } else {
                name.to_owned()
            });
        }
        Ok(Self {
            path: path.to_path_buf(),
            columns,
            delimiter,
            source: Source::Delimited(reader),
        })
    }

    /// Column names, in the order of the file.
    #[must_use]
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The byte between fields.
    #[must_use]
    pub fn delimiter(&self) -> u8 {
        self.delimiter
    }

    /// Reads up to `rows` records and keeps the columns at `places`; `None` at the end of the file.
    ///
    /// # Errors
    /// A damaged gzip stream or a failing disk.
    ///
    /// # Panics
    /// When a place lies outside the header: the caller looked the names up in [`Self::columns`].
    pub fn read(&mut self, rows: usize, places: &[usize]) -> Result<Option<TableChunk>> {
        assert!(places.iter().all(|place| *place < self.columns.len()));
        let mut chunk = TableChunk {
            columns: vec![TextColumn::default(); places.len()],
            ..TableChunk::default()
        };
        let mut seen = 0;
        match &mut self.source {
            Source::Delimited(reader) => {
                let mut record = ByteRecord::new();
                while seen < rows
                    && reader
                        .read_byte_record(&mut record)
                        .map_err(|error| csv_error(&self.path, error))?
                {
                    let after = reader.position().line() as i64;
                    let breaks = count_newlines(&record);
                    let end = reader.position().byte();
                    let unclosed = breaks > 0 && reader.get_ref().ends_inside_quotes(end);
                    // An open quote swallows the line end that closes every other record.
                    let first = after - breaks - i64::from(!unclosed);
                    let span = (first, after - 1);
                    chunk.take(&record, span, self.columns.len(), places, unclosed);
                    seen += 1;
                }
            }
            Source::Pairs { input, line } => {
                let mut text = Vec::new();
                while seen < rows {
                    text.clear();
                    let length = input
                        .read_until(b'\n', &mut text)
                        .map_err(|error| unreadable(&self.path, error))?;
                    if length == 0 {
                        break;
                    }
                    *line += 1;
                    let fields: Vec<&[u8]> = text
                        .split(u8::is_ascii_whitespace)
                        .filter(|field| !field.is_empty())
                        .collect();
                    if !fields.is_empty() {
                        let record = ByteRecord::from(fields);
                        chunk.take(&record, (*line, *line), 2, places, false);
                        seen += 1;
                    }
                }
            }
        }
        Ok((seen > 0).then_some(chunk))
    }
}

impl TableChunk {
    fn take(
        &mut self,
        record: &ByteRecord,
        (line, last_line): (i64, i64),
        width: usize,
        places: &[usize],
        unclosed: bool,
    ) {
        let reason = if unclosed {
            Some("a quote is opened and never closed".to_owned())
        } else if record.len() != width {
            Some(format!("{} fields instead of {width}", record.len()))
        } else if record
            .iter()
            .any(|field| std::str::from_utf8(field).is_err())
        {
            Some("not UTF-8".to_owned())
        } else {
            None
        };
        if let Some(reason) = reason {
            let text = record
                .iter()
                .map(String::from_utf8_lossy)
                .collect::<Vec<_>>()
                .join("|");
            self.malformed.push(Malformed {
                line,
                last_line,
                text: text.chars().take(SHOWN).collect(),
                reason,
            });
            return;
        }
        self.lines.push(line);
        for (column, place) in self.columns.iter_mut().zip(places) {
            column.push(std::str::from_utf8(&record[*place]).unwrap_or_default());
        }
    }
}

fn count_newlines(record: &ByteRecord) -> i64 {
    record
        .as_slice()
        .split(|byte| *byte == b'\n')
        .skip(1)
        .count() as i64
}

/// The most frequent of comma, semicolon, tab and bar in the first line; a comma where none is there.
fn likely_delimiter(head: &[u8]) -> u8 {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or(head);
    let count = |delimiter: u8| line.split(|byte| *byte == delimiter).skip(1).count();
    let mut best = b',';
    for delimiter in [b';', b'\t', b'|'] {
        if count(delimiter) > count(best) {
            best = delimiter;
        }
    }
    best
}

fn csv_error(path: &Path, error: csv::Error) -> Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => unreadable(path, error),
        other => Error::format(path, format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn table(
        bytes: &[u8],
        layout: Layout,
        chunk: usize,
    ) -> (Vec<i64>, Vec<Vec<String>>, Vec<Malformed>) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let mut reader = TableReader::open(file.path(), layout).unwrap();
        let places: Vec<usize> = (0..reader.columns().len()).collect();
        let (mut lines, mut malformed) = (Vec::new(), Vec::new());
        let mut columns = vec![Vec::new(); places.len()];
        while let Some(part) = reader.read(chunk, &places).unwrap() {
            lines.extend(part.lines);
            malformed.extend(part.malformed);
            for (all, column) in columns.iter_mut().zip(&part.columns) {
                all.extend(column.iter().map(str::to_owned));
            }
        }
        (lines, columns, malformed)
    }

    #[test]
    fn lines_are_physical_behind_blank_lines_quoted_breaks_and_carriage_returns() {
        let text = "a,b\n1,x\n\n\n2,\"y\nz\"\n3,w\n4,end";
        for bytes in [
            text.to_owned(),
            text.replace('\n', "\r\n"),
            text.replace('\n', "\r"),
            text.replace("\n\n\n", "\r\r\n\n"),
            format!("\u{feff}{text}\n"),
        ] {
            for chunk in [1, 2, 100] {
                let (lines, columns, malformed) =
                    table(bytes.as_bytes(), Layout::Delimited(None), chunk);
                assert_eq!(lines, [2, 5, 7, 8]);
                assert_eq!(columns[0], ["1", "2", "3", "4"]);
                assert_eq!(columns[1], ["x", "y\nz", "w", "end"]);
                assert!(malformed.is_empty());
            }
        }
    }

    #[test]
    fn ragged_and_undecodable_records_are_malformed_and_the_rest_is_read() {
        let (lines, _, malformed) = table(
            b"a,b\n1,2\n3\n4,5,6\n7,\xff\n8,9\n",
            Layout::Delimited(None),
            2,
        );
        assert_eq!(lines, [2, 6]);
        let found: Vec<_> = malformed
            .iter()
            .map(|m| (m.line, m.reason.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                (3, "1 fields instead of 2"),
                (4, "3 fields instead of 2"),
                (5, "not UTF-8")
            ]
        );
    }

    #[test]
    fn a_quote_that_is_never_closed_is_malformed_with_the_lines_it_swallows() {
        let (lines, _, malformed) =
            table(b"a,b\n1,2\n3,\"4\n5,6\n7,8\n", Layout::Delimited(None), 10);
        assert_eq!(lines, [2]);
        assert_eq!((malformed[0].line, malformed[0].last_line >= 5), (3, true));
        assert_eq!(malformed[0].reason, "a quote is opened and never closed");
        let (_, _, malformed) = table(b"a,b\n1,2\n3\n4,\"", Layout::Delimited(None), 10);
        let spans: Vec<_> = malformed.iter().map(|m| (m.line, m.last_line)).collect();
        assert_eq!(spans, [(3, 3), (4, 4)]);
        let (lines, _, malformed) = table(b"a,b\n1,2\n3,\"4\n5\"\n", Layout::Delimited(None), 10);
        assert_eq!((lines.len(), malformed.len()), (2, 0));
    }

    #[test]
    fn pairs_have_no_header_and_blank_lines_count_as_lines() {
        let (lines, columns, malformed) =
            table(b"1 10\n\n1\t11\r\n2\n2 12 x\n 3  13", Layout::Pairs, 2);
        assert_eq!(lines, [1, 3, 6]);
        assert_eq!(columns, [["1", "1", "3"], ["10", "11", "13"]]);
        assert_eq!(malformed.iter().map(|m| m.line).collect::<Vec<_>>(), [4, 5]);
    }

    #[test]
    fn the_delimiter_is_found_and_gzip_is_recognised() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(b"a;b\n1;2,5\n").unwrap();
        let (_, columns, _) = table(&encoder.finish().unwrap(), Layout::Delimited(None), 10);
        assert_eq!(columns, [["1"], ["2,5"]]);
    }

    #[test]
    fn a_cut_gzip_stream_is_an_error() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(b"a,b\n").unwrap();
        for row in 0..20_000 {
            writeln!(encoder, "{row},{}", row * 7919 % 10_007).unwrap();
        }
        let bytes = encoder.finish().unwrap();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&bytes[..bytes.len() / 2]).unwrap();
        let mut reader = TableReader::open(file.path(), Layout::Delimited(None)).unwrap();
        let error = loop {
            match reader.read(1000, &[0]) {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the cut went unnoticed"),
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains("cut off"), "{error}");
    }
}
