//! Binding of item-to-item tables.

use llm_esr_core::Error;
use llm_esr_core::dense_rows::{Combine, Rows};
use llm_esr_core::neighbour_sums::Sum;
use llm_esr_core::neighbour_tables::{Kind, Training};
use numpy::ndarray::Array2;
use numpy::{
    IntoPyArray, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2,
    PyUntypedArrayMethods,
};
use pyo3::prelude::*;

use crate::conversion::{contiguous, to_py, without_gil};
use crate::threads::TorchThreads;

type GivenTable<'py> = (PyReadonlyArray2<'py, i32>, PyReadonlyArray2<'py, f32>);
type GivenHistories<'py> = (PyReadonlyArray1<'py, i32>, PyReadonlyArray1<'py, i64>);
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

/// A table and what is read of it, the histories' items and their offsets.
fn rows_to_add<'a>(
    (ids, values): &'a GivenTable<'_>,
    (items, offsets): &'a GivenHistories<'_>,
    decay: f32,
    newest: usize,
) -> PyResult<(Sum<'a>, &'a [i32], &'a [i64])> {
    let sum = Sum {
        ids: contiguous("ids", ids.as_slice())?,
        values: contiguous("values", values.as_slice())?,
        width: ids.shape()[1],
        decay,
        newest,
    };
    let items = contiguous("histories", items.as_slice())?;
    Ok((sum, items, contiguous("offsets", offsets.as_slice())?))
}

/// Scores [S, I] of histories: the rows of their newest items, added up with a decay.
#[pyfunction]
fn add_neighbour_rows<'py>(
    py: Python<'py>,
    table: GivenTable<'py>,
    histories: GivenHistories<'py>,
    decay: f32,
    newest: usize,
    threads: usize,
) -> PyResult<Bound<'py, PyArray2<f32>>> {
    let (sum, items, offsets) = rows_to_add(&table, &histories, decay, newest)?;
    let scores = PyArray2::zeros(
        py,
        [offsets.len().saturating_sub(1), table.0.shape()[0]],
        false,
    );
    {
        let mut written = scores.readwrite();
        let written = contiguous("scores", written.as_slice_mut())?;
        without_gil(py, || {
            sum.scores(items, offsets, written, &TorchThreads(threads))
        })?;
    }
    Ok(scores)
}

/// Scores [S, I] of histories by whole rows of a matrix [I, I]: the rows of their newest items, added up with a decay;
/// without one the largest of them, -1 for an empty history.
#[pyfunction]
fn combine_dense_rows<'py>(
    py: Python<'py>,
    matrix: PyReadonlyArray2<'py, f32>,
    histories: GivenHistories<'py>,
    decay: Option<f32>,
    newest: usize,
    threads: usize,
) -> PyResult<Bound<'py, PyArray2<f32>>> {
    let items = contiguous("histories", histories.0.as_slice())?;
    let offsets = contiguous("offsets", histories.1.as_slice())?;
    let rows = Rows::new(contiguous("matrix", matrix.as_slice())?, matrix.shape()[0]);
    let rows = rows.map_err(to_py)?;
    let combine = match decay {
        Some(decay) => Combine::Sum { decay },
        None => Combine::Largest { none: -1.0 },
    };
    let shape = [offsets.len().saturating_sub(1), matrix.shape()[0]];
    let scores = PyArray2::zeros(py, shape, false);
    {
        let mut written = scores.readwrite();
        let written = contiguous("scores", written.as_slice_mut())?;
        let threads = TorchThreads(threads);
        without_gil(py, || {
            rows.scores((items, offsets), newest, combine, written, &threads)
        })?;
    }
    Ok(scores)
}

/// The best k items for each history by the sums of `add_neighbour_rows`, ids [S, k] (0: none is left) and values.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
fn neighbour_lists<'py>(
    py: Python<'py>,
    table: GivenTable<'py>,
    histories: GivenHistories<'py>,
    decay: f32,
    newest: usize,
    leave_out_met: bool,
    k: usize,
    threads: usize,
) -> PyResult<Table<'py>> {
    let (sum, items, offsets) = rows_to_add(&table, &histories, decay, newest)?;
    // No list is longer than the catalogue, so nothing is made from an unchecked k.
    let k = k.min(table.0.shape()[0]);
    let rows = offsets.len().saturating_sub(1);
    let found = PyArray2::zeros(py, [rows, k], false);
    let sums = PyArray2::zeros(py, [rows, k], false);
    {
        let (mut found, mut sums) = (found.readwrite(), sums.readwrite());
        let written = (
            contiguous("ids", found.as_slice_mut())?,
            contiguous("values", sums.as_slice_mut())?,
        );
        without_gil(py, || {
            let threads = TorchThreads(threads);
            sum.lists((items, offsets), leave_out_met, k, written, &threads)
        })?;
    }
    Ok((found, sums))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(neighbour_table, module)?)?;
    module.add_function(wrap_pyfunction!(add_neighbour_rows, module)?)?;
    module.add_function(wrap_pyfunction!(combine_dense_rows, module)?)?;
    module.add_function(wrap_pyfunction!(neighbour_lists, module)?)
}
