//! Binding of the search for a step's unique items.

use llm_esr_core::Error;
use llm_esr_core::unique_items::{UniqueItems, unique_items as find_unique};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;

use crate::conversion::{contiguous, to_py, without_gil};

type Ids<'py> = Bound<'py, PyArray1<i64>>;

/// The unique ids of groups of int32 arrays, in the order in which they are met first; how many of them each group
/// brought; and the place of every id, for each array.
#[pyfunction]
fn unique_items<'py>(
    py: Python<'py>,
    groups: Vec<Vec<PyReadonlyArray1<'py, i32>>>,
) -> PyResult<(Ids<'py>, Vec<usize>, Vec<Ids<'py>>)> {
    let lists: Vec<Vec<&[i32]>> = groups
        .iter()
        .map(|group| group.iter().map(ids).collect())
        .collect::<PyResult<_>>()?;
    let UniqueItems { ids, new, inverse } = without_gil(py, || Ok(find_unique(&lists)))?;
    let inverse = inverse.into_iter().map(|p| p.into_pyarray(py)).collect();
    Ok((ids.into_pyarray(py), new, inverse))
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
    module.add_function(wrap_pyfunction!(unique_items, module)?)
}
