//! The border between the core and Python: error mapping and work without the GIL, in one place.

use llm_esr_core::Error;
use pyo3::exceptions::{
    PyFileNotFoundError, PyIndexError, PyKeyboardInterrupt, PyOSError, PyValueError,
};
use pyo3::marker::Ungil;
use pyo3::prelude::*;

/// Maps each variant of the core's error to the exception a Python caller expects.
pub fn to_py(error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::FileMissing { .. } => PyFileNotFoundError::new_err(text),
        Error::Io { .. } => PyOSError::new_err(text),
        Error::IdOutOfRange { .. } => PyIndexError::new_err(text),
        Error::Interrupted => PyKeyboardInterrupt::new_err(text),
        Error::Format { .. } | Error::Argument { .. } => PyValueError::new_err(text),
    }
}

/// Runs `work` without the GIL, maps its error and lets a pending Ctrl-C through.
pub fn without_gil<T, F>(py: Python<'_>, work: F) -> PyResult<T>
where
    F: FnOnce() -> llm_esr_core::Result<T> + Ungil + Send,
    T: Ungil + Send,
{
    let result = py.detach(work).map_err(to_py);
    py.check_signals()?;
    result
}

/// The numbers of a NumPy array, or an error that names the argument whose numbers are spread.
pub fn contiguous<T, E>(argument: &'static str, slice: std::result::Result<T, E>) -> PyResult<T> {
    slice.map_err(|_| to_py(Error::argument(argument, "its numbers do not lie together")))
}
