//! Bindings of the nearest-neighbour search.

mod lists;
mod matrix;

use std::sync::Mutex;

use llm_esr_core::retrieval::exact::ExactIndex;
use llm_esr_core::retrieval::graph::Graph;
use llm_esr_core::retrieval::tiles::Kernel;
use llm_esr_core::retrieval::vectors::Vectors;
use pyo3::prelude::*;

use crate::conversion::{to_py, without_gil};
use matrix::{Found, Matrix, options, to_arrays};

/// Exact search; the vectors are kept as they are and read where they lie.
#[pyclass(name = "ExactIndex", module = "llm_esr._native", frozen)]
struct PyExactIndex {
    index: ExactIndex,
    table: Py<PyAny>,
}

impl PyExactIndex {
    /// Does something with the index and its vectors, without the GIL.
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&ExactIndex, Vectors<'_>) -> llm_esr_core::Result<T> + Send,
    ) -> PyResult<T> {
        let matrix = Matrix::read("vectors", self.table.bind(py))?;
        let table = matrix.vectors("vectors")?;
        without_gil(py, || work(&self.index, table))
    }
}

#[pymethods]
impl PyExactIndex {
    #[new]
    #[pyo3(signature = (vectors, threads = 0, *, inner_product = false, certified = true, kernel = None))]
    fn new(
        py: Python<'_>,
        vectors: &Bound<'_, PyAny>,
        threads: usize,
        inner_product: bool,
        certified: bool,
        kernel: Option<&str>,
    ) -> PyResult<Self> {
        let options = options(threads, inner_product, certified, kernel)?;
        let matrix = Matrix::read("vectors", vectors)?;
        let table = matrix.vectors("vectors")?;
        let index = without_gil(py, move || ExactIndex::new(table, options))?;
        Ok(Self {
            index,
            table: vectors.clone().unbind(),
        })
    }

    /// The k nearest of each of the own rows start..stop, the row itself left out.
    fn search_rows<'py>(
        &self,
        py: Python<'py>,
        start: usize,
        stop: usize,
        k: usize,
    ) -> PyResult<Found<'py>> {
        let found = self.with(py, |index, table| index.search_rows(table, start..stop, k))?;
        Ok(to_arrays(py, found, k))
    }

    /// The k rows nearest to each query.
    fn search<'py>(
        &self,
        py: Python<'py>,
        queries: &Bound<'py, PyAny>,
        k: usize,
    ) -> PyResult<Found<'py>> {
        let matrix = Matrix::read("queries", queries)?;
        let vectors = matrix.vectors("queries")?;
        let found = self.with(py, |index, table| index.search(table, vectors, k))?;
        Ok(to_arrays(py, found, k))
    }

    /// The search of all rows for their k nearest, in pieces.
    fn graph(slf: Bound<'_, Self>, k: usize) -> PyResult<PyGraph> {
        let graph = Graph::new(&slf.get().index, k).map_err(to_py)?;
        Ok(PyGraph {
            graph: Mutex::new(graph),
            index: slf.unbind(),
            k,
        })
    }

    fn __len__(&self) -> usize {
        self.index.rows()
    }

    /// Numbers in a vector.
    #[getter]
    fn width(&self) -> usize {
        self.index.width()
    }

    /// Rows that were answered by exact scores alone, so far.
    #[getter]
    fn again(&self) -> usize {
        self.index.again()
    }
}

/// The search of all rows of an index for their neighbours.
#[pyclass(name = "Graph", module = "llm_esr._native", frozen)]
struct PyGraph {
    graph: Mutex<Graph>,
    index: Py<PyExactIndex>,
    k: usize,
}

#[pymethods]
impl PyGraph {
    /// Does the next pieces; how many are done, and of how many.
    fn advance(&self, py: Python<'_>, pieces: usize) -> PyResult<(usize, usize)> {
        let index = self.index.get();
        without_gil(py, || {
            let mut graph = locked(&self.graph);
            graph.advance(&index.index, pieces)?;
            Ok(graph.progress())
        })
    }

    /// The neighbours of the rows start..stop, once all pieces are done; each row may be asked for once.
    fn rank<'py>(&self, py: Python<'py>, start: usize, stop: usize) -> PyResult<Found<'py>> {
        let found = self.index.get().with(py, |index, table| {
            locked(&self.graph).rank(index, table, start..stop)
        })?;
        Ok(to_arrays(py, found, self.k))
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The names of the kernels that this processor has, the fastest first.
#[pyfunction]
fn search_kernels() -> Vec<&'static str> {
    Kernel::available()
        .iter()
        .map(|kernel| kernel.name())
        .collect()
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyExactIndex>()?;
    module.add_class::<PyGraph>()?;
    module.add_class::<lists::PyListIndex>()?;
    module.add_function(wrap_pyfunction!(search_kernels, module)?)
}
