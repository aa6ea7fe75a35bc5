//! Bindings of the table reader.

use std::path::PathBuf;

use llm_esr_core::tables::{Layout, TableChunk, TableReader};
use numpy::{IntoPyArray, PyArray1};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};

use crate::conversion::without_gil;

type Malformed = (i64, i64, String, String);
type Chunk<'py> = (
    Bound<'py, PyArray1<i64>>,
    Vec<Bound<'py, PyList>>,
    Vec<Malformed>,
);

/// A CSV, TSV or `user item` file, read chunk after chunk.
#[pyclass(name = "TableReader", module = "llm_esr._native")]
pub struct PyTableReader(TableReader);

#[pymethods]
impl PyTableReader {
    #[new]
    #[pyo3(signature = (path, *, layout))]
    fn new(py: Python<'_>, path: PathBuf, layout: &str) -> PyResult<Self> {
        let layout = match layout {
            "csv" => Layout::Delimited(None),
            "tsv" => Layout::Delimited(Some(b'\t')),
            "pairs" => Layout::Pairs,
            other => {
                return Err(PyValueError::new_err(format!(
                    "layout: got '{other}', expected 'csv', 'tsv' or 'pairs'"
                )));
            }
        };
        without_gil(py, || TableReader::open(&path, layout)).map(Self)
    }

    #[getter]
    fn columns(&self) -> Vec<String> {
        self.0.columns().to_vec()
    }

    #[getter]
    fn delimiter(&self) -> String {
        char::from(self.0.delimiter()).to_string()
    }

    fn read<'py>(
        &mut self,
        py: Python<'py>,
        rows: usize,
        columns: Vec<String>,
    ) -> PyResult<Option<Chunk<'py>>> {
        let mut places = Vec::with_capacity(columns.len());
        for name in &columns {
            let known = self.0.columns();
            places.push(known.iter().position(|k| k == name).ok_or_else(|| {
                PyValueError::new_err(format!(
                    "columns: no '{name}' (it has: {})",
                    known.join(", ")
                ))
            })?);
        }
        let reader = &mut self.0;
        let chunk = without_gil(py, move || reader.read(rows, &places))?;
        chunk.map(|chunk| hand_over(py, chunk)).transpose()
    }
}

fn hand_over(py: Python<'_>, chunk: TableChunk) -> PyResult<Chunk<'_>> {
    let columns = chunk
        .columns
        .iter()
        .map(|column| PyList::new(py, column.iter().map(|field| PyString::new(py, field))))
        .collect::<PyResult<Vec<_>>>()?;
    let malformed = chunk
        .malformed
        .into_iter()
        .map(|record| (record.line, record.last_line, record.text, record.reason))
        .collect();
    Ok((chunk.lines.into_pyarray(py), columns, malformed))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyTableReader>()
}
