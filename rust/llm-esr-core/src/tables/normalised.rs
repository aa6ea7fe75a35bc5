//! A text file's bytes, plain or gzip, with one kind of line end.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::GzDecoder;

use super::quotes::Quotes;
use crate::errors::{Error, Result};

/// Bytes read at once; few where inputs are tiny, so that they cross its border too.
pub(super) const BUFFER: usize = if cfg!(fuzzing) { 1 << 5 } else { 1 << 18 };

/// A file's bytes without a byte order mark, with `\n` for every `\r\n`, for every `\r` alone and at the end, so that one
/// rule gives each record's line: the `csv` crate reports the line *before* blank lines, lags by one behind `\r\n`, and
/// ends a record, but no line, at a `\r`.
pub(super) struct Normalised {
    input: Box<dyn BufRead + Send + Sync>,
    buffer: Vec<u8>,
    taken: usize,
    after_return: bool,
    last: u8,
    passed: u64,
    quotes: Quotes,
    finished: bool,
}

/// A gzip stream of one or several members; zeros behind a member, as tapes and some uploads pad with, are nothing.
struct Members<R> {
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Members<R> {
    fn new(raw: R) -> Self {
        Self {
            member: Some(GzDecoder::new(raw)),
        }
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while let Some(member) = &mut self.member {
            let count = member.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let Some(ended) = self.member.take() else {
                break;
            };
            let mut raw = ended.into_inner();
            loop {
                let rest = raw.fill_buf()?;
                let zeros = rest.iter().take_while(|&&byte| byte == 0).count();
                if rest.is_empty() {
                    return Ok(0);
                }
                let more = zeros < rest.len();
                raw.consume(zeros);
                if more {
                    break;
                }
            }
            self.member = Some(GzDecoder::new(raw));
        }
        Ok(0)
    }
}

impl Normalised {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::io(path, error))?;
        Self::over(BufReader::with_capacity(BUFFER, file), path)
    }

    /// As `open`, from bytes that come from elsewhere; `path` is what errors name.
    pub(super) fn over(mut raw: impl BufRead + Send + Sync + 'static, path: &Path) -> Result<Self> {
        let magic = raw.fill_buf().map_err(|error| unreadable(path, error))?;
        let mut input: Box<dyn BufRead + Send + Sync> = if magic.starts_with(&[0x1f, 0x8b]) {
            Box::new(BufReader::with_capacity(BUFFER, Members::new(raw)))
        } else {
            Box::new(raw)
        };
        let head = input.fill_buf().map_err(|error| unreadable(path, error))?;
        if head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) {
            return Err(Error::format(
                path,
                "is UTF-16; expected UTF-8: save it as UTF-8",
            ));
        }
        if head.starts_with(&[0xef, 0xbb, 0xbf]) {
            input.consume(3);
        }
        Ok(Self {
            input,
            buffer: Vec::with_capacity(BUFFER),
            taken: 0,
            after_return: false,
            last: b'\n',
            passed: 0,
            quotes: Quotes::new(b','),
            finished: false,
        })
    }

    /// Whether the file ended inside a quoted field of the record that ends `bytes` behind its beginning.
    pub(super) fn ends_inside_quotes(&self, bytes: u64) -> bool {
        self.finished && bytes == self.passed && self.quotes.open()
    }

    /// Says what stands between fields, before anything is consumed.
    pub(super) fn set_delimiter(&mut self, delimiter: u8) {
        self.quotes = Quotes::new(delimiter);
    }
}

impl BufRead for Normalised {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        while self.taken == self.buffer.len() && !self.finished {
            self.buffer.clear();
            self.taken = 0;
            let raw = self.input.fill_buf()?;
            let length = raw.len();
            if length == 0 {
                self.finished = true;
                if self.last != b'\n' {
                    self.buffer.push(b'\n');
                }
                break;
            }
            if self.after_return || raw.contains(&b'\r') {
                for &byte in raw {
                    let second = self.after_return && byte == b'\n';
                    self.after_return = byte == b'\r';
                    if !second {
                        self.buffer
                            .push(if self.after_return { b'\n' } else { byte });
                    }
                }
            } else {
                self.buffer.extend_from_slice(raw);
            }
            self.last = *self.buffer.last().unwrap_or(&self.last);
            self.input.consume(length);
        }
        Ok(&self.buffer[self.taken..])
    }

    fn consume(&mut self, amount: usize) {
        let end = self.taken + amount;
        self.quotes.pass(&self.buffer[self.taken..end]);
        self.passed += amount as u64;
        self.taken = end;
    }
}

impl Read for Normalised {
    fn read(&mut self, target: &mut [u8]) -> std::io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(target.len());
        target[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

/// An operating-system error; where a gzip stream broke, its format error.
pub(super) fn unreadable(path: &Path, error: std::io::Error) -> Error {
    use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    match error.kind() {
        InvalidData | InvalidInput | UnexpectedEof => Error::format(
            path,
            format!("the gzip stream is damaged or cut off ({error}); fetch the file again"),
        ),
        _ => Error::io(path, error),
    }
}
