//! The one error type of the core: what came, what was expected, where, and the remedy.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Everything that can go wrong in the core.
#[derive(Debug, Error)]
pub enum Error {
    /// A file that should exist does not.
    #[error("{} does not exist; {remedy}", path.display())]
    FileMissing {
        /// The file looked for.
        path: PathBuf,
        /// What the caller can do.
        remedy: String,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file at fault.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file's contents are not what its format says.
    #[error("{}: {message}", path.display())]
    Format {
        /// The file at fault.
        path: PathBuf,
        /// What came and what was expected.
        message: String,
    },
    /// An argument has a wrong value or shape.
    #[error("{argument}: {message}")]
    Argument {
        /// The argument's name as the Python caller knows it.
        argument: &'static str,
        /// What came and what was expected.
        message: String,
    },
    /// An id lies outside its range.
    #[error("{argument}: id {id} lies outside {low}..={high}")]
    IdOutOfRange {
        /// The argument's name.
        argument: &'static str,
        /// The id that came.
        id: i64,
        /// The smallest id allowed.
        low: i64,
        /// The largest id allowed.
        high: i64,
    },
    /// The work was interrupted from outside (Ctrl-C).
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// An argument error with a formatted message.
    pub fn argument(argument: &'static str, message: impl Into<String>) -> Self {
        Self::Argument {
            argument,
            message: message.into(),
        }
    }

    /// A format error of one file.
    pub fn format(path: &Path, message: impl Into<String>) -> Self {
        Self::Format {
            path: path.to_path_buf(),
            message: message.into(),
        }
    }

    /// An operating-system error of one file; a missing file gets its own variant.
    #[must_use]
    pub fn io(path: &Path, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::NotFound {
            Self::FileMissing {
                path: path.to_path_buf(),
                remedy: "check the path".into(),
            }
        } else {
            Self::Io {
                path: path.to_path_buf(),
                source,
            }
        }
    }
}

/// The core's result.
pub type Result<T> = std::result::Result<T, Error>;
