//! Binding of losses over the whole catalogue.

use llm_esr_core::catalogue_rows::Rows;
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1, PyReadwriteArray2, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::conversion::{contiguous, without_gil};
use crate::threads::TorchThreads;

/// Writes the gradient of each row's loss, times `share`, over its scores [m, I]; returns the losses, [m].
#[pyfunction]
#[allow(clippy::too_many_arguments)]
fn catalogue_losses<'py>(
    py: Python<'py>,
    mut scores: PyReadwriteArray2<'py, f32>,
    targets: PyReadonlyArray1<'py, i64>,
    starts: PyReadonlyArray1<'py, i64>,
    counts: PyReadonlyArray1<'py, i64>,
    met: PyReadonlyArray1<'py, i64>,
    share: f32,
    threads: usize,
) -> PyResult<Bound<'py, PyArray1<f32>>> {
    let rows = Rows {
        items: scores.shape()[1],
        targets: contiguous("targets", targets.as_slice())?,
        starts: contiguous("starts", starts.as_slice())?,
        counts: contiguous("counts", counts.as_slice())?,
        met: contiguous("met", met.as_slice())?,
        share,
    };
    let scores = contiguous("scores", scores.as_slice_mut())?;
    let losses = without_gil(py, || rows.losses(scores, &TorchThreads(threads)))?;
    Ok(losses.into_pyarray(py))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(catalogue_losses, module)?)
}
