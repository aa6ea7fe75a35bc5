//! Bindings of the contexts of items.

use std::sync::Arc;

use llm_esr_core::Error;
use llm_esr_core::contexts::{Contexts, Cut, recent_cuts as draw_cuts};
use llm_esr_core::rng::permutation_of;
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;

use crate::conversion::{contiguous, to_py, without_gil};
use crate::store::PyStore;

type Vector<'py, T> = Bound<'py, PyArray1<T>>;

/// The contexts of all items of a store.
#[pyclass(name = "Contexts", module = "llm_esr._native", frozen)]
pub struct PyContexts(Contexts);

#[pymethods]
impl PyContexts {
    #[new]
    fn new(
        py: Python<'_>,
        store: &PyStore,
        max_len: usize,
        reversed: bool,
        holds_item: bool,
    ) -> PyResult<Self> {
        let cut = Cut {
            max_len,
            reversed,
            holds_item,
        };
        let store = Arc::clone(&store.0);
        without_gil(py, || Contexts::new(store, cut)).map(Self)
    }

    /// Where each item's contexts start, int64 [I + 2].
    #[getter]
    fn offsets<'py>(&self, py: Python<'py>) -> Vector<'py, i64> {
        self.0.offsets().to_vec().into_pyarray(py)
    }

    /// The items of some contexts, by their numbers, and where each starts.
    fn read<'py>(
        &self,
        py: Python<'py>,
        numbers: PyReadonlyArray1<'py, i64>,
    ) -> PyResult<(Vector<'py, i32>, Vector<'py, i64>)> {
        let numbers = contiguous("numbers", numbers.as_slice())?;
        let (items, offsets) = without_gil(py, || self.0.read(numbers))?;
        Ok((items.into_pyarray(py), offsets.into_pyarray(py)))
    }

    /// How many contexts of each item are drawn, 1 to most, and their numbers.
    fn draw<'py>(
        &self,
        py: Python<'py>,
        items: PyReadonlyArray1<'py, i64>,
        most: u32,
        seed: u64,
        epoch: u64,
    ) -> PyResult<(Vector<'py, i64>, Vector<'py, i64>)> {
        let items = contiguous("items", items.as_slice())?;
        let (counts, numbers) = without_gil(py, || self.0.draw(items, most, seed, epoch))?;
        Ok((counts.into_pyarray(py), numbers.into_pyarray(py)))
    }

    /// The contexts of wanted items in the sequences of some users, as tokens of few sequences.
    #[allow(clippy::type_complexity)]
    fn pass_over<'py>(
        &self,
        py: Python<'py>,
        first: usize,
        last: usize,
        wanted: PyReadonlyArray1<'py, bool>,
    ) -> PyResult<(
        Vector<'py, i32>,
        Vector<'py, i64>,
        Vector<'py, i64>,
        Vector<'py, i64>,
    )> {
        let wanted = contiguous("wanted", wanted.as_slice())?;
        let pass = without_gil(py, || self.0.pass(first, last, wanted))?;
        Ok((
            pass.items.into_pyarray(py),
            pass.offsets.into_pyarray(py),
            pass.tokens.into_pyarray(py),
            pass.owners.into_pyarray(py),
        ))
    }
}

/// How many of its newest items each user shows, 1 to most.
#[pyfunction]
fn recent_cuts<'py>(
    py: Python<'py>,
    users: PyReadonlyArray1<'py, i64>,
    most: u32,
    seed: u64,
    epoch: u64,
) -> PyResult<Vector<'py, i64>> {
    let users = contiguous("users", users.as_slice())?;
    let drawn = without_gil(py, || draw_cuts(users, most, seed, epoch))?;
    Ok(drawn.into_pyarray(py))
}

/// Members in an order of their own for each owner and epoch; owner 0's is that of an epoch's students.
#[pyfunction]
fn shuffled<'py>(
    py: Python<'py>,
    members: PyReadonlyArray1<'py, i64>,
    owner: u64,
    seed: u64,
    epoch: u64,
) -> PyResult<Vector<'py, i64>> {
    let members = contiguous("members", members.as_slice())?;
    let n = u32::try_from(members.len())
        .map_err(|_| to_py(Error::argument("members", "more than 32 bits can number")))?;
    let order = without_gil(py, || Ok(permutation_of(seed, epoch, owner, n)))?;
    let ordered: Vec<i64> = order.iter().map(|&at| members[at as usize]).collect();
    Ok(ordered.into_pyarray(py))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyContexts>()?;
    module.add_function(wrap_pyfunction!(recent_cuts, module)?)?;
    module.add_function(wrap_pyfunction!(shuffled, module)?)
}
