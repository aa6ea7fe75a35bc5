//! Bindings of the nearest-neighbour search.

use llm_esr_core::Error;
use llm_esr_core::similar::{ExactIndex, Neighbours, Values, Vectors};
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
        Ok(Vectors {
            values,
            rows: shape[0],
            width: shape[1],
        })
    }
}

/// Exact search by cosine over a copy of the vectors at unit length.
#[pyclass(name = "ExactIndex", module = "llm_esr._native", frozen)]
struct PyExactIndex(ExactIndex);

#[pymethods]
impl PyExactIndex {
    #[new]
    #[pyo3(signature = (vectors, threads = 0))]
    fn new(py: Python<'_>, vectors: &Bound<'_, PyAny>, threads: usize) -> PyResult<Self> {
        let matrix = Matrix::read("vectors", vectors)?;
        let table = matrix.vectors("vectors")?;
        without_gil(py, move || ExactIndex::new(table, threads)).map(Self)
    }

    /// The k nearest of each of the own rows start..stop, the row itself left out.
    fn search_rows<'py>(
        &self,
        py: Python<'py>,
        start: usize,
        stop: usize,
        k: usize,
    ) -> PyResult<Found<'py>> {
        let found = without_gil(py, || self.0.search_rows(start..stop, k))?;
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
        let found = without_gil(py, || self.0.search(vectors, k))?;
        Ok(to_arrays(py, found, k))
    }

    fn __len__(&self) -> usize {
        self.0.rows()
    }

    /// Numbers in a vector.
    #[getter]
    fn width(&self) -> usize {
        self.0.width()
    }
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
    module.add_class::<PyExactIndex>()
}
