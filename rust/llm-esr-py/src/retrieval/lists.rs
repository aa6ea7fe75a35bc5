//! Bindings of the search in lists.

use llm_esr_core::retrieval::lists::{ListIndex, Parts, Sample};
use llm_esr_core::retrieval::vectors::Vectors;
use numpy::ndarray::Array2;
use numpy::{IntoPyArray, PyArray1, PyArray2, PyReadonlyArray1, PyReadonlyArray2};
use pyo3::prelude::*;

use super::matrix::{Found, Matrix, options, to_arrays};
use crate::conversion::{contiguous, without_gil};

type Numbers<'py, T> = Bound<'py, PyArray1<T>>;
type PartArrays<'py> = (
    Bound<'py, PyArray2<f32>>,
    Numbers<'py, i64>,
    Numbers<'py, i32>,
);

/// Approximate search in lists about centres; the vectors are kept as they are and read where they lie.
#[pyclass(name = "ListIndex", module = "llm_esr._native", frozen)]
pub struct PyListIndex {
    index: ListIndex,
    table: Py<PyAny>,
}

impl PyListIndex {
    /// Does something with the index and its vectors, without the GIL.
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&ListIndex, Vectors<'_>) -> llm_esr_core::Result<T> + Send,
    ) -> PyResult<T> {
        let matrix = Matrix::read("vectors", self.table.bind(py))?;
        let table = matrix.vectors("vectors")?;
        without_gil(py, || work(&self.index, table))
    }
}

#[pymethods]
impl PyListIndex {
    #[new]
    #[pyo3(signature = (vectors, threads = 0, *, inner_product = false, lists = 0, seed = 0))]
    fn new(
        py: Python<'_>,
        vectors: &Bound<'_, PyAny>,
        threads: usize,
        inner_product: bool,
        lists: usize,
        seed: u64,
    ) -> PyResult<Self> {
        let options = options(threads, inner_product, true, None)?;
        let matrix = Matrix::read("vectors", vectors)?;
        let table = matrix.vectors("vectors")?;
        let index = without_gil(py, move || ListIndex::new(table, options, lists, seed))?;
        Ok(Self {
            index,
            table: vectors.clone().unbind(),
        })
    }

    /// An index of parts that were made before, of the same vectors or of their first rows.
    #[staticmethod]
    #[pyo3(signature = (vectors, parts, threads = 0, *, inner_product = false))]
    fn open(
        py: Python<'_>,
        vectors: &Bound<'_, PyAny>,
        parts: (
            PyReadonlyArray2<'_, f32>,
            PyReadonlyArray1<'_, i64>,
            PyReadonlyArray1<'_, i32>,
        ),
        threads: usize,
        inner_product: bool,
    ) -> PyResult<Self> {
        let options = options(threads, inner_product, true, None)?;
        let matrix = Matrix::read("vectors", vectors)?;
        let table = matrix.vectors("vectors")?;
        let parts = Parts {
            centres: contiguous("centres", parts.0.as_slice())?,
            offsets: contiguous("offsets", parts.1.as_slice())?,
            members: contiguous("members", parts.2.as_slice())?,
        };
        let index = without_gil(py, move || ListIndex::open(table, options, parts))?;
        Ok(Self {
            index,
            table: vectors.clone().unbind(),
        })
    }

    /// Centres [lists, width], where each list begins [lists + 1], and row numbers list by list [rows].
    fn parts<'py>(&self, py: Python<'py>) -> PartArrays<'py> {
        let shape = (self.index.lists(), self.index.width());
        let centres = Array2::from_shape_vec(shape, self.index.centres().to_vec())
            .expect("a centre for each list");
        (
            centres.into_pyarray(py),
            self.index.offsets().into_pyarray(py),
            self.index.members().into_pyarray(py),
        )
    }

    /// The k nearest rows of each query among those of the nearest lists.
    fn search<'py>(
        &self,
        py: Python<'py>,
        queries: &Bound<'py, PyAny>,
        k: usize,
        probes: usize,
    ) -> PyResult<Found<'py>> {
        let matrix = Matrix::read("queries", queries)?;
        let vectors = matrix.vectors("queries")?;
        let found = self.with(py, |index, table| index.search(table, vectors, k, probes))?;
        Ok(to_arrays(py, found, k))
    }

    /// The neighbours of the rows of some pieces: the rows, and what was found for each.
    fn search_pieces<'py>(
        &self,
        py: Python<'py>,
        start: usize,
        stop: usize,
        k: usize,
        probes: usize,
    ) -> PyResult<(Numbers<'py, i32>, Found<'py>)> {
        let (rows, found) = self.with(py, |index, table| {
            index.search_pieces(table, start..stop, k, probes)
        })?;
        Ok((rows.into_pyarray(py), to_arrays(py, found, k)))
    }

    /// The share of the k exact neighbours that 1, 2, ... lists hold, and its standard error, by a sample: so many of
    /// the own rows from the place `first` on, or queries.
    #[pyo3(signature = (k, *, sample = 512, first = 0, queries = None))]
    fn recalls<'py>(
        &self,
        py: Python<'py>,
        k: usize,
        sample: usize,
        first: usize,
        queries: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Numbers<'py, f64>, Numbers<'py, f64>)> {
        let matrix = queries
            .map(|queries| Matrix::read("queries", queries))
            .transpose()?;
        let sample = match &matrix {
            Some(matrix) => Sample::Queries(matrix.vectors("queries")?),
            None => Sample::Own(sample, first),
        };
        let recalls = self.with(py, |index, table| index.recalls(table, sample, k))?;
        Ok((
            recalls.mean.into_pyarray(py),
            recalls.error.into_pyarray(py),
        ))
    }

    fn __len__(&self) -> usize {
        self.index.rows()
    }

    /// Numbers in a vector.
    #[getter]
    fn width(&self) -> usize {
        self.index.width()
    }

    /// How many lists.
    #[getter]
    fn lists(&self) -> usize {
        self.index.lists()
    }

    /// Pieces of the search of all rows.
    #[getter]
    fn pieces(&self) -> usize {
        self.index.pieces()
    }
}
