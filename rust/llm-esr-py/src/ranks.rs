//! Binding of ranks and lists.

use llm_esr_core::ranks::Question;
use numpy::ndarray::Array2;
use numpy::{
    IntoPyArray, PyArray1, PyArray2, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods,
};
use pyo3::prelude::*;

use crate::conversion::{contiguous, without_gil};
use crate::threads::TorchThreads;

type Found<'py> = (
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray2<i32>>,
    Bound<'py, PyArray2<f32>>,
    Bound<'py, PyArray1<bool>>,
);

/// Reads each row of scores once: competitors above the target's score and tied with it, the k best ids and scores, and
/// whether there is a NaN.
#[pyfunction]
#[pyo3(signature = (scores, targets, seen, k, threads))]
fn rank_rows<'py>(
    py: Python<'py>,
    scores: PyReadonlyArray2<'py, f32>,
    targets: Option<PyReadonlyArray1<'py, i32>>,
    seen: Option<(PyReadonlyArray1<'py, i32>, PyReadonlyArray1<'py, i64>)>,
    k: usize,
    threads: usize,
) -> PyResult<Found<'py>> {
    let (rows, items) = (scores.shape()[0], scores.shape()[1]);
    // No list is longer than the catalogue, so nothing is made from an unchecked k.
    let k = k.min(items);
    let question = Question {
        scores: contiguous("scores", scores.as_slice())?,
        items,
        targets: match &targets {
            Some(targets) => contiguous("targets", targets.as_slice())?,
            None => &[],
        },
        seen: match &seen {
            Some((items, _)) => contiguous("seen", items.as_slice())?,
            None => &[],
        },
        offsets: match &seen {
            Some((_, offsets)) => contiguous("offsets", offsets.as_slice())?,
            None => &[],
        },
        k,
    };
    let answer = without_gil(py, || question.answer(&TorchThreads(threads)))?;
    let lists = "the core fills rows of k";
    Ok((
        answer.above.into_pyarray(py),
        answer.tied.into_pyarray(py),
        Array2::from_shape_vec((rows, k), answer.ids)
            .expect(lists)
            .into_pyarray(py),
        Array2::from_shape_vec((rows, k), answer.values)
            .expect(lists)
            .into_pyarray(py),
        answer.unknown.into_pyarray(py),
    ))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(rank_rows, module)?)
}
