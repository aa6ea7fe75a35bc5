//! Bindings of attention and dropout: torch's tensors as NumPy arrays, read and filled where they lie.

use llm_esr_core::Error;
use llm_esr_core::attention::{Attention, Gradients, Projected, PseudoKey};
use llm_esr_core::dropout::Dropout;
use numpy::ndarray::Axis;
use numpy::{
    IntoPyArray, PyArray1, PyReadonlyArray1, PyReadonlyArray2, PyReadwriteArray1, PyReadwriteArray2,
};
use pyo3::prelude::*;

use crate::conversion::{contiguous, to_py, without_gil};
use crate::threads::TorchThreads;

type Vector<'py> = PyReadonlyArray1<'py, f32>;
type Matrix<'py> = PyReadonlyArray2<'py, f32>;
/// Queries, unless they stand before the keys; keys and values; the pseudo-key and its value.
type Inputs<'py> = (
    Option<Matrix<'py>>,
    Matrix<'py>,
    Option<(Vector<'py>, Vector<'py>)>,
);
/// Gradients of the queries and of the rest, to be filled.
type ToFill<'py> = (
    Option<PyReadwriteArray2<'py, f32>>,
    PyReadwriteArray2<'py, f32>,
);
type PseudoSlopes<'py> = Option<(Bound<'py, PyArray1<f32>>, Bound<'py, PyArray1<f32>>)>;

/// How tokens attend to each other.
#[pyclass(name = "Attention", module = "llm_esr._native", frozen)]
struct PyAttention {
    views: usize,
    heads: usize,
    causal: bool,
    newest_only: bool,
    rate: f64,
    seed: u64,
    max_len: usize,
    threads: usize,
}

#[pymethods]
impl PyAttention {
    #[new]
    #[pyo3(signature = (*, views, heads, causal, newest_only, rate, seed, max_len, threads))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        views: usize,
        heads: usize,
        causal: bool,
        newest_only: bool,
        rate: f64,
        seed: u64,
        max_len: usize,
        threads: usize,
    ) -> Self {
        Self {
            views,
            heads,
            causal,
            newest_only,
            rate,
            seed,
            max_len,
            threads,
        }
    }

    /// Fills `out`, [queries, D]. Without queries the columns of the memory are queries, keys and values, else keys and
    /// values.
    fn forward(
        &self,
        py: Python<'_>,
        offsets: PyReadonlyArray1<'_, i64>,
        inputs: Inputs<'_>,
        mut out: PyReadwriteArray2<'_, f32>,
    ) -> PyResult<()> {
        let projected = projected(&inputs)?;
        let attention = self.attention(&offsets, &inputs)?;
        let (out, workers) = (out.as_array_mut(), TorchThreads(self.threads));
        without_gil(py, || attention.forward(&projected, out, &workers))
    }

    /// Fills the gradients of queries and memory, given that of the output; returns those of the pseudo-key.
    fn backward<'py>(
        &self,
        py: Python<'py>,
        offsets: PyReadonlyArray1<'_, i64>,
        inputs: Inputs<'_>,
        out: Matrix<'_>,
        mut gradients: ToFill<'_>,
    ) -> PyResult<PseudoSlopes<'py>> {
        let projected = projected(&inputs)?;
        let attention = self.attention(&offsets, &inputs)?;
        let gradients = to_fill(&mut gradients)?;
        let (out, workers) = (out.as_array(), TorchThreads(self.threads));
        let found = without_gil(py, || {
            attention.backward(&projected, &out, gradients, &workers)
        })?;
        Ok(found.map(|pseudo| (pseudo.key.into_pyarray(py), pseudo.value.into_pyarray(py))))
    }
}

impl PyAttention {
    fn attention<'a>(
        &self,
        offsets: &'a PyReadonlyArray1<'_, i64>,
        (_, _, pseudo): &'a Inputs<'_>,
    ) -> PyResult<Attention<'a>> {
        let pseudo = match pseudo {
            Some((key, value)) => Some(PseudoKey {
                key: contiguous("pseudo", key.as_slice())?,
                value: contiguous("pseudo", value.as_slice())?,
                max_len: self.max_len,
            }),
            None => None,
        };
        Ok(Attention {
            offsets: contiguous("offsets", offsets.as_slice())?,
            views: self.views,
            heads: self.heads,
            causal: self.causal,
            newest_only: self.newest_only,
            pseudo,
            dropout: Dropout::new(self.rate, self.seed).map_err(to_py)?,
        })
    }
}

fn projected<'a>((queries, memory, _): &'a Inputs<'_>) -> PyResult<Projected<'a>> {
    let memory = memory.as_array();
    let width = columns(memory.ncols(), queries.is_none())?;
    let (queries, memory) = match queries {
        Some(queries) => (queries.as_array(), memory),
        None => memory.split_at(Axis(1), width),
    };
    let (keys, values) = memory.split_at(Axis(1), width);
    Ok(Projected {
        queries,
        keys,
        values,
    })
}

fn to_fill<'a>((queries, memory): &'a mut ToFill<'_>) -> PyResult<Gradients<'a>> {
    let memory = memory.as_array_mut();
    let width = columns(memory.ncols(), queries.is_none())?;
    let (queries, memory) = match queries {
        Some(queries) => (queries.as_array_mut(), memory),
        None => memory.split_at(Axis(1), width),
    };
    let (keys, values) = memory.split_at(Axis(1), width);
    Ok(Gradients {
        queries,
        keys,
        values,
    })
}

/// The width D of what lies side by side: queries, keys and values, or keys and values.
fn columns(all: usize, with_queries: bool) -> PyResult<usize> {
    let parts = if with_queries { 3 } else { 2 };
    if all.is_multiple_of(parts) {
        return Ok(all / parts);
    }
    let message = format!("{all} columns; expected a multiple of {parts}");
    Err(to_py(Error::argument("memory", message)))
}

/// Writes what dropout at `rate` leaves of one array into another; the same of a gradient with the same seed.
#[pyfunction]
fn drop_out(
    py: Python<'_>,
    from_: PyReadonlyArray1<'_, f32>,
    mut to: PyReadwriteArray1<'_, f32>,
    rate: f64,
    seed: u64,
    threads: usize,
) -> PyResult<()> {
    let from = contiguous("from_", from_.as_slice())?;
    let to = contiguous("to", to.as_slice_mut())?;
    let dropout = Dropout::new(rate, seed).map_err(to_py)?;
    without_gil(py, || dropout.apply(from, to, &TorchThreads(threads)))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyAttention>()?;
    module.add_function(wrap_pyfunction!(drop_out, module)?)
}
