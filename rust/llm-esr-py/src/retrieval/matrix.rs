//! What the bindings of the search share: matrices in, options, arrays out.

use llm_esr_core::Error;
use llm_esr_core::retrieval::coded::{Certainty, Neighbours, Options};
use llm_esr_core::retrieval::tiles::Kernel;
use llm_esr_core::retrieval::vectors::{Measure, Values, Vectors};
use numpy::ndarray::Array2;
use numpy::{IntoPyArray, PyArray2, PyReadonlyArray2, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::conversion::to_py;

pub type Found<'py> = (Bound<'py, PyArray2<i32>>, Bound<'py, PyArray2<f32>>);

/// A borrowed NumPy matrix of either precision; half precision comes as a view of its bits.
pub enum Matrix<'py> {
    Single(PyReadonlyArray2<'py, f32>),
    Half(PyReadonlyArray2<'py, u16>),
}

impl<'py> Matrix<'py> {
    pub fn read(argument: &'static str, array: &Bound<'py, PyAny>) -> PyResult<Self> {
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

    pub fn vectors(&self, argument: &'static str) -> PyResult<Vectors<'_>> {
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

/// How to search, in the words of Python.
pub fn options(
    threads: usize,
    inner_product: bool,
    certified: bool,
    kernel: Option<&str>,
) -> PyResult<Options> {
    Ok(Options {
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
    })
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

pub fn to_arrays(py: Python<'_>, found: Neighbours, k: usize) -> Found<'_> {
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
