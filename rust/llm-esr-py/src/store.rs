//! Bindings of the sequence store.

use std::path::PathBuf;
use std::sync::Arc;

use llm_esr_core::candidates::sample;
use llm_esr_core::store::Store;
use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, ToPyArray};
use pyo3::prelude::*;

use crate::conversion::without_gil;

/// A data folder's interactions, memory-mapped, checked and shareable.
#[pyclass(frozen, module = "llm_esr._native")]
pub struct SequenceStore {
    pub store: Arc<Store>,
    pub folder: PathBuf,
}

#[pymethods]
impl SequenceStore {
    #[new]
    fn new(py: Python<'_>, folder: PathBuf, n_items: usize) -> PyResult<Self> {
        let store = without_gil(py, || Store::open(&folder, n_items))?;
        Ok(Self {
            store: Arc::new(store),
            folder,
        })
    }

    /// U.
    #[getter]
    fn n_users(&self) -> usize {
        self.store.n_users()
    }

    /// I.
    #[getter]
    fn n_items(&self) -> usize {
        self.store.n_items()
    }

    /// How often each id was met in training, uint32 [I + 1].
    fn training_counts<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<u32>> {
        self.store.training_counts().to_pyarray(py)
    }
}

/// Distinct items that users never met, int32 [B, n], to rank a target of `split` (1 validation, 2 test) against.
#[pyfunction]
fn sample_candidates<'py>(
    py: Python<'py>,
    store: &SequenceStore,
    users: PyReadonlyArray1<'py, i64>,
    split: u64,
    n: usize,
    seed: u64,
) -> PyResult<Bound<'py, PyArray2<i32>>> {
    let users = users.as_slice()?;
    let drawn = without_gil(py, || sample(&store.store, users, split, n, seed))?;
    drawn.into_pyarray(py).reshape([users.len(), n])
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<SequenceStore>()?;
    module.add_function(wrap_pyfunction!(sample_candidates, module)?)
}
