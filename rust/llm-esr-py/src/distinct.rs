//! Binding of the search for a step's distinct items.

use llm_esr_core::Error;
use llm_esr_core::distinct::{Distinct, distinct};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;

use crate::conversion::{contiguous, to_py, without_gil};

type Ids<'py> = Bound<'py, PyArray1<i64>>;

/// The distinct ids of groups of int32 arrays, in the order in which they are met first; how many of them each group
/// brought; and the place of every id, for each array.
#[pyfunction]
fn distinct_items<'py>(
    py: Python<'py>,
    groups: Vec<Vec<PyReadonlyArray1<'py, i32>>>,
) -> PyResult<(Ids<'py>, Vec<usize>, Vec<Ids<'py>>)> {
    let lists: Vec<Vec<&[i32]>> = groups
        .iter()
        .map(|group| group.iter().map(ids).collect())
        .collect::<PyResult<_>>()?;
    let Distinct { ids, new, places } = without_gil(py, || Ok(distinct(&lists)))?;
    let places = places.into_iter().map(|p| p.into_pyarray(py)).collect();
    Ok((ids.into_pyarray(py), new, places))
}

fn ids<'a>(array: &'a PyReadonlyArray1<'_, i32>) -> PyResult<&'a [i32]> {
    let ids = contiguous("groups", array.as_slice())?;
    match ids.iter().find(|&&id| id < 0) {
        None => Ok(ids),
        Some(id) => Err(to_py(Error::argument(
            "groups",
            format!("id {id}; ids start at 0"),
        ))),
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(distinct_items, module)?)
}
