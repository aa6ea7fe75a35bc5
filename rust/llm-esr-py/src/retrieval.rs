//! Bindings of the nearest-neighbour search.

use std::sync::Mutex;

use llm_esr_core::Error;
use llm_esr_core::retrieval::exact::{Certainty, ExactIndex, Neighbours, Options};
use llm_esr_core::retrieval::graph::Graph;
use llm_esr_core::retrieval::tiles::Kernel;
use llm_esr_core::retrieval::vectors::{Measure, Values, Vectors};
use numpy::ndarray::Array2;
use numpy::{IntoPyArray, PyArray2, PyReadonlyArray2, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::conversion::{to_py, without_gil};

type Found<'py> = (Bound<'py, PyArray2<i32>>, Bound<'py, PyArray2<f32>>);

/// A borrowed NumPy matrix of either precision; half precision comes as a view of its bits.
enum Matrix<'py> {
    Single(PyReadonlyArray2<'py, f32>),
    Half(PyReadonlyArray2<'py, u16>),
}

impl<'py> Matrix<'py> {
    fn read(argument: &'static str, array: &Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(single) = array.extract::<PyReadonlyArray2<'py, f32>>() {
            return Ok(Self::Single(single));
        }
        let untyped = array.cast::<PyUntypedArray>()?;
        let dtype = untyped.dtype().to_string();
        if untyped.ndim() == 2 && dtype == "float16" {
            return Ok(Self::Half(
                array.call_method1("view", ("uint16",))?.extract()?,
            ));
        }
        Err(to_py(Error::argument(
            argument,
            format!(
                "an array of {} axes and type {dtype}; expected [rows, width] of float32 or float16",
                untyped.ndim()
            ),
        )))
    }

    fn vectors(&self, argument: &'static str) -> PyResult<Vectors<'_>> {
        let (values, shape) = match self {
            Self::Single(array) => (array.as_slice().map(Values::Single), array.shape()),
            Self::Half(array) => (array.as_slice().map(Values::Half), array.shape()),
        };
        let values = values.map_err(|_| {
            to_py(Error::argument(
                argument,
                "rows are not contiguous; pass numpy.ascontiguousarray(...)",
            ))
        })?;
        Vectors::new(argument, values, shape[0], shape[1]).map_err(to_py)
    }
}

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
        let options = Options {
            measure: if inner_product {
                Measure::InnerProduct
            } else {
                Measure::Cosine
            },
            certainty: if certified {
                Certainty::Certified
            } else {
                Certainty::Likely
            },
            threads,
            kernel: kernel.map(named).transpose()?,
        };
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
            graph.advance(&index.index, pieces);
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

/// The kernel of a name, where this processor has it.
fn named(name: &str) -> PyResult<Kernel> {
    let available = Kernel::available();
    available
        .iter()
        .copied()
        .find(|kernel| kernel.name() == name)
        .ok_or_else(|| {
            let names: Vec<_> = available.iter().map(|kernel| kernel.name()).collect();
            to_py(Error::argument(
                "kernel",
                format!(
                    "'{name}' is not one of this processor's: {}",
                    names.join(", ")
                ),
            ))
        })
}

/// The names of the kernels that this processor has, the fastest first.
#[pyfunction]
fn search_kernels() -> Vec<&'static str> {
    Kernel::available()
        .iter()
        .map(|kernel| kernel.name())
        .collect()
}

fn to_arrays(py: Python<'_>, found: Neighbours, k: usize) -> Found<'_> {
    let Neighbours { ids, scores } = found;
    let shape = (ids.len() / k, k);
    let matrix = "the core fills whole rows of k";
    (
        Array2::from_shape_vec(shape, ids)
            .expect(matrix)
            .into_pyarray(py),
        Array2::from_shape_vec(shape, scores)
            .expect(matrix)
            .into_pyarray(py),
    )
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyExactIndex>()?;
    module.add_class::<PyGraph>()?;
    module.add_function(wrap_pyfunction!(search_kernels, module)?)
}
