//! Binding of item-to-item tables.

use llm_esr_core::Error;
use llm_esr_core::neighbour_tables::{Kind, Sum, Training};
use numpy::ndarray::Array2;
use numpy::{
    IntoPyArray, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2,
    PyUntypedArrayMethods,
};
use pyo3::prelude::*;

use crate::conversion::{contiguous, to_py, without_gil};
use crate::threads::TorchThreads;

type Table<'py> = (Bound<'py, PyArray2<i32>>, Bound<'py, PyArray2<f32>>);

/// The largest entries of each item's row, largest first: ids [I, width] (0 fills) and values.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
fn neighbour_table<'py>(
    py: Python<'py>,
    kind: &str,
    items: PyReadonlyArray1<'py, i32>,
    offsets: PyReadonlyArray1<'py, i64>,
    lengths: PyReadonlyArray1<'py, i64>,
    n_items: usize,
    width: usize,
    threads: usize,
) -> PyResult<Table<'py>> {
    let kind = match kind {
        "transitions" => Kind::Transitions,
        "co-occurrence" => Kind::CoOccurrence,
        _ => {
            let message = format!("got '{kind}', expected transitions or co-occurrence");
            return Err(to_py(Error::argument("kind", message)));
        }
    };
    let training = Training {
        items: contiguous("items", items.as_slice())?,
        offsets: contiguous("offsets", offsets.as_slice())?,
        lengths: contiguous("lengths", lengths.as_slice())?,
        n_items,
    };
    let table = without_gil(py, || training.table(kind, width, &TorchThreads(threads)))?;
    let rows = "the core fills rows of the width";
    Ok((
        Array2::from_shape_vec((n_items, width), table.ids)
            .expect(rows)
            .into_pyarray(py),
        Array2::from_shape_vec((n_items, width), table.values)
            .expect(rows)
            .into_pyarray(py),
    ))
}

/// Scores [S, I] of histories: the rows of their newest items, added up with a decay.
#[pyfunction]
fn add_neighbour_rows<'py>(
    py: Python<'py>,
    table: (PyReadonlyArray2<'py, i32>, PyReadonlyArray2<'py, f32>),
    histories: (PyReadonlyArray1<'py, i32>, PyReadonlyArray1<'py, i64>),
    decay: f32,
    newest: usize,
    threads: usize,
) -> PyResult<Bound<'py, PyArray2<f32>>> {
    let (ids, values) = &table;
    let sum = Sum {
        ids: contiguous("ids", ids.as_slice())?,
        values: contiguous("values", values.as_slice())?,
        width: ids.shape()[1],
        decay,
        newest,
    };
    let items = contiguous("histories", histories.0.as_slice())?;
    let offsets = contiguous("offsets", histories.1.as_slice())?;
    let scores = PyArray2::zeros(py, [offsets.len().saturating_sub(1), ids.shape()[0]], false);
    {
        let mut written = scores.readwrite();
        let written = contiguous("scores", written.as_slice_mut())?;
        without_gil(py, || {
            sum.scores(items, offsets, written, &TorchThreads(threads))
        })?;
    }
    Ok(scores)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(neighbour_table, module)?)?;
    module.add_function(wrap_pyfunction!(add_neighbour_rows, module)?)
}
